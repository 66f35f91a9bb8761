"""What a check is, and what it may look at."""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.chunk import ActionChunk
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.state import RobotState
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.config import GateConfig
from vla_mbpo.gate.kinematics import Kinematics

FloatArray = NDArray[np.float64]


class Stage(IntEnum):
    """Order of the checks. A stage runs only if all earlier ones passed, so later checks may rely on them."""

    FORMAT = 0  # names, shapes
    VALUES = 1  # finite numbers, stamps, measured state; ``rows`` are not yet absolute positions here
    ROWS = 2  # joint rows against limits and against the measured pose
    GEOMETRY = 3  # forward kinematics


@dataclass
class Context:
    """What a chunk is judged against. One per judgement.

    Attributes:
        spec: limits of the robot.
        config: thresholds of the checks.
        kinematics: shared by the checks; read it through ``placed``.
        state: measured state.
        commanded: set point of the arm driver at ``now`` [rad], (n,), or None before the first motion.
        now: [ns].
    """

    spec: RobotSpec
    config: GateConfig
    kinematics: Kinematics
    state: RobotState
    commanded: FloatArray | None
    now: int
    _placed: bool = field(default=False, repr=False)

    def placed(self, rows: FloatArray) -> Kinematics:
        """Kinematics with ``rows`` (H, n) and the points halfway between them placed, (2 H - 1) in all.

        A fast arm moves several centimetres from row to row, so the way between is looked at too.
        """
        if not self._placed:
            path = np.empty((2 * len(rows) - 1, rows.shape[1]))
            path[::2] = rows
            path[1::2] = 0.5 * (rows[:-1] + rows[1:])
            self.kinematics.place(path)
            self._placed = True
        return self.kinematics

    @property
    def anchor(self) -> FloatArray:
        """Where the arm is commanded to be, or is, if nothing has been commanded [rad], (n,)."""
        return self.state.positions if self.commanded is None else self.commanded

    def first_to_come(self, chunk: ActionChunk) -> int:
        """Index of the first row due after now; the horizon if there is none."""
        return int(np.clip((self.now - chunk.observation_stamp) // chunk.row_period, 0, chunk.horizon))


class Check(Protocol):
    """One rule. Stateless: the same chunk and context give the same answer."""

    name: ClassVar[str]
    stage: ClassVar[Stage]

    def __call__(self, chunk: ActionChunk, rows: FloatArray, context: Context) -> Reason | None:
        """Why the chunk is refused, or None.

        Args:
            chunk: as it arrived.
            rows: absolute joint positions [rad], (H, n), from stage ROWS on.
            context: see Context.
        """


def row_of(path_index: int) -> int:
    """Row of the chunk that a point of ``Context.placed`` belongs to: halfway points count to the row they lead to."""
    return (path_index + 1) // 2


def worst(value: FloatArray, limit: FloatArray) -> tuple[int, int] | None:
    """Row and column where ``value`` (H, m) exceeds ``limit`` (m,) first, or None.

    Written so that NaN counts as exceeding.
    """
    bad = ~(value <= limit)
    if not bad.any():
        return None
    row = int(np.argmax(bad.any(axis=1)))
    column = int(np.argmax(np.where(bad[row], np.nan_to_num(value[row] - limit, nan=np.inf), -np.inf)))
    return row, column


def exceeds(
    name: str, row: int, value: FloatArray, limit: FloatArray, context: Context, note: str = ""
) -> Reason | None:
    """Reason for the joint that exceeds its limit most, value and limit (n,) [rad]; NaN exceeds every limit."""
    if (value <= limit).all():
        return None
    joint = int(np.argmax(np.nan_to_num(value - limit, nan=np.inf)))
    return Reason(name, row, context.spec.joints[joint], float(value[joint]), float(limit[joint]), note)


def too_fast(
    name: str, order: int, rows: FloatArray, limit: FloatArray, chunk: ActionChunk, context: Context
) -> Reason | None:
    """Reason for the first joint whose ``order``-th difference of the rows over time exceeds ``limit`` (n,)."""
    change = np.abs(np.diff(rows, n=order, axis=0)) / (chunk.row_period / 1e9) ** order
    found = worst(change, limit)
    if found is None:
        return None
    row, joint = found
    return Reason(name, row + order, context.spec.joints[joint], float(change[found]), float(limit[joint]))


def too_close(name: str, clearance: FloatArray, margin: float, pairs: tuple[tuple[str, str], ...]) -> Reason | None:
    """Reason for the first pair whose ``clearance`` (points of the path, pairs) [m] is below ``margin``.

    At a cutoff of the margin the distance is the margin itself, which is not closer than the margin.
    """
    found = worst(-clearance, np.full(clearance.shape[1], -margin))
    if found is None:
        return None
    index, pair = found
    return Reason(name, row_of(index), " and ".join(pairs[pair]), float(clearance[found]), margin)
