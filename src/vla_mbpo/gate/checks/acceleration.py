"""Joint acceleration of the rows."""

from typing import ClassVar

from vla_mbpo.core.chunk import ActionChunk
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.checks.check import Context, FloatArray, Stage, too_fast


class JointAcceleration:
    """Refuses spikes: second differences of the rows above ``row_acceleration_factor`` times the joint limits.

    Committed rows are part of the chunk, so the seam between what is being executed and what is new is covered.
    """

    name: ClassVar[str] = "joint_acceleration"
    stage: ClassVar[Stage] = Stage.ROWS

    def __call__(self, chunk: ActionChunk, rows: FloatArray, context: Context) -> Reason | None:
        """See Check."""
        limit = context.spec.acceleration * context.config.row_acceleration_factor
        return too_fast(self.name, 2, rows, limit, chunk, context)
