"""Speed of the tool in space."""

from typing import ClassVar

import numpy as np

from vla_mbpo.core.chunk import ActionChunk
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.checks.check import Context, FloatArray, Stage, row_of, worst


class ToolSpeed:
    """Refuses rows that move or turn the tool faster than its limits, which joint limits alone do not bound."""

    name: ClassVar[str] = "tool_speed"
    stage: ClassVar[Stage] = Stage.GEOMETRY

    def __call__(self, chunk: ActionChunk, rows: FloatArray, context: Context) -> Reason | None:
        """See Check."""
        placed = context.placed(rows)
        half = 0.5 * chunk.row_period / 1e9  # between points of the path, see Context.placed
        way = np.linalg.norm(np.diff(placed.tool, axis=0), axis=1)
        # The chord between two rotations is 2 sqrt(2) sin(angle / 2) in the Frobenius norm.
        chord = np.linalg.norm(np.diff(placed.tool_rotation, axis=0), axis=(1, 2))
        angle = 2.0 * np.arcsin(np.clip(chord / np.sqrt(8.0), 0.0, 1.0))
        speed = np.stack([way, angle], axis=1) / half
        limit = context.spec.tool_speed * context.config.tool_speed_factor
        found = worst(speed, limit)
        if found is None:
            return None
        index, kind = found
        subject = ("tool m/s", "tool rad/s")[kind]
        return Reason(self.name, row_of(index + 1), subject, float(speed[found]), float(limit[kind]))
