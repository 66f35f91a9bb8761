"""The tool stays in its box."""

from typing import ClassVar

import numpy as np

from vla_mbpo.core.chunk import ActionChunk
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.checks.check import Context, FloatArray, Stage

AXES = "xyz"


class Workspace:
    """Refuses rows that take the tool out of its box."""

    name: ClassVar[str] = "workspace"
    stage: ClassVar[Stage] = Stage.GEOMETRY

    def __call__(self, chunk: ActionChunk, rows: FloatArray, context: Context) -> Reason | None:
        """See Check."""
        low, high = context.spec.workspace_lower, context.spec.workspace_upper
        tool = context.placed(rows).tool
        found = context.beyond(np.maximum(low - tool, tool - high))
        if found is None:
            return None
        index, axis = found
        value = float(tool[index, axis])
        limit = low[axis] if value < low[axis] else high[axis]
        return Reason(self.name, context.row_of(index), f"tool {AXES[axis]}", value, float(limit), context.note(index))
