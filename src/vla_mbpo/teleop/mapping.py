"""From the sticks and buttons of a gamepad to a person's command."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.teleop.command import Jog, Reading

# Order and signs of the ROS package joy's game_controller_node: left and up are positive.
AXES = ("left_x", "left_y", "right_x", "right_y", "trigger_left", "trigger_right")
BUTTONS = {
    "estop": 1,  # B
    "frame": 2,  # X
    "kind": 3,  # Y
    "engage": 6,  # start
    "turn": 9,  # left shoulder
    "deadman": 10,  # right shoulder
    "faster": 11,  # pad up
    "slower": 12,  # pad down
    "previous_joint": 13,  # pad left
    "next_joint": 14,  # pad right
}
SHARES = (0.1, 0.25, 0.5, 1.0)  # of the full speed
GRIP = 0.1  # part of a trigger's way that counts as nothing


@dataclass(frozen=True)
class Speeds:
    """Full speed. ISO 10218 calls 250 mm/s the reduced speed of manual operation."""

    linear: float = 0.25  # m/s
    angular: float = 0.8  # rad/s
    joint: float = 0.5  # rad/s
    gripper: float = 0.1  # m/s


@dataclass
class Mapping:
    """Reads sticks. Remembers what buttons have chosen: one thread.

    Attributes:
        joint_jog: the left stick turns one joint; otherwise the sticks move the tool.
        in_tool_frame: axes of tool motion are those of the tool instead of the base.
        joint: index of the joint that is turned.
        share: index into SHARES.
    """

    spec: RobotSpec
    speeds: Speeds = Speeds()
    joint_jog: bool = False
    in_tool_frame: bool = False
    joint: int = 0
    share: int = 2
    _down: frozenset[str] = field(default=frozenset(BUTTONS), repr=False)
    _let_go: bool = field(default=False, repr=False)

    def forget(self) -> None:
        """The gamepad was silent: what is held when it comes back has to be pressed anew to count."""
        self._down, self._let_go = frozenset(BUTTONS), False

    @staticmethod
    def estop(buttons: Sequence[int]) -> bool:
        """Whether the e-stop button is pressed, whatever else the gamepad says or lacks."""
        return len(buttons) > BUTTONS["estop"] and bool(buttons[BUTTONS["estop"]])

    def read(self, axes: Sequence[float], buttons: Sequence[int]) -> Reading:
        """The command of one reading.

        Args:
            axes: in the order of AXES, from -1 to 1; left and up are positive, a pressed trigger is -1.
            buttons: 1 while pressed; indices as in BUTTONS.

        Raises:
            ValueError: too few axes or buttons, or numbers that no stick gives.
        """
        if len(axes) < len(AXES) or len(buttons) <= max(BUTTONS.values()):
            raise ValueError(f"{len(axes)} axes and {len(buttons)} buttons, expected 6 and 15 (game_controller_node)")
        values = np.array(axes[: len(AXES)], dtype=np.float64)
        if not (np.abs(values) <= 1.001).all():
            raise ValueError(f"axes: {values.tolist()}, expected numbers from -1 to 1")
        down = frozenset(name for name, index in BUTTONS.items() if buttons[index])
        pressed, self._down = down - self._down, down
        self._let_go |= "deadman" not in down
        self._choose(pressed)
        deadman = "deadman" in down and self._let_go
        return Reading(deadman, "estop" in down, "engage" in pressed, self._jog(values, "turn" in down))

    def _choose(self, pressed: frozenset[str]) -> None:
        self.in_tool_frame ^= "frame" in pressed
        self.joint_jog ^= "kind" in pressed
        step = ("faster" in pressed) - ("slower" in pressed)
        self.share = min(max(self.share + step, 0), len(SHARES) - 1)
        step = ("next_joint" in pressed) - ("previous_joint" in pressed)
        self.joint = (self.joint + step) % len(self.spec.joints)

    def _jog(self, values: np.ndarray, turn: bool) -> Jog:
        """Left stick: forward and left; right stick: up and yaw; with ``turn`` the left stick rolls and pitches."""
        stick = dict(zip(AXES, values, strict=True))
        share = SHARES[self.share]
        # A trigger goes from 0 to -1, with some pads from 1 to -1. Left opens.
        squeeze = max(-stick["trigger_left"], 0.0) - max(-stick["trigger_right"], 0.0)
        gripper = share * self.speeds.gripper * squeeze if abs(squeeze) > GRIP else 0.0
        twist, joints = np.zeros(6), np.zeros(0)
        if self.joint_jog:
            joints = np.zeros(len(self.spec.joints))
            joints[self.joint] = share * self.speeds.joint * stick["left_y"]
        else:
            forward, left = stick["left_y"], stick["left_x"]
            linear = [0.0 if turn else forward, 0.0 if turn else left, stick["right_y"]]
            angular = [-left if turn else 0.0, forward if turn else 0.0, stick["right_x"]]
            twist[:3] = share * self.speeds.linear * np.array(linear)
            twist[3:] = share * self.speeds.angular * np.array(angular)
        return Jog(twist, self.in_tool_frame, joints, gripper)
