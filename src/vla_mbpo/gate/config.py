"""Settings of the gate. Limits of the robot itself are in RobotSpec."""

import math
from dataclasses import dataclass, replace

import numpy as np

from vla_mbpo.core.chunk import ActionType
from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.core.robot import RobotSpec

# Smallest and largest value of each number, both allowed.
RANGES: dict[str, tuple[float, float]] = {
    "max_chunk_age": (0.01, 5.0),
    "max_future": (0.0, 0.1),
    "max_state_age": (0.005, 1.0),
    "velocity_factor": (0.01, 1.0),
    "row_acceleration_factor": (0.1, 5.0),
    "row_jerk_factor": (0.1, 5.0),
    "tool_speed_factor": (0.01, 1.0),
    "reach_error": (1e-4, 0.05),
    "reach_angle": (1e-3, 0.2),
    "servo_lag": (0.001, 0.5),
    "servo_delay": (0.0, 0.5),
    "join_slack": (0.0, 0.2),
    "reference_slack": (0.001, 0.5),
    "gripper_slack": (0.0, 0.01),
    "gripper_speed_factor": (0.01, 100.0),
}


@dataclass(frozen=True)
class GateConfig:
    """Thresholds of the checks that are no property of the robot. Times in s, angles in rad, lengths in m.

    Attributes:
        action_types: types the gate is to accept; each needs a complete set of checks.
        max_chunk_age: oldest observation a chunk may come from.
        max_future: how far ahead of now a stamp may be (clocks of two machines).
        max_state_age: oldest measured state.
        velocity_factor: share of the joint velocity limits that rows may use.
        row_acceleration_factor: multiple of the joint acceleration limits that rows may use. Above 1 because a learned
            policy's rows carry about 3 mrad of noise, which at 50 ms is a second difference of 3 rad/s^2 (one standard
            deviation) on top of the motion, and because the driver's smoother keeps the true limits at every tick: this
            check is there for spikes and jumps.
        row_jerk_factor: multiple of the joint jerk limits that rows may use.
        tool_speed_factor: share of the tool's speed limits that rows may use.
        reach_error, reach_angle: how far inverse kinematics may end from a Cartesian row's tool pose.
        servo_lag: how far measured and commanded pose may be apart at rest.
        servo_delay: delay of the servos; allows ``servo_delay * |velocity|`` more while moving.
        join_slack: allowance on what the first row that is still to come demands of the arm.
        reference_slack: allowance between a chunk's reference and the measured pose, on top of possible motion.
        gripper_slack: allowance on the gripper's range (rounding of a float32 policy).
        gripper_speed_factor: multiple of the gripper's speed that rows may use.
    """

    action_types: tuple[ActionType, ...] = tuple(ActionType)
    max_chunk_age: float = 0.4
    max_future: float = 0.02
    max_state_age: float = 0.1
    velocity_factor: float = 1.0
    row_acceleration_factor: float = 2.0
    row_jerk_factor: float = 1.0
    tool_speed_factor: float = 1.0
    reach_error: float = 0.002
    reach_angle: float = 0.01
    servo_lag: float = 0.10
    servo_delay: float = 0.10
    join_slack: float = 0.03
    reference_slack: float = 0.05
    gripper_slack: float = 1e-4
    gripper_speed_factor: float = 1.0

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            ok = isinstance(value, int | float) and math.isfinite(value) and low <= value <= high
            require(ok, f"gate.{name}", value, f"expected a number from {low} to {high}")
        require(len(self.action_types) > 0, "gate.action_types", self.action_types, "expected at least one type")


def slowed(config: GateConfig, share: float) -> GateConfig:
    """The same checks with this share of the speed limits: for motion that nobody has looked ahead of."""
    joints, tool = config.velocity_factor * share, config.tool_speed_factor * share
    return replace(config, velocity_factor=max(joints, 0.01), tool_speed_factor=max(tool, 0.01))


def check_spec(spec: RobotSpec) -> None:
    """Refuse limits that no number could break: NaN, infinite, empty or reversed.

    A comparison with NaN is false, so a NaN limit would let every value pass.

    Raises:
        ConfigError: naming the field.
    """
    n = len(spec.joints)
    require(n > 0 and len(set(spec.joints)) == n, "joints", spec.joints, "expected distinct joint names")
    for name in ("home", "lower", "upper", "velocity", "acceleration", "jerk"):
        _finite(name, getattr(spec, name), (n,))
    for name in ("workspace_lower", "workspace_upper", "links_lower", "links_upper"):
        _finite(name, getattr(spec, name), (3,))
    for obstacle in spec.obstacles:
        _finite(f"obstacles.{obstacle.name}.lower", obstacle.lower, (3,))
        _finite(f"obstacles.{obstacle.name}.upper", obstacle.upper, (3,))
        _ordered(f"obstacles.{obstacle.name}.lower", obstacle.lower, obstacle.upper)
    _finite("tool_speed", spec.tool_speed, (2,))
    for name in ("obstacle_margin", "gripper_speed", "table_height", "table_margin", "self_collision_margin"):
        _finite(name, getattr(spec, name), ())
    _finite("gripper_range", spec.gripper_range, (2,))
    for name in ("velocity", "acceleration", "jerk", "tool_speed", "gripper_speed", "row_period", "horizon"):
        require(bool(np.all(np.asarray(getattr(spec, name)) > 0)), name, getattr(spec, name), "expected above 0")
    for name in ("table_margin", "self_collision_margin", "obstacle_margin", "commit_rows"):
        require(getattr(spec, name) >= 0, name, getattr(spec, name), "expected 0 or more")
    _ordered("lower", spec.lower, spec.upper)
    _ordered("workspace_lower", spec.workspace_lower, spec.workspace_upper)
    _ordered("links_lower", spec.links_lower, spec.links_upper)
    _ordered("gripper_range", *map(np.asarray, spec.gripper_range))
    require(spec.commit_rows < spec.horizon, "commit_rows", spec.commit_rows, f"expected below {spec.horizon}")


def _finite(name: str, value: object, shape: tuple[int, ...]) -> None:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ConfigError(name, value, "expected numbers") from None
    require(array.shape == shape and bool(np.isfinite(array).all()), name, value, f"expected finite numbers {shape}")


def _ordered(name: str, low: np.ndarray, high: np.ndarray) -> None:
    require(bool(np.all(low < high)), name, low.tolist(), f"must be below {high.tolist()}")
