"""No link touches the table."""

from typing import ClassVar

from vla_mbpo.core.chunk import ActionChunk
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.checks.check import Context, FloatArray, Stage, too_close


class Table:
    """Refuses rows that bring a link closer to the table than its margin; the base stands on it and is exempt."""

    name: ClassVar[str] = "table"
    stage: ClassVar[Stage] = Stage.GEOMETRY

    def __call__(self, chunk: ActionChunk, rows: FloatArray, context: Context) -> Reason | None:
        """See Check."""
        kinematics, margin = context.placed(rows), context.spec.table_margin
        links = [(link,) for link in kinematics.links]
        return too_close(self.name, kinematics.table_clearance(), margin, links, context)
