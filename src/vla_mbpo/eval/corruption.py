"""Bad inferences on purpose: eight ways to corrupt the chunks of one set, on a schedule of their own.

The policy writes the committed rows itself (policy/runtime.py), so only the rows after them are corrupted; a chunk that
is offset as a whole, or that bears an old stamp, is refused by the driver without the gate. The network's output are
offsets from the reference, so that is what ``stale`` and ``swap`` mix up: the wrong rows then begin near the arm.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import mink
import numpy as np

from vla_mbpo.core.chunk import ActionChunk
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.ik import ToolIK

SPIKE, JUMP, RUNAWAY = 0.5, 0.4, 3.0  # rad, rad, factor
STALE_SETS = 5  # chunk sets, 2 s at 8 rows from one to the next
EXECUTED = 8  # rows after the committed ones that are executed before the next chunk arrives
FALL, SPEED = 4.0, 1.0  # m/s^2, m/s of a plunging tool
JOINT_SPEED = 0.9  # share of the joint velocity limits a plunge uses


@dataclass
class Case:
    """One chunk to be corrupted; ``older`` is the same candidate about 2 s ago, or the oldest there is."""

    chunk: ActionChunk
    older: ActionChunk | None
    spec: RobotSpec
    ik: ToolIK
    rng: np.random.Generator

    def __post_init__(self) -> None:
        self.rows, self.gripper = self.chunk.positions.copy(), self.chunk.gripper.copy()
        self.new = slice(self.chunk.committed_rows, None)
        self.output = self.rows[self.new] - self.chunk.reference
        self.row = self.chunk.committed_rows + int(self.rng.integers(min(EXECUTED, len(self.output))))

    def _offset(self, rows: slice, size: float) -> None:
        # To a side that stays inside the position limits, if there is one.
        joint = int(self.rng.integers(len(self.spec.joints)))
        column = self.rows[rows, joint]
        room = {1.0: self.spec.upper[joint] - column.max(), -1.0: column.min() - self.spec.lower[joint]}
        column += size * self.rng.choice([side for side in room if room[side] >= size] or [1.0])

    def not_a_number(self) -> None:
        """NaN in one row."""
        self.rows[self.row] = np.nan

    def spike(self) -> None:
        """One row of one joint is far from its neighbours."""
        self._offset(slice(self.row, self.row + 1), SPIKE)

    def jump(self) -> None:
        """All new rows of one joint are offset: a step at the seam."""
        self._offset(self.new, JUMP)

    def runaway(self) -> None:
        """Rows too far from the reference by a factor, as from a wrong scale of the network's output."""
        self.rows[self.new] = self.chunk.reference + RUNAWAY * self.output

    def stale(self) -> None:
        """The output of about 2 s ago, under a new stamp. The first set of an attempt has no older one and stays."""
        if self.older is not None:
            self.rows[self.new] += (self.older.positions - self.older.reference)[self.new] - self.output
            self.gripper[self.new] = self.older.gripper[self.new]

    def reverse(self) -> None:
        """New rows in reversed order."""
        self.rows[self.new] = self.chunk.positions[self.new][::-1]
        self.gripper[self.new] = self.chunk.gripper[self.new][::-1]

    def swap(self) -> None:
        """Two joints change places."""
        a, b = self.rng.choice(len(self.spec.joints), 2, replace=False)
        self.rows[self.new][:, [a, b]] = self.chunk.reference[[a, b]] + self.output[:, [b, a]]

    def plunge(self) -> None:
        """The tool goes straight down, smoothly, through whatever is there."""
        d, ik, period = self.chunk.committed_rows, self.ik, self.chunk.row_period / 1e9
        last = self.rows[d - 1] if d else self.chunk.reference
        ik.reset(last, posture=True)
        start, reach = ik.pose(), JOINT_SPEED * self.spec.velocity * period
        for k in range(d, len(self.rows)):
            time, ramp = (k - d + 1) * period, SPEED / FALL
            fall = 0.5 * FALL * min(time, ramp) ** 2 + SPEED * max(0.0, time - ramp)
            wanted = mink.SE3.from_rotation_and_translation(start.rotation(), start.translation() - [0.0, 0.0, fall])
            last = self.rows[k] = np.clip(ik.reach(wanted), last - reach, last + reach)

    def corrupted(self, way: str) -> ActionChunk:
        """The chunk, corrupted in one of WAYS."""
        WAYS[way](self)
        return replace(self.chunk, positions=self.rows, gripper=self.gripper)


_WAYS = (Case.not_a_number, Case.spike, Case.jump, Case.runaway, Case.stale, Case.reverse, Case.swap, Case.plunge)
WAYS: dict[str, Callable[[Case], None]] = {way.__name__: way for way in _WAYS}


class Corruption:
    """Corrupts a share of an attempt's chunk sets. The schedule depends on ``seed`` alone.

    Attributes:
        log: one entry per corrupted set: time [s], way, checks of the gate that refused a candidate, whether one went
            to the driver, and the driver's own reasons to refuse that one.
    """

    def __init__(self, spec: RobotSpec, seed: int, share: float) -> None:
        self._spec, self._share = spec, share
        self._rng = np.random.default_rng([seed, 2])
        self._past: deque[Sequence[ActionChunk]] = deque(maxlen=STALE_SETS)
        self._current: dict[str, Any] | None = None
        self.log: list[dict[str, Any]] = []

    @cached_property
    def _ik(self) -> ToolIK:
        return ToolIK(self._spec, self._spec.home)

    def apply(self, chunks: list[ActionChunk], now: int) -> list[ActionChunk]:
        """The set as it arrives at the gate at ``now`` [ns]: every candidate is corrupted in the same way, or none."""
        older = self._past[0] if self._past else [None] * len(chunks)
        self._past.append(chunks)
        # Always three draws, so that what one set suffers does not depend on another's.
        hit, way, seed = self._rng.random() < self._share, self._rng.choice(list(WAYS)), self._rng.integers(2**32)
        self._current = None
        if not hit:
            return chunks
        self._current = {"time": now / 1e9, "way": str(way), "gate": [], "passed": False, "driver": []}
        self.log.append(self._current)
        return [
            Case(chunk, old, self._spec, self._ik, np.random.default_rng(int(seed))).corrupted(str(way))
            for chunk, old in zip(chunks, older, strict=True)
        ]

    def refused(self, reasons: Sequence[Reason]) -> None:
        """The gate refused a candidate of this set."""
        if self._current is not None:
            self._current["gate"] = sorted({*self._current["gate"], *(reason.check for reason in reasons)})

    def offered(self, reasons: Sequence[Reason]) -> None:
        """A candidate of this set went to the driver, which refused it for ``reasons``, or took it."""
        if self._current is not None:
            self._current |= {"passed": True, "driver": [reason.check for reason in reasons]}
