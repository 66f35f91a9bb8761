"""Settings of the arm driver. Limits of the robot itself are in RobotSpec."""

import math
from dataclasses import dataclass

from vla_mbpo.core.errors import require

# Smallest and largest value of each number, both allowed.
RANGES: dict[str, tuple[float, float]] = {
    "tick": (0.005, 0.05),
    "motion_ticks": (1, 5),
    "max_state_age": (0.005, 1.0),
    "max_future": (0.0, 0.1),
    "max_gap": (0.001, 0.5),
    "max_lag": (0.01, 1.0),
    "servo_delay": (0.0, 0.5),
    "reanchor": (0.0, 0.2),
    "start_speed": (0.001, 10.0),
    "settle": (0.01, 0.5),
    "look_ahead": (0.0, 0.2),
    "quiet_after": (0.0, 10.0),
}
SHAPING = ("tick", "settle", "look_ahead")  # what decides where the arm goes for given rows: the gate has to know it


@dataclass(frozen=True)
class DriverConfig:
    """Times in s, angles in rad.

    Attributes:
        tick: control period.
        motion_ticks: ticks of motion in a published trajectory before it brakes by itself.
        max_state_age: oldest measured state; older: stop.
        max_future: how far ahead of now a stamp may be.
        max_gap: largest distance between the commanded pose and the path; above it rows are dropped, not chased.
        max_lag: largest distance between measured and commanded pose at rest; above it: stop.
        servo_delay: delay of the servos; allows ``servo_delay * |velocity|`` more while moving.
        reanchor: distance between measured and commanded pose above which a new motion starts at the measured one.
        start_speed: highest measured speed of a joint at which a motion may start at the measured pose [rad/s].
        settle: time to reach the wanted velocity: averages row noise away.
        look_ahead: beyond the end of a step at which the step's target is read off the path. With a settling time of a
            tick and no look ahead the path is followed as it is, its noise included (benchmarks/metaworld/world.py).
        quiet_after: how long a standstill is published before the driver falls silent and the controller holds.
    """

    tick: float = 0.02
    motion_ticks: int = 3
    max_state_age: float = 0.1
    max_future: float = 0.02
    max_gap: float = 0.2
    max_lag: float = 0.3
    servo_delay: float = 0.15
    reanchor: float = 0.02
    start_speed: float = 0.05
    settle: float = 0.06
    look_ahead: float = 0.04
    quiet_after: float = 0.2

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            ok = isinstance(value, int | float) and math.isfinite(value) and low <= value <= high
            require(ok, f"arm_driver.{name}", value, f"expected a number from {low} to {high}")
        whole = isinstance(self.motion_ticks, int)
        require(whole, "arm_driver.motion_ticks", self.motion_ticks, "expected a whole number")
