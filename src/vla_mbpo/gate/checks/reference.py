"""The chunk was made for this arm, here and now."""

from typing import ClassVar

import numpy as np

from vla_mbpo.core.chunk import ActionChunk
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.checks.check import Context, FloatArray, Stage, exceeds


class Reference:
    """Refuses a chunk whose reference is neither near the measured pose nor near the commanded one.

    For joint deltas the reference turns rows into positions; for all types it shows that the chunk was made for this
    arm, here and now, and not from a recording. How far the two poses may be apart is a matter of ``servo_lag``.
    """

    name: ClassVar[str] = "reference"
    stage: ClassVar[Stage] = Stage.ROWS

    def __call__(self, chunk: ActionChunk, rows: FloatArray, context: Context) -> Reason | None:
        """See Check."""
        elapsed = abs(context.state.stamp - chunk.observation_stamp) / 1e9
        limit = context.config.reference_slack + context.spec.velocity * elapsed
        moved = np.minimum(*(np.abs(pose - chunk.reference) for pose in (context.state.positions, context.anchor)))
        return exceeds(self.name, -1, moved, limit, context)
