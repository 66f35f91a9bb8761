"""No link comes near a declared obstacle."""

from typing import ClassVar

from vla_mbpo.core.chunk import ActionChunk
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.checks.check import Context, FloatArray, Stage, too_close


class Obstacles:
    """Refuses rows that bring a moving link closer to an obstacle than the margin."""

    name: ClassVar[str] = "obstacles"
    stage: ClassVar[Stage] = Stage.GEOMETRY

    def __call__(self, chunk: ActionChunk, rows: FloatArray, context: Context) -> Reason | None:
        """See Check."""
        placed, margin = context.placed(rows), context.spec.obstacle_margin
        return too_close(self.name, placed.obstacle_clearance(margin), margin, placed.obstacle_pairs, context)
