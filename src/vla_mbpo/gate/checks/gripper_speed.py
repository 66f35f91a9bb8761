"""Gripper speed."""

from typing import ClassVar

import numpy as np

from vla_mbpo.core.chunk import ActionChunk
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.checks.check import Context, FloatArray, Stage


class GripperSpeed:
    """Refuses openings that change faster than the gripper can."""

    name: ClassVar[str] = "gripper_speed"
    stage: ClassVar[Stage] = Stage.ROWS

    def __call__(self, chunk: ActionChunk, rows: FloatArray, context: Context) -> Reason | None:
        """See Check."""
        limit = context.spec.gripper_speed * context.config.gripper_speed_factor
        period = chunk.row_period / 1e9
        change = np.abs(np.diff(chunk.gripper))
        slow = change <= limit * period + context.config.gripper_slack
        if slow.all():
            return None
        row = int(np.argmin(slow))
        return Reason(self.name, row + 1, "gripper", float(change[row] / period), limit)
