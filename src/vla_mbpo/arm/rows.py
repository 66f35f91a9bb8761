"""Approved rows by due time, and the smooth path through them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.chunk import JointRows

FloatArray = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Target:
    """Point of the path: position [rad], velocity [rad/s], acceleration [rad/s^2], each (n,)."""

    q: FloatArray
    v: FloatArray
    a: FloatArray


@dataclass(frozen=True)
class _Row:
    """One row: due time [ns], position (n,) [rad], gripper opening [m] or NaN, chunk set it came from."""

    due: int
    q: FloatArray
    gripper: float
    source: int


class RowClock:
    """Keeps approved rows and says where the arm is to be at a time. One thread. Times in int ns.

    A row that is due now or earlier is never a target: it is dropped and counted. Between rows the path is a cubic
    Hermite curve with Catmull-Rom tangents. It starts at the anchor, the commanded state when the last chunk was
    taken, so that it has no step there.

    Attributes:
        executed: rows that the arm was told to reach by their due time.
        dropped_late: rows dropped because they were due before the arm could be told.
        executed_late: rows used as a target after their due time; 0 by construction, counted to prove it.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.executed = self.dropped_late = self.executed_late = 0
        self._now = 0
        self.clear()

    def clear(self) -> None:
        """Forget all rows. Nothing of them comes back."""
        self._rows: list[_Row] = []  # the first may be past: it shapes the curve after it
        self._anchor: tuple[int, FloatArray, FloatArray] | None = None
        self._period = 0
        self._build()

    def offer(self, rows: JointRows, now: int, q: FloatArray, v: FloatArray) -> int:
        """Take the rows still to come; of the old rows, keep those due before the first one taken.

        Committed rows repeat what is already here, so they are taken only where nothing is.

        Args:
            rows: approved rows.
            now: [ns]; call ``advance`` with it first.
            q, v: commanded state at ``now`` [rad, rad/s], (n,): the new start of the path.

        Returns:
            Number of rows taken. With 0 nothing has changed.
        """
        half = rows.row_period // 2
        covered = self._rows[-1].due + half if self._rows else now
        late, fresh = 0, []
        for k in range(len(rows.positions)):
            due = rows.due(k)
            repeated = k < rows.committed_rows and due <= covered
            if due <= now:
                late += not repeated and k >= rows.committed_rows
            elif not repeated:
                opening = float(rows.gripper[k]) if len(rows.gripper) else float("nan")
                fresh.append(_Row(due, rows.positions[k], opening, rows.chunk_set_id))
        self.dropped_late += late
        if not fresh:
            return 0
        kept = [row for row in self._rows if row.due < fresh[0].due - half]
        past = sum(row.due <= now for row in kept)
        self._rows = kept[max(past - 1, 0) :] + fresh
        self._anchor = (now, q.copy(), v.copy())
        self._period = rows.row_period
        self._build()
        return len(fresh)

    def mismatch(self, rows: JointRows, now: int) -> tuple[int, int, float] | None:
        """Repeated row, joint and distance [rad] where ``rows`` repeat most wrongly what is committed here.

        They are not taken, so what joins them was vetted with something else before it. None: nothing is repeated.
        """
        worst = None
        for k in range(min(rows.committed_rows, len(rows.positions))):
            target = self.target(rows.due(k)) if rows.due(k) > now else None
            if target is None:
                continue
            apart = np.abs(rows.positions[k] - target.q)
            joint = int(np.argmax(apart))
            if worst is None or apart[joint] > worst[2]:
                worst = k, joint, float(apart[joint])
        return worst

    def advance(self, now: int, told_until: int) -> None:
        """Count rows that became due since the last call.

        Args:
            now: [ns].
            told_until: the arm has been told where to be up to this time [ns].
        """
        for row in self._rows:
            if self._now < row.due <= now:
                if row.due <= told_until:
                    self.executed += 1
                else:
                    self.dropped_late += 1
        self._now = max(self._now, now)

    def rewind(self, now: int) -> None:
        """The clock was set back to ``now``: rows of the other time are gone."""
        self.clear()
        self._now = now

    def target(self, t: int) -> Target | None:
        """Where the path is at time ``t`` [ns], or None before its start and after its last row."""
        if not len(self._times) or t > self._times[-1] or t < self._times[0]:
            return None
        i = max(int(np.searchsorted(self._times, t, side="left")), 1)
        if self._times[i] < self._now:
            self.executed_late += 1
        return self._curve(i, (t - self._times[i - 1]) / 1e9, (self._times[i] - self._times[i - 1]) / 1e9)

    def _curve(self, i: int | Ints, since: float | FloatArray, h: float | FloatArray) -> Target:
        """Point of piece ``i`` of the path, which lasts ``h`` [s], ``since`` [s] it began; or of (T,), these (T, 1)."""
        s = since / h
        q0, q1 = self._q[i - 1], self._q[i]
        m0, m1 = self._m[i - 1] * h, self._m[i] * h
        d = q1 - q0
        c2, c3 = 3.0 * d - 2.0 * m0 - m1, m0 + m1 - 2.0 * d
        q = q0 + s * (m0 + s * (c2 + s * c3))
        v = (m0 + s * (2.0 * c2 + s * 3.0 * c3)) / h
        a = (2.0 * c2 + s * 6.0 * c3) / (h * h)
        return Target(q, v, a)

    def aim(self, t: int, look_ahead: int) -> Target | None:
        """What a step that ends at ``t`` aims at, ``look_ahead`` [ns] farther on; past the last row, standing at it."""
        last = self.last_due
        if last is None or t > last:
            return None
        target = self.target(min(t + look_ahead, last))
        if target is None or t + look_ahead <= last:
            return target
        return Target(target.q, np.zeros_like(target.v), np.zeros_like(target.a))

    def aims(self, times: Ints, look_ahead: int) -> list[Target]:
        """As ``aim`` at each of ``times`` (T,) [ns], which the path covers; much faster than one by one."""
        last = self._times[-1]
        at = np.minimum(times + look_ahead, last)
        i = np.maximum(np.searchsorted(self._times, at, side="left"), 1)
        begin = self._times[i - 1]
        points = self._curve(i, ((at - begin) / 1e9)[:, None], ((self._times[i] - begin) / 1e9)[:, None])
        standing = (times + look_ahead > last)[:, None]
        v, a = (np.where(standing, 0.0, x) for x in (points.v, points.a))
        return [Target(*point) for point in zip(points.q, v, a, strict=True)]

    def gripper(self, now: int) -> float | None:
        """Opening of the row whose interval holds ``now`` [m]; None without such a row or without a command."""
        row = next((row for row in self._rows if row.due >= now), None)
        return None if row is None or np.isnan(row.gripper) else row.gripper

    def source(self, now: int) -> int:
        """Chunk set of the row that is next due after ``now``; 0 if there is none."""
        return next((row.source for row in self._rows if row.due > now), 0)

    @property
    def last_due(self) -> int | None:
        """Due time of the last row [ns]."""
        return self._rows[-1].due if self._rows else None

    def first_due(self, after: int) -> int | None:
        """Due time of the first row due later than ``after`` [ns]."""
        return next((row.due for row in self._rows if row.due > after), None)

    def grid(self, after: int) -> tuple[int, FloatArray, FloatArray]:
        """Rows still to come, at equal distances in time.

        Rows of two chunks can be a few ms off a common grid (camera stamps jitter), so positions are read off the
        path, at the first due time and then every row period.

        Returns:
            First due time [ns] (0 without rows), positions (d, n) [rad], gripper (d,) [m] with NaN for no command.
        """
        first = self.first_due(after)
        if first is None or self.last_due is None:
            return 0, np.zeros((0, 0)), np.zeros(0)
        rows = [row for row in self._rows if row.due > after]
        if all(row.due == first + k * self._period for k, row in enumerate(rows)):
            return first, np.array([row.q for row in rows]), np.array([row.gripper for row in rows])
        times = range(first, self.last_due + 1, self._period)
        points = [self.target(t) for t in times]
        openings = [self.gripper(t) for t in times]
        return (
            first,
            np.array([point.q for point in points if point is not None]),
            np.array([np.nan if opening is None else opening for opening in openings]),
        )

    def _build(self) -> None:
        """Knots of the path: times (m,), positions and tangents (m, n)."""
        if self._anchor is None or not self._rows:
            self._times, self._q, self._m = np.zeros(0, dtype=np.int64), np.zeros((0, 0)), np.zeros((0, 0))
            return
        start, q, v = self._anchor
        times = [row.due for row in self._rows]
        points = [row.q for row in self._rows]
        past = times[0] <= start
        # Without a past row the anchor stands in for one, unless it is so close that rounding would make the tangent.
        stand_in = not past and times[0] - start >= self._period // 2
        if stand_in:
            times, points = [start, *times], [q, *points]
        m = _tangents(np.array(times, dtype=np.float64) / 1e9, np.array(points))
        skip = int(past or stand_in)
        self._times = np.array([start, *times[skip:]], dtype=np.int64)
        self._q = np.vstack([q, *points[skip:]])
        self._m = np.vstack([v, m[skip:]])


def _tangents(t: FloatArray, q: FloatArray) -> FloatArray:
    """Catmull-Rom tangents for uneven times: t (m,) [s], q (m, n) -> (m, n) [rad/s]; one-sided at the ends."""
    if len(t) == 1:
        return np.zeros_like(q)
    h = np.diff(t)[:, None]
    slope = np.diff(q, axis=0) / h
    inner = (h[1:] * slope[:-1] + h[:-1] * slope[1:]) / (h[1:] + h[:-1])
    return np.vstack([slope[:1], inner, slope[-1:]])
