"""Action chunks: rows of joint targets, each with a due time."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


class ActionType(IntEnum):
    """Meaning of a chunk's rows. Values equal ActionChunk.msg."""

    JOINT_POSITION = 0
    JOINT_DELTA = 1
    CARTESIAN_DELTA = 2
    TWIST = 3


@dataclass(frozen=True)
class ActionChunk:
    """One candidate plan. Row k is due (to be reached) at observation_stamp + (k + 1) * row_period.

    All times are int nanoseconds of one clock (ROS time). Arrays are read-only.

    Attributes:
        chunk_set_id: id of the inference the chunk belongs to.
        candidate: index among the K candidates.
        observation_stamp: stamp of the observation [ns].
        expiry: not to be accepted after this time [ns].
        action_type: meaning of ``positions``.
        joint_names: names, in column order.
        reference: measured joint positions at observation time [rad], shape (n,).
        row_period: time between rows [ns].
        positions: shape (H, n) [rad] for the joint types.
        gripper: absolute opening [m], shape (H,), or (0,) for no gripper command.
        committed_rows: leading rows that repeat what was already committed.
    """

    chunk_set_id: int
    candidate: int
    observation_stamp: int
    expiry: int
    action_type: ActionType
    joint_names: tuple[str, ...]
    reference: FloatArray
    row_period: int
    positions: FloatArray
    gripper: FloatArray
    committed_rows: int = 0

    def __post_init__(self) -> None:
        for array in (self.reference, self.positions, self.gripper):
            array.setflags(write=False)

    @property
    def horizon(self) -> int:
        """Number of rows."""
        return len(self.positions)

    def due(self, row: int) -> int:
        """Time at which ``row`` is to be reached [ns]."""
        return self.observation_stamp + (row + 1) * self.row_period


@dataclass(frozen=True)
class JointRows:
    """Rows as absolute joint positions with due times: what the gate approves and the arm driver executes.

    Attributes: as ActionChunk; ``positions`` (H, n) absolute [rad]; ``gripper`` (H,) [m] or (0,);
    ``epoch``: gate epoch under which the rows were approved; ``teleop``: a person's rows, made from the set point at
    ``observation_stamp``, so that they may join a motion that is being stopped.
    """

    chunk_set_id: int
    candidate: int
    observation_stamp: int
    expiry: int
    joint_names: tuple[str, ...]
    row_period: int
    positions: FloatArray
    gripper: FloatArray
    committed_rows: int = 0
    epoch: int = 0
    teleop: bool = False

    def due(self, row: int) -> int:
        """Time at which ``row`` is to be reached [ns]."""
        return self.observation_stamp + (row + 1) * self.row_period
