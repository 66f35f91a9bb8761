"""Gripper range."""

from typing import ClassVar

import numpy as np

from vla_mbpo.core.chunk import ActionChunk
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.checks.check import Context, FloatArray, Stage


class GripperRange:
    """Refuses openings outside the gripper's range."""

    name: ClassVar[str] = "gripper_range"
    stage: ClassVar[Stage] = Stage.ROWS

    def __call__(self, chunk: ActionChunk, rows: FloatArray, context: Context) -> Reason | None:
        """See Check."""
        low, high = context.spec.gripper_range
        slack = context.config.gripper_slack
        inside = (chunk.gripper >= low - slack) & (chunk.gripper <= high + slack)
        if inside.all():
            return None
        row = int(np.argmin(inside))
        value = float(chunk.gripper[row])
        return Reason(self.name, row, "gripper", value, low if value < low else high)
