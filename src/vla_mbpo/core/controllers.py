"""The controllers of ros2_control that drive an arm: `controllers.yaml` beside a robot.yaml, and whether it fits.

The file is what `ros2 run controller_manager spawner … --param-file` reads. A joint that it names otherwise than
robot.yaml does would be found when the arm has power: the controller refuses every trajectory then, or worse, takes it.
"""

from pathlib import Path
from typing import Any

import yaml

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.core.robot import RobotSpec

FILE = "controllers.yaml"
ARM, GRIPPER = "arm_controller", "gripper_controller"  # the names in the stack's topics
ARM_TYPES = ("joint_trajectory_controller/JointTrajectoryController",)
GRIPPER_TYPES = ("forward_command_controller/ForwardCommandController",)
MEASURED = {"position", "velocity"}


def check_controllers(path: Path, spec: RobotSpec) -> None:
    """Compare ``path`` with the robot's description. Any thread.

    Raises:
        ConfigError: the file cannot be read, or names other joints, types or interfaces than the stack needs.
    """
    raw = _read(path)
    arm = _section(raw, path, ARM)
    _one_of(arm, path, ARM, ARM_TYPES)
    _same_joints(arm, f"{path}: {ARM}.joints", list(spec.joints))
    states = arm.get("state_interfaces") or []
    require(MEASURED <= set(states), f"{path}: {ARM}.state_interfaces", states, f"expected {sorted(MEASURED)}")
    partial = arm.get("allow_partial_joints_goal", False)
    require(
        partial is False, f"{path}: {ARM}.allow_partial_joints_goal", partial, "false: trajectories are of all joints"
    )
    if GRIPPER in raw:
        gripper = _section(raw, path, GRIPPER)
        _one_of(gripper, path, GRIPPER, GRIPPER_TYPES)
        driver = spec.gripper_driver
        wanted = [driver.joint] if driver is not None else list(spec.gripper_joints)
        _same_joints(gripper, f"{path}: {GRIPPER}.joints", wanted)


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(str(path), " ".join(str(error).split()), "expected a ROS parameter file") from None
    require(isinstance(raw, dict), str(path), type(raw).__name__, f"expected {ARM} with ros__parameters")
    return raw


def _section(raw: dict[str, Any], path: Path, name: str) -> dict[str, Any]:
    body = raw.get(name)
    found = body.get("ros__parameters") if isinstance(body, dict) else None
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: {name}", body, "expected ros__parameters below it")
    return found


def _one_of(section: dict[str, Any], path: Path, name: str, types: tuple[str, ...]) -> None:
    require(section.get("type") in types, f"{path}: {name}.type", section.get("type"), f"one of {', '.join(types)}")


def _same_joints(section: dict[str, Any], field: str, wanted: list[str]) -> None:
    """The controller's joints are those of robot.yaml in the same order: position streams have no names."""
    found = section.get("joints")
    require(found == wanted, field, found, f"robot.yaml says {wanted}")
