"""Every topic of the stack: name, type and quality of service, in one table.

Where only the latest value counts the depth is 1. State that a late joiner must know is transient local.
"""

from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState, Joy
from std_msgs.msg import Bool, Float64MultiArray, String, UInt64
from trajectory_msgs.msg import JointTrajectory
from visualization_msgs.msg import MarkerArray
from vla_mbpo_msgs.msg import (
    ActionChunkSet,
    ApprovedChunk,
    AttemptState,
    Commitment,
    FailureRisk,
    GateDecision,
    GateState,
    ImaginationVerdict,
    ReleaseState,
    SceneState,
    TaskStatus,
    TeleopCommand,
    TrainingProgress,
)

GATE_STATE_PERIOD = 0.1  # s
HEARTBEAT_PERIOD = 0.02  # s; a control period of the arm driver
HEARTBEAT_DEADLINE = (
    0.05  # s; with it the arm brakes within three control periods; `arm_driver.gate_timeout` is not below it
)
TELEOP_PERIOD = 0.02  # s
TELEOP_DEADLINE = 0.15  # s; a person's command that is silent for longer is released


@dataclass(frozen=True)
class Topic:
    """One topic."""

    name: str
    type: Any
    qos: QoSProfile


def _qos(reliability: str, depth: int, latched: bool = False, deadline: float | None = None) -> QoSProfile:
    durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
    profile = QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=getattr(ReliabilityPolicy, reliability),
        durability=durability,
    )
    if deadline is not None:
        profile.deadline = Duration(seconds=deadline)
    return profile


def with_deadline(topic: Topic, seconds: float) -> Topic:
    """The topic for a listener that is patient for so long; not shorter than what publishers offer."""
    offered = topic.qos
    profile = QoSProfile(history=offered.history, depth=offered.depth, reliability=offered.reliability)
    profile.deadline = Duration(seconds=seconds)
    return Topic(topic.name, topic.type, profile)


SENSOR = _qos("BEST_EFFORT", 1)
LATEST = _qos("RELIABLE", 1)
EVERY = _qos("RELIABLE", 50)
ANYBODY = _qos("BEST_EFFORT", 50)  # hears writers of either kind; a reliable reader does not hear best-effort ones
LATCHED = _qos("RELIABLE", 1, latched=True)

HEAD_IMAGE = Topic("/head_camera/color/image_raw", Image, SENSOR)
HEAD_INFO = Topic("/head_camera/color/camera_info", CameraInfo, SENSOR)
WRIST_IMAGE = Topic("/wrist_camera/color/image_raw", Image, SENSOR)
WRIST_INFO = Topic("/wrist_camera/color/camera_info", CameraInfo, SENSOR)
# In the pixels of the colour image, so its camera_info is this one's, too: millimetres, 16UC1 (REP 118), 0 is unknown.
HEAD_DEPTH = Topic("/head_camera/aligned_depth_to_color/image_raw", Image, SENSOR)
WRIST_DEPTH = Topic("/wrist_camera/aligned_depth_to_color/image_raw", Image, SENSOR)
# Drivers of real arms offer no deadline and a reader that asks for one would never hear them: who needs the joint
# states in time watches their age.
JOINT_STATES = Topic("/joint_states", JointState, SENSOR)
INSTRUCTION = Topic("/instruction", String, LATCHED)
ACTION_CHUNKS = Topic("/policy/action_chunks", ActionChunkSet, _qos("RELIABLE", 4))
RESAMPLE = Topic("/gate/resample", UInt64, LATEST)  # id of a chunk set of which nothing was accepted
VERDICT = Topic("/imagination/verdict", ImaginationVerdict, _qos("RELIABLE", 4))
RISK = Topic("/failure_detector/risk", FailureRisk, _qos("RELIABLE", 4))
DREAM = Topic("/imagination/dream", Image, LATEST)  # above imagined head | wrist, below what was seen then
APPROVED_CHUNK = Topic("/gate/approved_chunk", ApprovedChunk, LATEST)
GATE_DECISION = Topic("/gate/decision", GateDecision, EVERY)
GATE_STATE = Topic("/gate/state", GateState, LATCHED)
HEARTBEAT = Topic("/gate/heartbeat", UInt64, _qos("BEST_EFFORT", 1, deadline=HEARTBEAT_DEADLINE))
TELEOP_COMMAND = Topic("/teleop/command", TeleopCommand, _qos("RELIABLE", 1, deadline=TELEOP_DEADLINE))
ESTOP = Topic("/estop", Bool, _qos("RELIABLE", 10))
ESTOPS = (ESTOP, Topic(ESTOP.name, Bool, ANYBODY))  # for who acts on it: anybody may press, in whatever quality
PENDANT = Topic("/pendant", Bool, _qos("RELIABLE", 1))
JOY = Topic("/joy", Joy, _qos("RELIABLE", 10))  # as game_controller_node publishes it
COMMITMENT = Topic("/arm_driver/commitment", Commitment, LATEST)
TRAJECTORY = Topic("/arm_controller/joint_trajectory", JointTrajectory, LATEST)
POSITION_STREAM = Topic("/arm_controller/commands", Float64MultiArray, LATEST)
GRIPPER = Topic("/gripper_controller/command", Float64MultiArray, LATEST)  # opening, m
GRIPPER_POSITION = Topic("/gripper_controller/commands", Float64MultiArray, LATEST)  # ForwardCommandController's
SCENE_STATE = Topic("/sim/scene_state", SceneState, SENSOR)
CLOCK = Topic("/clock", Clock, SENSOR)
ATTEMPT = Topic("/task/attempt", AttemptState, LATCHED)
TASK_HEARTBEAT = Topic("/task/heartbeat", UInt64, LATEST)  # number of the running attempt, 0 between attempts
TASK_STATUS = Topic("/task/status", TaskStatus, LATEST)
RELEASE = Topic("/release", ReleaseState, LATCHED)
TRAINING = Topic("/trainer/progress", TrainingProgress, LATEST)
# Drawn for people only. Relative names: in the namespace that the node `markers` is started in.
MARKERS = Topic("markers/scene", MarkerArray, LATEST)
VOLUMES = Topic("markers/volumes", MarkerArray, LATCHED)
OVERLAY = Topic("markers/cameras", Image, LATEST)
READY = Topic("/lifecycle_manager/ready", Bool, LATCHED)
DIAGNOSTICS = Topic("/diagnostics", DiagnosticArray, EVERY)


def transforms() -> tuple[Topic, Topic, Topic]:
    """Moving and fixed transforms and the robot's URDF, as tf2 and robot_state_publisher have them.

    Raises:
        ImportError: there is no tf2_msgs, which the wheels lack (scripts/setup.sh builds it).
    """
    from tf2_msgs.msg import TFMessage

    moving, fixed = Topic("/tf", TFMessage, _qos("RELIABLE", 100)), Topic("/tf_static", TFMessage, LATCHED)
    return moving, fixed, Topic("/robot_description", String, LATCHED)


# Services and actions
ENGAGE, RESET_GATE, ESTOP_SERVICE = "/gate/engage", "/gate/reset", "/gate/estop"
SWAP = "/task/swap"  # and /<node>/release of each node that reads bundles, for the task node alone
RECORDER = "/recorder"  # /recorder/start, stop, save and label
TRAINER_START, TRAINER_PAUSE, TRAINER_STOP = "/trainer/start", "/trainer/pause", "/trainer/stop"
RESET_SCENE = "/sim/reset"
EXECUTE_TASK = "/task/execute"
FOLLOW_TRAJECTORY = "/arm_controller/follow_joint_trajectory"
