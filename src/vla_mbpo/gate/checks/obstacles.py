"""No link comes near a declared obstacle."""

from typing import ClassVar

import numpy as np

from vla_mbpo.core.chunk import ActionChunk
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.checks.check import Context, FloatArray, Stage, row_of, worst


class Obstacles:
    """Refuses rows that bring a moving link closer to an obstacle than the margin."""

    name: ClassVar[str] = "obstacles"
    stage: ClassVar[Stage] = Stage.GEOMETRY

    def __call__(self, chunk: ActionChunk, rows: FloatArray, context: Context) -> Reason | None:
        """See Check."""
        kinematics, margin = context.placed(rows), context.spec.obstacle_margin
        clearance = kinematics.obstacle_clearance(margin)
        found = worst(-clearance, np.full(clearance.shape[1], -margin))
        if found is None:
            return None
        index, pair = found
        link, obstacle = kinematics.obstacle_pairs[pair]
        return Reason(self.name, row_of(index), f"{link} and {obstacle}", float(clearance[index, pair]), margin)
