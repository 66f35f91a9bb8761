"""Joint velocity limits of what the driver makes of the rows."""

from typing import ClassVar

import numpy as np

from vla_mbpo.core.chunk import ActionChunk
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.checks.check import DRIVEN, Context, FloatArray, Stage, worst


class DrivenVelocity:
    """Refuses rows whose driven motion catches up faster than a lowered limit allows, or than the joint is by now.

    The driver keeps the robot's own limits; it knows nothing of ``velocity_factor``.
    """

    name: ClassVar[str] = "driven_velocity"
    stage: ClassVar[Stage] = Stage.GEOMETRY

    def __call__(self, chunk: ActionChunk, rows: FloatArray, context: Context) -> Reason | None:
        """See Check."""
        speed = np.abs(np.diff(context.driven(rows), axis=0)) / context.tick
        if not len(speed):
            return None
        limit = np.maximum(context.spec.velocity * context.config.velocity_factor * DRIVEN, speed[0])
        found = worst(speed, limit)
        if found is None:
            return None
        row = int(context.row_at(np.array(found[0]), len(rows)))
        value, most = float(speed[found]), float(limit[found[1]])
        return Reason(self.name, row, context.spec.joints[found[1]], value, most, "as it is driven")
