"""The chunk starts where the arm is."""

from typing import ClassVar

import numpy as np

from vla_mbpo.core.chunk import ActionChunk
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.checks.check import Context, FloatArray, Stage, exceeds


class Join:
    """Refuses a chunk whose first row still to come cannot be reached in time from where the arm is.

    Two bounds on that row, committed or not: distance from the commanded pose at full speed, and distance from where
    the arm would coast to at full (row) acceleration. Both have ``join_slack`` on top.
    """

    name: ClassVar[str] = "join"
    stage: ClassVar[Stage] = Stage.ROWS

    def __call__(self, chunk: ActionChunk, rows: FloatArray, context: Context) -> Reason | None:
        """See Check."""
        spec, config = context.spec, context.config
        row = context.first_to_come(chunk)
        left = (chunk.due(row) - context.now) / 1e9
        way = rows[row] - context.anchor
        by_speed = config.join_slack + config.velocity_factor * spec.velocity * left
        reason = exceeds(self.name, row, np.abs(way), by_speed, context, "too far")
        if reason is not None:
            return reason
        off_coast = np.abs(way - context.state.velocities * left)
        acceleration = config.row_acceleration_factor * spec.acceleration
        # The measured velocity is that of the arm one servo delay ago, hence the delay on top of the time left.
        by_force = config.join_slack + 0.5 * acceleration * left * (left + 2.0 * config.servo_delay)
        return exceeds(self.name, row, off_coast, by_force, context, "too sudden")
