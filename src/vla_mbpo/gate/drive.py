"""What the arm driver will make of rows: its own path and servo, run ahead in the gate.

A joint that the rows ask too much of lags and catches up later, past the last row if need be, while the others are on
time: the arm goes where no row is. What is judged is therefore both, the rows and this.
"""

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.arm.config import DriverConfig
from vla_mbpo.arm.rows import RowClock
from vla_mbpo.arm.smoother import JointState, Smoother
from vla_mbpo.core.chunk import ActionChunk, JointRows
from vla_mbpo.core.robot import RobotSpec

FloatArray = NDArray[np.float64]


class Drive:
    """Runs ahead. Buffers only: one thread.

    Attributes:
        tick: time from one point to the next [s].
    """

    def __init__(self, spec: RobotSpec, config: DriverConfig | None = None) -> None:
        """``config``: the driver's, of which SHAPING counts."""
        config = config or DriverConfig()
        self.tick = config.tick
        self._spec, self._ns, self._look_ahead = spec, round(config.tick * 1e9), round(config.look_ahead * 1e9)
        self._smoother = Smoother(spec, config)

    def path(self, chunk: ActionChunk, rows: FloatArray, q: FloatArray, v: FloatArray, now: int) -> FloatArray:
        """Set points (T, n) [rad] from ``now`` [ns] on, one per tick, to where the arm stands again.

        ``rows`` (H, n) [rad] of ``chunk`` are taken with the set point at ``q``, which moves at ``v`` [rad/s].
        """
        taken = JointRows(
            chunk.chunk_set_id, chunk.candidate, chunk.observation_stamp, chunk.expiry, self._spec.joints,
            chunk.row_period, rows, np.zeros(0), chunk.committed_rows, 0,
        )  # fmt: skip
        clock, state, points = RowClock(), JointState(q, v, np.zeros_like(q)), [q]
        if clock.offer(taken, now, q, v):
            times = np.arange(now + self._ns, taken.due(len(rows) - 1) + 1, self._ns)
            for target in clock.aims(times, self._look_ahead):
                _, state = self._smoother.step(state, target, self.tick)
                points.append(state.q)
        stop = self._smoother.stop(state)
        ticks = int(np.ceil(stop.duration / self.tick))
        return np.array([*points, *(stop.at((k + 1) * self.tick).q for k in range(ticks))])
