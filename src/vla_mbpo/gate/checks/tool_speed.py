"""Speed of the tool in space."""

from typing import ClassVar

import numpy as np

from vla_mbpo.core.chunk import ActionChunk
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.checks.check import Context, FloatArray, Stage, worst


class ToolSpeed:
    """Refuses rows that move or turn the tool faster than its limits, which joint limits alone do not bound."""

    name: ClassVar[str] = "tool_speed"
    stage: ClassVar[Stage] = Stage.GEOMETRY

    def __call__(self, chunk: ActionChunk, rows: FloatArray, context: Context) -> Reason | None:
        """See Check."""
        placed = context.placed(rows)
        passed = context.shares[:, None] * chunk.row_period / 1e9  # from point to point of the path
        tool, turned = placed.tool[: context.points], placed.tool_rotation[: context.points]
        way, turn = np.diff(tool, axis=0), np.diff(turned.reshape(len(tool), 9), axis=0)
        way, chord = (np.sqrt(np.einsum("ij,ij->i", change, change)) for change in (way, turn))
        # The chord between two rotations is 2 sqrt(2) sin(angle / 2) in the Frobenius norm.
        angle = 2.0 * np.arcsin(np.minimum(chord / np.sqrt(8.0), 1.0))
        speed = np.stack([way, angle], axis=1) / passed
        limit = context.spec.tool_speed * context.config.tool_speed_factor
        found = worst(speed, limit)
        if found is None:
            return None
        index, kind = found
        subject = ("tool m/s", "tool rad/s")[kind]
        return Reason(self.name, context.row_of(index + 1), subject, float(speed[found]), float(limit[kind]))
