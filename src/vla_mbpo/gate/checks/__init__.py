"""The checks, and for each action type the complete set of them.

Every type becomes joint rows first, so that one set serves all types. A type is complete when its rows can be made
(gate/conversion.py) and its set holds every check that is required; one that is not is refused when the gate is
configured.
"""

from vla_mbpo.core.chunk import ActionType
from vla_mbpo.core.errors import ConfigError
from vla_mbpo.gate.checks.acceleration import JointAcceleration
from vla_mbpo.gate.checks.age import Age
from vla_mbpo.gate.checks.check import Check, Context, Stage
from vla_mbpo.gate.checks.driven_velocity import DrivenVelocity
from vla_mbpo.gate.checks.finite import Finite
from vla_mbpo.gate.checks.format import Format
from vla_mbpo.gate.checks.gripper_range import GripperRange
from vla_mbpo.gate.checks.gripper_speed import GripperSpeed
from vla_mbpo.gate.checks.jerk import JointJerk
from vla_mbpo.gate.checks.join import Join
from vla_mbpo.gate.checks.link_box import LinkBox
from vla_mbpo.gate.checks.measured import MeasuredState
from vla_mbpo.gate.checks.obstacles import Obstacles
from vla_mbpo.gate.checks.position import JointPosition
from vla_mbpo.gate.checks.reach import Reach
from vla_mbpo.gate.checks.reference import Reference
from vla_mbpo.gate.checks.self_collision import SelfCollision
from vla_mbpo.gate.checks.servo_lag import ServoLag
from vla_mbpo.gate.checks.table import Table
from vla_mbpo.gate.checks.tool_speed import ToolSpeed
from vla_mbpo.gate.checks.velocity import JointVelocity
from vla_mbpo.gate.checks.workspace import Workspace
from vla_mbpo.gate.conversion import CARTESIAN, CONVERTIBLE

__all__ = ["CHECKS", "REQUIRED", "Check", "Context", "Stage", "complete_set", "gateable"]

JOINT_CHECKS: tuple[Check, ...] = (
    Format(),
    Age(),
    MeasuredState(),
    Finite(),
    Reference(),
    JointPosition(),
    JointVelocity(),
    JointAcceleration(),
    JointJerk(),
    ServoLag(),
    Join(),
    GripperRange(),
    GripperSpeed(),
    DrivenVelocity(),
    ToolSpeed(),
    Workspace(),
    LinkBox(),
    Table(),
    SelfCollision(),
    Obstacles(),
)

# What no type may lack: every property of the arm's motion that can hurt somebody or something.
REQUIRED: frozenset[str] = frozenset(
    "format finite age measured_state reference joint_position joint_velocity joint_acceleration joint_jerk servo_lag "
    "join gripper_range gripper_speed driven_velocity tool_speed workspace link_box table self_collision "
    "obstacles".split()
)


# Cartesian rows are checked as the joint rows that inverse kinematics makes of them, if it got there.
CARTESIAN_CHECKS = (*JOINT_CHECKS, Reach())

CHECKS: dict[ActionType, tuple[Check, ...]] = {
    ActionType.JOINT_POSITION: JOINT_CHECKS,
    ActionType.JOINT_DELTA: JOINT_CHECKS,
    ActionType.CARTESIAN_DELTA: CARTESIAN_CHECKS,
    ActionType.TWIST: CARTESIAN_CHECKS,
}


def required(kind: ActionType) -> frozenset[str]:
    """Names of the checks that ``kind`` may not lack."""
    return REQUIRED | {Reach.name} if kind in CARTESIAN else REQUIRED


def gateable() -> tuple[ActionType, ...]:
    """Types with a complete set of checks."""
    return tuple(
        kind for kind in ActionType
        if kind in CONVERTIBLE and {check.name for check in CHECKS.get(kind, ())} >= required(kind)
    )  # fmt: skip


def complete_set(kind: ActionType) -> tuple[Check, ...]:
    """The checks of ``kind``, in the order of their stages.

    Raises:
        ConfigError: the type has no complete set; names those that do.
    """
    valid = gateable()
    if kind not in valid:
        raise ConfigError(
            "gate.action_types", getattr(kind, "name", kind), f"one of {', '.join(t.name for t in valid)}"
        )
    return tuple(sorted(CHECKS[kind], key=lambda check: check.stage))
