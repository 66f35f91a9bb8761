"""How a gripper's driver speaks of the opening: the position of one joint of its own."""

import math
from dataclasses import dataclass
from typing import Any

from vla_mbpo.core.errors import ConfigError, require

_FIELDS = {"joint", "closed", "open"}


@dataclass(frozen=True)
class GripperDriver:
    """A gripper joint of the maker's driver. The opening is taken as linear in its position.

    Attributes:
        joint: name in ``/joint_states``, which stands there in place of the finger joints of our URDF.
        closed, open: its position at the smallest and at the largest opening, in the driver's unit (rad or m).
        range: smallest and largest opening [m].
    """

    joint: str
    closed: float
    open: float
    range: tuple[float, float]

    @classmethod
    def read(cls, raw: Any, reach: tuple[float, float]) -> "GripperDriver":
        """``gripper.driver`` of a robot.yaml. Raises ConfigError."""
        valid = "expected joint, closed and open"
        require(isinstance(raw, dict) and set(raw) == _FIELDS and bool(raw["joint"]), "gripper.driver", raw, valid)
        try:
            closed, opened = float(raw["closed"]), float(raw["open"])
        except (TypeError, ValueError):
            raise ConfigError("gripper.driver", raw, f"{valid}, the last two as numbers") from None
        fine = math.isfinite(closed) and math.isfinite(opened) and closed != opened
        require(fine, "gripper.driver", raw, "expected closed and open to be two different finite numbers")
        return cls(str(raw["joint"]), closed, opened, reach)

    def position(self, opening: float) -> float:
        """The joint's position at ``opening`` [m]."""
        low, high = self.range
        return self.closed + (opening - low) / (high - low) * (self.open - self.closed)

    def opening(self, position: float) -> float:
        """The opening [m] at the joint's ``position``."""
        low, high = self.range
        return low + (position - self.closed) / (self.open - self.closed) * (high - low)
