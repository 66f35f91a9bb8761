"""The chunk was made for this arm, here and now."""

from typing import ClassVar

import numpy as np

from vla_mbpo.core.chunk import ActionChunk
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.checks.check import Context, FloatArray, Stage, exceeds


class Reference:
    """Refuses a chunk whose reference the arm cannot have left by its present pose.

    For joint deltas the reference turns rows into positions; for all types it shows that the chunk was made for this
    arm, here and now, and not from a recording.
    """

    name: ClassVar[str] = "reference"
    stage: ClassVar[Stage] = Stage.ROWS

    def __call__(self, chunk: ActionChunk, rows: FloatArray, context: Context) -> Reason | None:
        """See Check."""
        elapsed = abs(context.state.stamp - chunk.observation_stamp) / 1e9
        limit = context.config.reference_slack + context.spec.velocity * elapsed
        moved = np.abs(context.state.positions - chunk.reference)
        return exceeds(self.name, -1, moved, limit, context)
