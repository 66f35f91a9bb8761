"""Joint velocity limits between rows."""

from typing import ClassVar

from vla_mbpo.core.chunk import ActionChunk
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.checks.check import Context, FloatArray, Stage, too_fast


class JointVelocity:
    """Refuses rows whose distance over the row period is faster than the joint velocity limits."""

    name: ClassVar[str] = "joint_velocity"
    stage: ClassVar[Stage] = Stage.ROWS

    def __call__(self, chunk: ActionChunk, rows: FloatArray, context: Context) -> Reason | None:
        """See Check."""
        limit = context.spec.velocity * context.config.velocity_factor
        return too_fast(self.name, 1, rows, limit, chunk, context)
