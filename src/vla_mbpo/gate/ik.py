"""Joint targets for a tool pose (mink differential IK)."""

from typing import Any

import mink
import mujoco
import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.errors import require
from vla_mbpo.core.robot import RobotSpec


class ToolIK:
    """Turns tool poses into joint positions. One thread.

    The posture term picks one elbow configuration per tool pose, so the map from tool to joints stays a function
    (a policy can only learn a function).
    """

    def __init__(self, spec: RobotSpec, start: NDArray[np.float64]) -> None:
        world = mujoco.MjSpec.from_file(str(spec.urdf))
        for equality in list(world.equalities):  # the fingers' mimic joint
            _remove(world, equality)
        for joint in spec.gripper_joints:
            _remove(world, world.joint(joint))
        self._model = world.compile()
        names = tuple(self._model.joint(i).name for i in range(self._model.njnt))
        require(names == spec.joints, "joints", spec.joints, f"in the order of the URDF: {', '.join(names)}")
        self._configuration = mink.Configuration(self._model)
        self._tool = mink.FrameTask(spec.tool_link, "body", position_cost=1.0, orientation_cost=0.3)
        self._posture = mink.PostureTask(self._model, cost=0.002)
        self._configuration.update(np.array(spec.home))
        self._posture.set_target_from_configuration(self._configuration)
        self._down = self._configuration.get_transform_frame_to_world(spec.tool_link, "body").rotation()
        self._limits = [mink.ConfigurationLimit(self._model)]
        self._frame = spec.tool_link
        self._configuration.update(start.copy())

    def tool(self) -> NDArray[np.float64]:
        """Tool position of the current solution [m]."""
        return self.pose().translation()

    def pose(self) -> mink.SE3:
        """Tool pose of the current solution, base frame."""
        return self._configuration.get_transform_frame_to_world(self._frame, "body")

    def twist(self, velocities: NDArray[np.float64]) -> NDArray[np.float64]:
        """Velocity of the tool [m/s, rad/s], base frame, (6,), for joint ``velocities`` (n,) [rad/s]."""
        body = self._configuration.get_frame_jacobian(self._frame, "body") @ velocities
        rotation = self.pose().rotation().as_matrix()
        return np.r_[rotation @ body[:3], rotation @ body[3:]]

    def reset(self, joints: NDArray[np.float64], posture: bool = False) -> None:
        """Start the next solution from ``joints`` [rad]; with ``posture`` stay near them where the tool leaves room."""
        self._configuration.update(joints.copy())
        if posture:
            self._posture.set_target_from_configuration(self._configuration)

    def solve(self, position: NDArray[np.float64], iterations: int = 3) -> NDArray[np.float64]:
        """Joint positions (n,) [rad] that bring the tool to ``position`` [m], pointing down with its home heading."""
        return self.reach(mink.SE3.from_rotation_and_translation(self._down, position), iterations)

    def reach(self, target: mink.SE3, iterations: int = 3) -> NDArray[np.float64]:
        """Joint positions (n,) [rad] that bring the tool to ``target``, base frame, or as near as limits allow."""
        self._tool.set_target(target)
        for _ in range(iterations):
            velocity = mink.solve_ik(
                self._configuration, [self._tool, self._posture], 1.0, "daqp", damping=1e-4, limits=self._limits
            )
            self._configuration.integrate_inplace(velocity, 1.0)
        return self._configuration.q.copy()


def _remove(world: mujoco.MjSpec, element: Any) -> None:
    """Take an element out of a specification, whichever of both ways this version of MuJoCo has."""
    world.delete(element) if hasattr(world, "delete") else element.delete()
