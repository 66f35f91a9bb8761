"""Cartesian rows lead where they say."""

from typing import ClassVar

import mink
import numpy as np

from vla_mbpo.core.chunk import ActionChunk
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.checks.check import Context, FloatArray, Stage
from vla_mbpo.gate.conversion import tool_poses


class Reach:
    """Refuses Cartesian rows that inverse kinematics could not follow: out of reach, or beyond a joint's limit."""

    name: ClassVar[str] = "reach"
    stage: ClassVar[Stage] = Stage.GEOMETRY

    def __call__(self, chunk: ActionChunk, rows: FloatArray, context: Context) -> Reason | None:
        """See Check."""
        config, kinematics = context.config, context.placed(rows)
        at = context.at_rows
        tool, turned = kinematics.tool[at], kinematics.tool_rotation[at]
        position, rotation = kinematics.tool_at(chunk.reference)
        start = mink.SE3.from_rotation_and_translation(mink.SO3.from_matrix(rotation), position)
        for row, pose in enumerate(tool_poses(chunk, start)):
            off, angle = apart(pose, tool[row], turned[row])
            if not off <= config.reach_error:
                return Reason(self.name, row, "tool m", off, config.reach_error, "off the pose asked for")
            if not angle <= config.reach_angle:
                return Reason(self.name, row, "tool rad", angle, config.reach_angle, "off the pose asked for")
        return None


def apart(pose: mink.SE3, position: FloatArray, rotation: FloatArray) -> tuple[float, float]:
    """How far [m] and by which angle [rad] a tool at ``position`` (3,) with ``rotation`` (3, 3) is off ``pose``."""
    off = float(np.linalg.norm(pose.translation() - position))
    chord = np.linalg.norm(pose.rotation().as_matrix() - rotation)
    return off, float(2.0 * np.arcsin(min(chord / np.sqrt(8.0), 1.0)))
