"""A person's command: what it wants of the arm, and whether it may move at all."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Jog:
    """What a person wants.

    Attributes:
        twist: of the tool [m/s, rad/s], (6,).
        in_tool_frame: axes of ``twist`` are those of the tool instead of the base.
        joint_velocities: [rad/s], (n,); empty: ``twist`` counts.
        gripper_velocity: [m/s], positive opens.
    """

    twist: FloatArray
    in_tool_frame: bool
    joint_velocities: FloatArray
    gripper_velocity: float = 0.0

    @property
    def moves(self) -> bool:
        """Whether arm or gripper is to move."""
        wanted = self.joint_velocities if len(self.joint_velocities) else self.twist
        return bool(np.any(wanted != 0)) or self.gripper_velocity != 0


@dataclass(frozen=True)
class Reading:
    """What a person does at the moment. ``engage`` is true once per press."""

    deadman: bool
    estop: bool
    engage: bool
    jog: Jog
