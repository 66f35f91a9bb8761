"""No link touches another."""

from typing import ClassVar

import numpy as np

from vla_mbpo.core.chunk import ActionChunk
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.checks.check import Context, FloatArray, Stage, row_of, worst


class SelfCollision:
    """Refuses rows that bring two links closer together than the margin."""

    name: ClassVar[str] = "self_collision"
    stage: ClassVar[Stage] = Stage.GEOMETRY

    def __call__(self, chunk: ActionChunk, rows: FloatArray, context: Context) -> Reason | None:
        """See Check."""
        kinematics, margin = context.placed(rows), context.spec.self_collision_margin
        clearance = kinematics.self_clearance(margin)
        # At the cutoff the distance is the margin itself, which is not closer than the margin.
        found = worst(-clearance, np.full(clearance.shape[1], -margin))
        if found is None:
            return None
        index, pair = found
        first, second = kinematics.pairs[pair]
        return Reason(self.name, row_of(index), f"{first} and {second}", float(clearance[index, pair]), margin)
