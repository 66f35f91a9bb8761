"""Joint jerk of the rows."""

from typing import ClassVar

from vla_mbpo.core.chunk import ActionChunk
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.checks.check import Context, FloatArray, Stage, too_fast


class JointJerk:
    """Refuses rows that reverse suddenly: third differences above ``row_jerk_factor`` times the joint limits."""

    name: ClassVar[str] = "joint_jerk"
    stage: ClassVar[Stage] = Stage.ROWS

    def __call__(self, chunk: ActionChunk, rows: FloatArray, context: Context) -> Reason | None:
        """See Check."""
        limit = context.spec.jerk * context.config.row_jerk_factor
        return too_fast(self.name, 3, rows, limit, chunk, context)
