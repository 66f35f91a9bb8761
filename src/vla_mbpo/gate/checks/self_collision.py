"""No link touches another."""

from typing import ClassVar

from vla_mbpo.core.chunk import ActionChunk
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.checks.check import Context, FloatArray, Stage, too_close


class SelfCollision:
    """Refuses rows that bring two links closer together than the margin."""

    name: ClassVar[str] = "self_collision"
    stage: ClassVar[Stage] = Stage.GEOMETRY

    def __call__(self, chunk: ActionChunk, rows: FloatArray, context: Context) -> Reason | None:
        """See Check."""
        placed, margin = context.placed(rows), context.spec.self_collision_margin
        return too_close(self.name, placed.self_clearance(margin), margin, placed.pairs, context)
