"""Speed of the tool in space."""

from typing import ClassVar

import numpy as np

from vla_mbpo.core.chunk import ActionChunk
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.checks.check import DRIVEN, Context, FloatArray, Stage, worst
from vla_mbpo.gate.kinematics import Kinematics


class ToolSpeed:
    """Refuses what moves or turns the tool faster than its limits, which joint limits alone do not bound.

    The rows, and what the driver makes of them, which may catch up: as fast as that, or as the arm is by now.
    """

    name: ClassVar[str] = "tool_speed"
    stage: ClassVar[Stage] = Stage.GEOMETRY

    def __call__(self, chunk: ActionChunk, rows: FloatArray, context: Context) -> Reason | None:
        """See Check."""
        placed, limit = context.placed(rows), context.spec.tool_speed * context.config.tool_speed_factor
        points = slice(0, context.points)
        speed = _speeds(placed, points, context.shares * chunk.row_period / 1e9)  # from point to point of the path
        found = worst(speed, limit)
        if found is None:
            points, times = context.driven_points
            speed = _speeds(placed, points, np.diff(times))
            limit = np.maximum(limit * DRIVEN, speed[0]) if len(speed) else limit
            found = worst(speed, limit)
        if found is None:
            return None
        (index, kind), subject = found, ("tool m/s", "tool rad/s")
        at = points.start + index + 1
        value, most = float(speed[found]), float(limit[kind])
        return Reason(self.name, context.row_of(at), subject[kind], value, most, context.note(at))


def _speeds(placed: Kinematics, points: slice, passed: FloatArray) -> FloatArray:
    """Speed of the tool [m/s] and of its turning [rad/s] between placed points, which are ``passed`` [s] apart."""
    tool, turned = placed.tool[points], placed.tool_rotation[points]
    way, turn = np.diff(tool, axis=0), np.diff(turned.reshape(len(tool), 9), axis=0)
    way, chord = (np.sqrt(np.einsum("ij,ij->i", change, change)) for change in (way, turn))
    # The chord between two rotations is 2 sqrt(2) sin(angle / 2) in the Frobenius norm.
    angle = 2.0 * np.arcsin(np.minimum(chord / np.sqrt(8.0), 1.0))
    return np.stack([way, angle], axis=1) / passed[:, None]
