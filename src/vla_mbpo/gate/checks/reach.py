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
            off = float(np.linalg.norm(pose.translation() - tool[row]))
            if not off <= config.reach_error:
                return Reason(self.name, row, "tool m", off, config.reach_error, "off the pose asked for")
            chord = np.linalg.norm(pose.rotation().as_matrix() - turned[row])
            angle = float(2.0 * np.arcsin(min(chord / np.sqrt(8.0), 1.0)))
            if not angle <= config.reach_angle:
                return Reason(self.name, row, "tool rad", angle, config.reach_angle, "off the pose asked for")
        return None
