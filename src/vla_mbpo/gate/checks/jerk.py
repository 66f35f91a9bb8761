"""Joint jerk of the rows."""

from typing import ClassVar

import numpy as np

from vla_mbpo.core.chunk import ActionChunk
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.checks.check import Context, FloatArray, Stage, worst


class JointJerk:
    """Refuses rows that reverse suddenly: third differences above ``row_jerk_factor`` times the joint limits."""

    name: ClassVar[str] = "joint_jerk"
    stage: ClassVar[Stage] = Stage.ROWS

    def __call__(self, chunk: ActionChunk, rows: FloatArray, context: Context) -> Reason | None:
        """See Check."""
        jerk = np.abs(np.diff(rows, n=3, axis=0)) / (chunk.row_period / 1e9) ** 3
        limit = context.spec.jerk * context.config.row_jerk_factor
        found = worst(jerk, limit)
        if found is None:
            return None
        row, joint = found
        return Reason(self.name, row + 3, context.spec.joints[joint], float(jerk[found]), float(limit[joint]))
