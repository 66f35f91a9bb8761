"""No link touches the table."""

from typing import ClassVar

import numpy as np

from vla_mbpo.core.chunk import ActionChunk
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.checks.check import Context, FloatArray, Stage, row_of, worst


class Table:
    """Refuses rows that bring a link closer to the table than its margin; the base stands on it and is exempt."""

    name: ClassVar[str] = "table"
    stage: ClassVar[Stage] = Stage.GEOMETRY

    def __call__(self, chunk: ActionChunk, rows: FloatArray, context: Context) -> Reason | None:
        """See Check."""
        kinematics, margin = context.placed(rows), context.spec.table_margin
        clearance = kinematics.table_clearance()
        found = worst(-clearance, np.full(clearance.shape[1], -margin))
        if found is None:
            return None
        index, link = found
        return Reason(self.name, row_of(index), kinematics.links[link], float(clearance[index, link]), margin)
