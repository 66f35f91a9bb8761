"""What the arm will do next unless it is stopped."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Commitment:
    """Rows still to be executed, and counters. Fields as in Commitment.msg.

    Attributes:
        stamp: time it was made [ns].
        joint_names: column order.
        chunk_set_id: source of the next row, 0 when holding.
        first_due: row k is due at first_due + k * row_period [ns].
        row_period: [ns].
        positions: absolute [rad], (d, n).
        gripper: [m], (d,); NaN: no command.
        commanded_positions, commanded_velocities: set point at ``stamp`` [rad, rad/s], (n,), or (0,) before the first
            motion.
        rows_executed, rows_dropped_late, rows_executed_late: since activation; the last stays 0.
        seams: switches from one chunk to the next while moving.
        worst_seam_ratio: largest velocity step of a tick around a switch, as a share of what the acceleration limit
            allows in a tick.
    """

    stamp: int
    joint_names: tuple[str, ...]
    chunk_set_id: int
    first_due: int
    row_period: int
    positions: FloatArray
    gripper: FloatArray
    commanded_positions: FloatArray
    commanded_velocities: FloatArray
    rows_executed: int = 0
    rows_dropped_late: int = 0
    rows_executed_late: int = 0
    seams: int = 0
    worst_seam_ratio: float = 0.0

    def prefix(self, observation_stamp: int, rows: int) -> tuple[FloatArray, FloatArray]:
        """The committed rows on the time grid of an observation: what a policy repeats as its first rows.

        Args:
            observation_stamp: row k of the new chunk is due at observation_stamp + (k + 1) * row_period [ns].
            rows: at most this many, ``RobotSpec.commit_rows``.

        Returns:
            Positions (d, n) [rad] and gripper (d,) [m], d <= ``rows``; d is 0 when nothing is committed. Rows end where
            the committed ones do. A row due before this commitment was made is extrapolated back from the set point.
        """
        n = len(self.joint_names)
        if not len(self.positions):
            return np.zeros((0, n)), np.zeros(0)
        times = self.first_due + self.row_period * np.arange(len(self.positions))
        points, openings = self.positions, self.gripper
        if self.stamp < times[0] and len(self.commanded_positions):
            times = np.r_[self.stamp, times]
            points = np.vstack([self.commanded_positions, points])
            openings = np.r_[openings[0], openings]
        due = observation_stamp + self.row_period * np.arange(1, rows + 1)
        due = due[due <= times[-1] + self.row_period // 4]  # camera stamps jitter by a few ms
        start = times[0]  # float64 holds differences exactly, not absolute stamps
        at, knots = (due - start).astype(np.float64), (times - start).astype(np.float64)
        positions = np.stack([np.interp(at, knots, points[:, j]) for j in range(n)], axis=1)
        if len(self.commanded_velocities):
            positions += np.minimum(at, 0.0)[:, None] / 1e9 * self.commanded_velocities
        nearest = np.searchsorted(times, due - self.row_period // 4, side="left").clip(0, len(times) - 1)
        return positions, openings[nearest]
