"""Joint velocity limits between rows."""

from typing import ClassVar

import numpy as np

from vla_mbpo.core.chunk import ActionChunk
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.checks.check import Context, FloatArray, Stage, worst


class JointVelocity:
    """Refuses rows whose distance over the row period is faster than the joint velocity limits."""

    name: ClassVar[str] = "joint_velocity"
    stage: ClassVar[Stage] = Stage.ROWS

    def __call__(self, chunk: ActionChunk, rows: FloatArray, context: Context) -> Reason | None:
        """See Check."""
        speed = np.abs(np.diff(rows, axis=0)) / (chunk.row_period / 1e9)
        limit = context.spec.velocity * context.config.velocity_factor
        found = worst(speed, limit)
        if found is None:
            return None
        row, joint = found
        return Reason(self.name, row + 1, context.spec.joints[joint], float(speed[found]), float(limit[joint]))
