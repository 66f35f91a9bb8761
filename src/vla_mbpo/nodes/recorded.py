"""Which topics the recorder hears, and how.

A reliable reader gets again what was lost on the way, as long as the writer still has it; a best-effort one hears
writers of either kind. Queues hold what comes while this process does not run for some seconds.
"""

from dataclasses import dataclass

import yaml
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from vla_mbpo.nodes import qos
from vla_mbpo.nodes.qos import Topic
from vla_mbpo.record.message import TopicInfo

PICTURES, MESSAGES = 60, 500  # depth of the queues: 3 s of pictures, 5 s of the fastest other topic


@dataclass(frozen=True)
class Recorded:
    """A topic with the recorder's own quality of service."""

    topic: Topic
    qos: QoSProfile
    required: bool = False


def _row(topic: Topic, reliable: bool | None = None, depth: int = MESSAGES, required: bool = False) -> Recorded:
    offered = topic.qos
    if reliable is None:
        reliable = offered.reliability == ReliabilityPolicy.RELIABLE
    profile = QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=offered.durability,
    )
    return Recorded(topic, profile, required)


RECORDED: tuple[Recorded, ...] = (
    _row(qos.HEAD_IMAGE, depth=PICTURES, required=True),
    _row(qos.HEAD_INFO),
    _row(qos.WRIST_IMAGE, depth=PICTURES, required=True),
    _row(qos.WRIST_INFO),
    _row(qos.JOINT_STATES, required=True),
    _row(qos.INSTRUCTION),
    _row(qos.ATTEMPT),
    _row(qos.TASK_STATUS),
    _row(qos.RELEASE),
    _row(qos.ACTION_CHUNKS),
    _row(qos.RESAMPLE),
    _row(qos.VERDICT),
    _row(qos.RISK),
    _row(qos.GATE_DECISION),
    _row(qos.APPROVED_CHUNK),
    _row(qos.GATE_STATE, required=True),
    _row(qos.COMMITMENT, required=True),
    _row(qos.TRAJECTORY),
    _row(qos.POSITION_STREAM),
    _row(qos.GRIPPER),
    _row(qos.GRIPPER_POSITION),
    # Anybody may press a stop, whatever the quality of service.
    _row(qos.ESTOP, reliable=False),
    _row(qos.PENDANT, reliable=False),
    _row(qos.JOY, reliable=False),
    _row(qos.TELEOP_COMMAND),
    _row(qos.SCENE_STATE),
    _row(qos.DIAGNOSTICS),
)


def info(row: Recorded) -> TopicInfo:
    """The topic as the recorder's thread knows it."""
    kind = row.topic.type
    package = kind.__module__.split(".")[0]
    latched = row.topic.qos.durability == DurabilityPolicy.TRANSIENT_LOCAL
    return TopicInfo(row.topic.name, f"{package}/msg/{kind.__name__}", _offered(row.topic.qos), latched, row.required)


def _offered(profile: QoSProfile) -> str:
    """A profile as rosbag2 keeps it, for players."""
    never = {"sec": 9223372036, "nsec": 854775807}
    return yaml.safe_dump(
        [
            {
                "history": "keep_last",
                "depth": profile.depth,
                "reliability": profile.reliability.name.lower(),
                "durability": profile.durability.name.lower(),
                "deadline": never,
                "lifespan": never,
                "liveliness": "automatic",
                "liveliness_lease_duration": never,
                "avoid_ros_namespace_conventions": False,
            }
        ]
    )
