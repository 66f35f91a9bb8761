"""Joint acceleration of the rows."""

from typing import ClassVar

import numpy as np

from vla_mbpo.core.chunk import ActionChunk
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.checks.check import Context, FloatArray, Stage, worst


class JointAcceleration:
    """Refuses spikes: second differences of the rows above ``row_acceleration_factor`` times the joint limits.

    Committed rows are part of the chunk, so the seam between what is being executed and what is new is covered.
    """

    name: ClassVar[str] = "joint_acceleration"
    stage: ClassVar[Stage] = Stage.ROWS

    def __call__(self, chunk: ActionChunk, rows: FloatArray, context: Context) -> Reason | None:
        """See Check."""
        acceleration = np.abs(np.diff(rows, n=2, axis=0)) / (chunk.row_period / 1e9) ** 2
        limit = context.spec.acceleration * context.config.row_acceleration_factor
        found = worst(acceleration, limit)
        if found is None:
            return None
        row, joint = found
        return Reason(self.name, row + 2, context.spec.joints[joint], float(acceleration[found]), float(limit[joint]))
