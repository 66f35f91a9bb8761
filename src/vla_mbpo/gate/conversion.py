"""Every action type becomes joint rows, so that one set of checks serves all types."""

from collections.abc import Callable

import mink
import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.chunk import ActionChunk, ActionType
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.gate.ik import ToolIK

FloatArray = NDArray[np.float64]
CARTESIAN = (ActionType.CARTESIAN_DELTA, ActionType.TWIST)
WIDTH = 6  # columns of a Cartesian row: three of translation, three of rotation


class Converter:
    """Rows of a chunk as absolute joint positions. Holds the state of the inverse kinematics: one thread."""

    def __init__(self, spec: RobotSpec, kinds: tuple[ActionType, ...]) -> None:
        """``kinds``: types that are to be converted; inverse kinematics is loaded only if one of them needs it."""
        self._ik = ToolIK(spec, spec.home) if set(kinds) & set(CARTESIAN) else None

    def rows(self, chunk: ActionChunk) -> FloatArray:
        """Absolute joint positions [rad], (H, n), of a chunk whose layout and numbers have been checked.

        Cartesian rows are followed by differential inverse kinematics from the reference, which stays as close as it
        can; whether it got there is for the check ``reach`` to say.
        """
        if chunk.action_type not in CARTESIAN:
            return _JOINTS[chunk.action_type](chunk)
        assert self._ik is not None
        self._ik.reset(chunk.reference, posture=True)
        return np.array([self._ik.reach(pose) for pose in tool_poses(chunk, self._ik.pose())])


def tool_poses(chunk: ActionChunk, start: mink.SE3) -> list[mink.SE3]:
    """Tool poses that Cartesian rows ask for, base frame, H of them.

    Args:
        chunk: CARTESIAN_DELTA: translation [m] and rotation vector [rad] relative to ``start``, in its frame. TWIST:
            velocities [m/s, rad/s] in the base frame, each held for a row period.
        start: tool pose at the reference.
    """
    poses, pose, period = [], start, chunk.row_period / 1e9
    for row in chunk.positions:
        if chunk.action_type == ActionType.CARTESIAN_DELTA:
            pose = start @ _pose(row[:3], mink.SO3.exp(row[3:]))
        else:
            turn = mink.SO3.exp(row[3:] * period)
            pose = _pose(pose.translation() + row[:3] * period, turn @ pose.rotation())
        poses.append(pose)
    return poses


def _pose(translation: FloatArray, rotation: mink.SO3) -> mink.SE3:
    return mink.SE3.from_rotation_and_translation(rotation, translation)


def _absolute(chunk: ActionChunk) -> FloatArray:
    return chunk.positions


def _delta(chunk: ActionChunk) -> FloatArray:
    return chunk.positions + chunk.reference


_JOINTS: dict[ActionType, Callable[[ActionChunk], FloatArray]] = {
    ActionType.JOINT_POSITION: _absolute,
    ActionType.JOINT_DELTA: _delta,
}
CONVERTIBLE = (*_JOINTS, *CARTESIAN)
