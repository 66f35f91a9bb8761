"""Joint position limits."""

from typing import ClassVar

import numpy as np

from vla_mbpo.core.chunk import ActionChunk
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.checks.check import Context, FloatArray, Stage, worst


class JointPosition:
    """Refuses rows outside the joint position limits."""

    name: ClassVar[str] = "joint_position"
    stage: ClassVar[Stage] = Stage.ROWS

    def __call__(self, chunk: ActionChunk, rows: FloatArray, context: Context) -> Reason | None:
        """See Check."""
        spec = context.spec
        outside = np.maximum(spec.lower - rows, rows - spec.upper)
        found = worst(outside, np.zeros(len(spec.joints)))
        if found is None:
            return None
        row, joint = found
        value = float(rows[row, joint])
        limit = spec.lower[joint] if value < spec.lower[joint] else spec.upper[joint]
        return Reason(self.name, row, spec.joints[joint], value, float(limit))
