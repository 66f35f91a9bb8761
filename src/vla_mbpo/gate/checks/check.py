"""What a check is, and what it may look at."""

from collections.abc import Callable, Sequence
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
IntArray = NDArray[np.int64]

REACH = 1.0  # m; how far from a joint's axis the arm may be: what a radian of the joint moves
SWEEP = 0.05  # m; farther the arm does not move between two points that are looked at ...
MAX_PIECES = 8  # ... unless it moves faster than a chunk of use does
TINY = 1e-9  # s
DRIVEN = 1.05  # times the limits of speed: what is driven may catch up with the rows
BRAKE_SHARE = 0.9  # of the acceleration limits, as arm/smoother.py uses them
OUTSIDE_SLACK = 0.002  # m; how much farther out than the arm is already a chunk that leads back may go


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
        age: of the chunk's observation at ``now`` [s]: row k is due ``age`` earlier than (k + 1) row periods from now.
        drive: what the arm driver makes of absolute rows, one point per tick (T, n) [rad]; None: nothing but the rows.
        tick: of that [s].
        arms: joints of each arm where there are several, each of which brakes by itself; empty: one.
    """

    spec: RobotSpec
    config: GateConfig
    kinematics: Kinematics
    state: RobotState
    commanded: FloatArray | None
    now: int
    age: float = 0.0
    drive: Callable[[FloatArray], FloatArray] | None = None
    tick: float = 0.02
    arms: tuple[int, ...] = ()
    _rows: IntArray | None = field(default=None, repr=False)
    _owner: IntArray | None = field(default=None, repr=False)
    _driven: FloatArray | None = field(default=None, repr=False)
    _ticks: IntArray = field(default_factory=lambda: np.zeros(0, np.int64), repr=False)

    def placed(self, rows: FloatArray) -> Kinematics:
        """Kinematics with a path through ``rows`` (H, n), the brake after the last row, what is driven and the anchor.

        A fast arm moves several centimetres from row to row, so the way between is looked at too: as many points
        between two rows as it takes for no part of the arm to move farther than about SWEEP from point to point. And
        when no further rows come, it needs some way to stop. What the driver makes of the rows is another way, where
        they ask more of a joint than it has.
        """
        if self._rows is None:
            path, self._rows = _path(rows)
            brake, driven = _brake(rows, self.spec, self.arms or (rows.shape[1],)), self.driven(rows)
            self._ticks = _thinned(driven)
            last, near = len(rows) - 1, self.row_at(self._ticks, len(rows))
            self._owner = np.concatenate([self._rows, np.full(len(brake), last), near])
            self.kinematics.place(np.vstack([path, brake, driven[self._ticks], self.anchor[None]]))
        return self.kinematics

    def driven(self, rows: FloatArray) -> FloatArray:
        """What the driver makes of ``rows``: (T, n) [rad], one point per tick from the set point on."""
        if self._driven is None:
            self._driven = self.drive(rows) if self.drive is not None else rows[:0]
        return self._driven

    def row_at(self, ticks: IntArray, rows: int) -> IntArray:
        """Of so many ``rows`` those that are under way ``ticks`` of the driver after ``now``."""
        at = (self.age + ticks * self.tick) / (self.spec.row_period / 1e9)
        return np.clip(at, 0, rows - 1).astype(np.int64)

    def row_of(self, point: int) -> int:
        """Row that a placed point belongs to: those between two rows count to the one they lead to.

        Of what is driven it is about the row that is due then.
        """
        assert self._owner is not None
        return int(self._owner[min(point, len(self._owner) - 1)])

    def note(self, point: int) -> str:
        """For the reason: whether a placed point is one of the rows or of what is driven."""
        assert self._owner is not None
        return "as it is driven" if point >= len(self._owner) - len(self._ticks) else ""

    @property
    def driven_points(self) -> tuple[slice, FloatArray]:
        """Which placed points are driven ones, and when each is reached [s]."""
        assert self._owner is not None
        return slice(len(self._owner) - len(self._ticks), len(self._owner)), (self._ticks * self.tick).astype(
            np.float64
        )

    @property
    def points(self) -> int:
        """Number of placed points that belong to the path through the rows; brake and anchor come after them."""
        assert self._rows is not None
        return len(self._rows)

    def beyond(self, excess: FloatArray, solid: float = np.inf) -> tuple[int, int] | None:
        """First placed point and column where a limit of the arm's place is broken, or None.

        The driver's curve is not exactly the rows, so the arm can come to rest just outside. What leads back is let
        pass then, or the arm could never leave: at most OUTSIDE_SLACK farther out than the anchor, and at the last row
        less than half as far.

        Args:
            excess: how far each placed point is beyond each limit [m], (points, m); NaN is beyond.
            solid: excess at which the arm touches something [m]. With OUTSIDE_SLACK no more than half of it is used.
        """
        if (excess[:-1] <= 0.0).all():
            return None
        anchor, end = excess[-1], excess[self.points - 1]
        limit = np.maximum(np.minimum(anchor + OUTSIDE_SLACK, 0.5 * solid), np.minimum(anchor, solid))
        return worst(excess[:-1], np.where((anchor > 0) & (end < 0.5 * anchor), limit, 0.0))

    @property
    def at_rows(self) -> IntArray:
        """Indices of the path's points that are rows, (H,)."""
        assert self._rows is not None
        return np.flatnonzero(np.r_[self._rows[1:] != self._rows[:-1], True])

    @property
    def shares(self) -> FloatArray:
        """Share of a row period that each piece of the path takes, (points - 1,)."""
        assert self._rows is not None
        return (1.0 / np.bincount(self._rows))[self._rows[1:]]

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


def _path(rows: FloatArray) -> tuple[FloatArray, IntArray]:
    """Points (P, n) on straight lines through ``rows`` (H, n), each row among them, and the row each belongs to."""
    step = np.diff(rows, axis=0)
    pieces = np.clip(np.ceil(np.abs(step).sum(axis=1) * REACH / SWEEP), 1, MAX_PIECES).astype(np.int64)
    if (pieces == 1).all():
        return rows, np.arange(len(rows))
    leads_to = np.repeat(np.arange(1, len(rows)), pieces)
    end = np.cumsum(pieces)
    share = (np.arange(1, end[-1] + 1) - np.repeat(end - pieces, pieces)) / np.repeat(pieces, pieces)
    points = rows[leads_to - 1] + share[:, None] * step[leads_to - 1]
    points[end - 1] = rows[1:]
    return np.vstack([rows[:1], points]), np.r_[0, leads_to]


def _thinned(driven: FloatArray) -> IntArray:
    """Which of the points (T, n) to look at: from one to the next nothing moves farther than about half of SWEEP."""
    if not len(driven):
        return np.zeros(0, np.int64)
    way = np.concatenate([[0.0], np.abs(np.diff(driven, axis=0)).sum(1).cumsum()]) * REACH
    chosen = np.flatnonzero(np.diff(np.floor(way / (0.5 * SWEEP)), prepend=-1.0) > 0)
    return np.union1d(chosen, [len(driven) - 1])


def _brake(rows: FloatArray, spec: RobotSpec, arms: Sequence[int]) -> FloatArray:
    """Poses (B, n) on the way that the arm needs to stop after the last of ``rows``; (0, n) when it is short.

    All joints of an arm stop at the same time, as its driver has them do it; ``arms``: how many joints each has. The
    velocity is the faster one of the last row period and the last two.
    """
    back = min(2, len(rows) - 1)
    if not back:
        return rows[:0]
    period = spec.row_period / 1e9
    last, mean = (rows[-1] - rows[-2]) / period, (rows[-1] - rows[-1 - back]) / (back * period)
    velocity = np.where(np.abs(last) > np.abs(mean), last, mean)
    each = np.abs(velocity) / (BRAKE_SHARE * spec.acceleration)
    duration = np.concatenate([np.full(arm, part.max()) for arm, part in zip(arms, _split(each, arms), strict=True)])
    longest = duration.max()
    if 0.5 * np.abs(velocity).sum() * longest * REACH < 0.5 * SWEEP:
        return rows[:0]
    times = np.minimum(np.linspace(0.0, 1.0, 4 * len(arms) + 1)[1:, None] * longest, duration)
    way = velocity * (times - 0.5 * times**2 / np.maximum(duration, TINY))
    return np.clip(rows[-1] + way, spec.lower, spec.upper)


def _split(joints: FloatArray, arms: Sequence[int]) -> list[FloatArray]:
    return np.split(joints, np.cumsum(arms)[:-1])


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


def too_close(
    name: str, clearance: FloatArray, margin: float, things: Sequence[tuple[str, ...]], context: Context
) -> Reason | None:
    """Reason for the first of ``things`` (m,) whose ``clearance`` (points, m) [m] is below ``margin``.

    At a cutoff of the margin the distance is the margin itself, which is not closer than the margin.
    """
    found = context.beyond(margin - clearance, margin)
    if found is None:
        return None
    index, thing = found
    what = " and ".join(things[thing])
    return Reason(name, context.row_of(index), what, float(clearance[found]), margin, context.note(index))
