"""The simulated arm: physics, trajectory controller and gripper on one clock."""

import copy

import mujoco
import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.state import RobotState, Trajectory
from vla_mbpo.sim.controller import TrajectoryController
from vla_mbpo.sim.referee import Referee, Status
from vla_mbpo.sim.scene import STEP_NS, Scene

CONTROL_NS = 2 * STEP_NS  # the controller's update period
JUDGE_NS = 10_000_000  # the referee's


class SimRobot:
    """One arm in one scene. Not thread-safe: one thread owns it.

    Nothing here reads a wall clock: time moves only in ``advance``, so the same calls give the same result on any
    machine (lockstep); a node that calls it along with a clock makes it run in real time.
    """

    def __init__(self, spec: RobotSpec, scene: Scene, now: int = 0) -> None:
        """``now``: clock at the start [ns]."""
        self.spec, self.scene = spec, scene
        self.data = mujoco.MjData(scene.model)
        self.data.qpos[:] = scene.qpos0
        joints = [scene.model.joint(name) for name in spec.joints]
        fingers = [scene.model.joint(name) for name in spec.gripper_joints]
        self._q = np.array([j.qposadr[0] for j in joints])
        self._v = np.array([j.dofadr[0] for j in joints])
        self._finger_q = np.array([j.qposadr[0] for j in fingers])
        self._servo = np.array([scene.model.actuator(name).id for name in spec.joints])
        self._finger_servo = np.array([scene.model.actuator(name).id for name in spec.gripper_joints])
        self._start = self._time = now
        self._opening = self._opening_target = spec.gripper_range[1]
        self._controller = TrajectoryController(spec.joints, self.data.qpos[self._q])
        mujoco.mj_forward(scene.model, self.data)
        self.referee = Referee(scene, spec, self.data)

    def branch(self) -> "SimRobot":
        """Another arm in the same state, to try what would come of something; this one does not notice."""
        made = copy.copy(self)
        made.data = copy.copy(self.data)
        made._controller = copy.deepcopy(self._controller)
        made.referee = self.referee.branch(made.data)
        return made

    @property
    def time(self) -> int:
        """Clock [ns]."""
        return self._time

    @property
    def qpos(self) -> NDArray[np.float64]:
        """Copy of the generalised positions of the whole scene."""
        return self.data.qpos.copy()

    def state(self) -> RobotState:
        """Measured state of the arm now."""
        opening = float(self.data.qpos[self._finger_q].sum())
        return RobotState(self._time, self.data.qpos[self._q].copy(), self.data.qvel[self._v].copy(), opening)

    def accept(self, trajectory: Trajectory) -> str | None:
        """Take a trajectory; None, or why the controller rejected it."""
        return self._controller.accept(trajectory, self._time)

    @property
    def rest(self) -> float:
        """Time since the last trajectory ended [s]; below 0 while one is active."""
        return (self._time - self._controller.end) / 1e9

    def command_gripper(self, opening: float) -> None:
        """Move the fingers towards ``opening`` [m] at the gripper's speed; outside the range it is refused."""
        self.spec.check_opening(opening)
        self._opening_target = opening

    def advance(self, until: int) -> None:
        """Run physics until the clock reads ``until`` [ns] or up to one step less."""
        model, data = self.scene.model, self.data
        reach = self.spec.gripper_speed * CONTROL_NS / 1e9
        while self._time + STEP_NS <= until:
            if (self._time - self._start) % CONTROL_NS == 0:
                data.ctrl[self._servo] = self._controller.sample(self._time)[0]
                self._opening += float(np.clip(self._opening_target - self._opening, -reach, reach))
                data.ctrl[self._finger_servo] = self._opening / len(self._finger_servo)
            mujoco.mj_step(model, data)
            self._time += STEP_NS
            if (self._time - self._start) % JUDGE_NS == 0:
                self.referee.update()

    def set_point(self) -> NDArray[np.float64]:
        """Joint positions the controller asks for now [rad]."""
        return self._controller.sample(self._time)[0]

    def status(self) -> Status:
        """Ground truth of the attempt."""
        scene, referee = self.scene, self.referee
        return Status(
            task=scene.task.name,
            instruction=scene.instruction,
            seed=scene.seed,
            success=referee.success,
            failed=referee.failed(),
            progress=referee.progress(),
            cost_events=tuple(referee.events),
            elapsed=(self._time - self._start) / 1e9,
        )
