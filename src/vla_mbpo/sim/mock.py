"""An arm without physics, in place of ros2_control and its hardware: it is where its controller has it be."""

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.state import RobotState, Trajectory
from vla_mbpo.sim.controller import TrajectoryController

FloatArray = NDArray[np.float64]


class MockArm:
    """Starts at home with the gripper open. One thread; time moves only in ``advance``.

    Attributes:
        held_back: steps in which a joint was commanded faster than its limit and did not follow.
    """

    def __init__(self, spec: RobotSpec, now: int) -> None:
        """``now``: clock at the start [ns]."""
        self._spec, self._time = spec, now
        self._controller = TrajectoryController(spec.joints, spec.home)
        self._q, self._v = spec.home.copy(), np.zeros(len(spec.joints))
        self._opening = self._target = spec.gripper_range[1]
        self.held_back = 0

    @property
    def time(self) -> int:
        """Clock [ns]."""
        return self._time

    def accept(self, trajectory: Trajectory) -> str | None:
        """Take a trajectory of any order of joints; None, or why it was rejected: also beyond the position limits."""
        spec = self._spec
        if sorted(trajectory.joint_names) == sorted(spec.joints) and trajectory.positions.size:
            order = [trajectory.joint_names.index(name) for name in spec.joints]
            q = trajectory.positions[:, order]
            beyond = np.maximum(q - spec.upper, spec.lower - q).max(axis=0)
            joint = int(np.argmax(beyond))
            if beyond[joint] > 1e-6:
                return f"positions: {spec.joints[joint]} is commanded {beyond[joint]:.3f} rad beyond its limit"
        return self._controller.accept(trajectory, self._time)

    def command_gripper(self, opening: float) -> None:
        """Move the gripper towards ``opening`` [m] at its speed. Raises ValueError outside its range."""
        self._spec.check_opening(opening)
        self._target = opening

    def advance(self, until: int) -> None:
        """Follow the controller until ``until`` [ns], no joint and no finger faster than its limit."""
        seconds = (until - self._time) / 1e9
        if seconds <= 0:
            return
        self._time = until
        reach = self._spec.velocity * seconds
        step = self._controller.sample(until)[0] - self._q
        self.held_back += bool((np.abs(step) > reach * 1.01 + 1e-9).any())
        step = np.clip(step, -reach, reach)
        self._q, self._v = self._q + step, step / seconds
        way = self._spec.gripper_speed * seconds
        self._opening += float(np.clip(self._target - self._opening, -way, way))

    def state(self) -> RobotState:
        """Where the arm is now."""
        return RobotState(self._time, self._q.copy(), self._v.copy(), self._opening)
