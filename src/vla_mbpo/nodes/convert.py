"""Between messages and the values of `core/`. Arrays go in and out of messages as buffers, not element by element."""

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from builtin_interfaces.msg import Duration, Time
from numpy.typing import NDArray
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint
from vla_mbpo_msgs import msg as ours

from vla_mbpo.arm.commitment import Commitment
from vla_mbpo.core.chunk import ActionChunk, ActionType, JointRows
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.state import RobotState, Trajectory
from vla_mbpo.core.verdict import Reason
from vla_mbpo.teleop.command import Jog, Reading

if TYPE_CHECKING:  # every node reads this module, few of them judge
    from vla_mbpo.failure.detector import Risk
    from vla_mbpo.imagination.vetting import Judgement

FloatArray = NDArray[np.float64]
_S = 1_000_000_000
TELEOP = "teleop"  # who made the rows of an ApprovedChunk
MODES = {getattr(ours.GateState, name): name for name in ("HOLD", "AUTONOMOUS", "TELEOP", "ESTOP")}


def to_time(ns: int) -> Time:
    """Nanoseconds to a stamp."""
    return Time(sec=ns // _S, nanosec=ns % _S)


def to_duration(ns: int) -> Duration:
    """Nanoseconds to a duration."""
    return Duration(sec=ns // _S, nanosec=ns % _S)


def to_ns(stamp: Time | Duration) -> int:
    """A stamp or duration to nanoseconds."""
    return stamp.sec * _S + stamp.nanosec


def to_doubles(values: Any) -> array:
    """A float64 field."""
    return array("d", np.ascontiguousarray(values, dtype=np.float64).tobytes())


def to_floats(values: Any) -> array:
    """A float32 field."""
    return array("f", np.ascontiguousarray(values, dtype=np.float32).tobytes())


def from_doubles(field: Any, columns: int = 0) -> FloatArray:
    """A float64 field as (n,), or as (rows, columns). Raises ValueError when it does not divide into rows."""
    values = np.array(field, dtype=np.float64)
    return values.reshape(-1, columns) if columns else values


def to_reason(reason: Reason) -> ours.Reason:
    """A typed reason."""
    return ours.Reason(
        check=reason.check,
        row=reason.row,
        subject=reason.subject,
        value=float(reason.value),
        limit=float(reason.limit),
        text=str(reason),
    )


def to_decision(
    set_id: int, stamp: Time, candidate: int, state: ours.GateState, reasons: Sequence[Reason], now: int, took: int
) -> ours.GateDecision:
    """A decision in ``state`` on one candidate of a chunk set; no reasons means accepted. ``took`` in ns."""
    decision = ours.GateDecision(
        chunk_set_id=set_id,
        candidate=candidate,
        observation_stamp=stamp,
        mode=state.mode,
        intervention=state.intervention,
        accepted=not reasons,
        reasons=[to_reason(reason) for reason in reasons],
        latency=to_duration(took),
    )
    decision.header.stamp = to_time(now)
    return decision


def to_verdict(
    judgement: "Judgement", of: ours.ActionChunkSet, version: str, now: int, seconds: float
) -> ours.ImaginationVerdict:
    """The world model's judgement of a chunk set, ``seconds`` after its arrival."""
    choice, imagined = judgement.choice, judgement.imagined
    candidates = [
        ours.CandidateVerdict(
            candidate=k,
            verdict=int(verdict),
            success_probability=float(imagined.success[k]),
            cost_probability=float(imagined.cost[k]),
            uncertainty=float(imagined.uncertainty[k]),
            score=float(choice.scores[k]),
            reasons=list(choice.reasons[k]),
        )
        for k, verdict in enumerate(choice.verdicts)
    ]
    message = ours.ImaginationVerdict(
        chunk_set_id=of.chunk_set_id,
        observation_stamp=of.observation_stamp,
        model_version=version,
        candidates=candidates,
        order=list(choice.order),
        latency=to_duration(round(seconds * 1e9)),
    )
    message.header.stamp = to_time(now)
    return message


def to_risk(
    risk: "Risk", of: ours.ActionChunkSet, members: Sequence[str], calibration: str, now: int
) -> ours.FailureRisk:
    """The failure detector's judgement of the attempt, at a chunk set."""
    message = ours.FailureRisk(
        chunk_set_id=of.chunk_set_id,
        observation_stamp=of.observation_stamp,
        known=risk.known,
        score=float(risk.score),
        band=float(risk.band),
        alarm=risk.alarm,
        detectors=list(members),
        votes=list(risk.votes),
        calibration_id=calibration,
        reason=risk.reason,
    )
    message.header.stamp = to_time(now)
    return message


def alarm_text(risk: ours.FailureRisk) -> str:
    """An alarm in one line."""
    who = ", ".join(name for name, vote in zip(risk.detectors, risk.votes, strict=False) if vote)
    return f"failure detector: risk {risk.score:.2f} above {risk.band:.2f} ({who})"


class JointStateReader:
    """Reads sensor_msgs/JointState, whatever its order of joints, as RobotState."""

    def __init__(self, spec: RobotSpec) -> None:
        self._driver = spec.gripper_driver
        self._wanted = (spec.joints, (self._driver.joint,) if self._driver else spec.gripper_joints)
        self._names: list[str] = []
        self._arm = self._fingers = np.zeros(0, dtype=np.intp)

    def reads(self, message: JointState) -> bool:
        """Whether the message is about the arm, and not only about other joints, as what a gripper's own node says."""
        return message.name == self._names or set(self._wanted[0]) | set(self._wanted[1]) <= set(message.name)

    def read(self, message: JointState) -> RobotState | None:
        """The state, or None when the message lacks a joint or the velocities."""
        if message.name != self._names:
            if not self.reads(message):
                return None
            self._names = list(message.name)
            self._arm, self._fingers = (
                np.array([self._names.index(n) for n in group], dtype=np.intp) for group in self._wanted
            )
        positions, velocities = np.array(message.position), np.array(message.velocity)
        if not len(positions) == len(velocities) == len(self._names):
            return None
        opening = float(positions[self._fingers].sum())
        if self._driver is not None:
            opening = self._driver.opening(opening)
        return RobotState(to_ns(message.header.stamp), positions[self._arm], velocities[self._arm], opening)


class JointStateWriter:
    """Fills one JointState message again and again: arm joints, then fingers that share the opening.

    Of a gripper whose driver speaks of one joint of its own, that joint in place of the fingers.
    """

    def __init__(self, spec: RobotSpec) -> None:
        self._driver = spec.gripper_driver
        names = (self._driver.joint,) if self._driver else spec.gripper_joints
        n, fingers = len(spec.joints), len(names)
        self.message = JointState(name=[*spec.joints, *names])
        self.message.header.frame_id = spec.base_frame
        self.message.position, self.message.velocity = (array("d", bytes(8 * (n + fingers))) for _ in range(2))
        self._position = np.frombuffer(self.message.position)
        self._velocity = np.frombuffer(self.message.velocity)
        self._n, self._fingers = n, max(fingers, 1)

    def write(self, state: RobotState) -> JointState:
        """The message for ``state``; valid until the next call."""
        self.message.header.stamp = to_time(state.stamp)
        self._position[: self._n] = state.positions
        gripper = self._driver.position(state.gripper) if self._driver else state.gripper / self._fingers
        self._position[self._n :] = gripper
        self._velocity[: self._n] = state.velocities
        return self.message


def to_trajectory(trajectory: Trajectory) -> JointTrajectory:
    """Core trajectory to trajectory_msgs."""
    message = JointTrajectory(joint_names=list(trajectory.joint_names))
    message.header.stamp = to_time(trajectory.stamp)
    points = []
    for i, time in enumerate(trajectory.times):
        point = JointTrajectoryPoint(time_from_start=to_duration(time))
        point.positions = to_doubles(trajectory.positions[i])
        if len(trajectory.velocities):
            point.velocities = to_doubles(trajectory.velocities[i])
        points.append(point)
    message.points = points
    return message


def from_trajectory(message: JointTrajectory) -> Trajectory:
    """trajectory_msgs to a core trajectory. Raises ValueError when points differ in width."""
    n = len(message.joint_names)
    velocities = [p.velocities for p in message.points if len(p.velocities)]
    return Trajectory(
        stamp=to_ns(message.header.stamp),
        joint_names=tuple(message.joint_names),
        times=tuple(to_ns(p.time_from_start) for p in message.points),
        positions=np.array([p.positions for p in message.points], dtype=np.float64).reshape(len(message.points), n),
        velocities=np.array(velocities, dtype=np.float64).reshape(len(velocities), n),
    )


def to_chunk(chunk: ActionChunk, now: int, frame: str) -> ours.ActionChunk:
    """An action chunk published at ``now``."""
    message = ours.ActionChunk(candidate=chunk.candidate, action_type=int(chunk.action_type))
    message.reference = to_doubles(chunk.reference)
    return _fill(message, chunk, now, frame)


def from_chunk(message: ours.ActionChunk, frame: str = "") -> ActionChunk:
    """An action chunk. ValueError: sizes disagree, an unknown action type, or another frame than ``frame`` (if any)."""
    if frame and message.header.frame_id != frame:
        raise ValueError(f"frame_id: {message.header.frame_id!r} is not valid; expected {frame}")
    kind = ActionType(message.action_type)
    width = len(message.joint_names) if kind in (ActionType.JOINT_POSITION, ActionType.JOINT_DELTA) else 6
    return ActionChunk(
        action_type=kind, reference=from_doubles(message.reference), **_common(message, message.horizon, width)
    )


def to_chunk_set(chunks: Sequence[ActionChunk], now: int, frame: str) -> ours.ActionChunkSet:
    """The chunks of one inference, published at ``now``; at least one."""
    first = chunks[0]
    message = ours.ActionChunkSet(chunk_set_id=first.chunk_set_id)
    message.header.stamp, message.header.frame_id = to_time(now), frame
    message.observation_stamp = to_time(first.observation_stamp)
    message.chunks = [to_chunk(chunk, now, frame) for chunk in chunks]
    return message


def to_approved(rows: JointRows, now: int, frame: str, approved_by: str, reason: str) -> ours.ApprovedChunk:
    """Approved rows published at ``now``."""
    message = ours.ApprovedChunk(candidate=rows.candidate, epoch=rows.epoch, approved_by=approved_by, reason=reason)
    return _fill(message, rows, now, frame)


def from_approved(message: ours.ApprovedChunk) -> JointRows:
    """Approved rows. Raises ValueError when sizes disagree."""
    return JointRows(
        epoch=message.epoch,
        teleop=message.approved_by == TELEOP,
        **_common(message, message.horizon, len(message.joint_names)),
    )


def to_teleop(reading: Reading, spec: RobotSpec, now: int) -> ours.TeleopCommand:
    """A person's command at ``now``."""
    jog, message = reading.jog, ours.TeleopCommand(deadman=reading.deadman, estop=reading.estop)
    message.header.stamp = to_time(now)
    message.header.frame_id = spec.tool_link if jog.in_tool_frame else spec.base_frame
    linear, angular = message.twist.linear, message.twist.angular
    linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = jog.twist.tolist()
    message.joint_velocities, message.gripper_velocity = to_doubles(jog.joint_velocities), float(jog.gripper_velocity)
    return message


def from_teleop(message: ours.TeleopCommand, spec: RobotSpec) -> Jog:
    """A person's command. Raises ValueError for a frame that is neither the base nor the tool."""
    frames = (spec.base_frame, spec.tool_link)
    if message.header.frame_id not in frames:
        raise ValueError(f"frame_id: {message.header.frame_id!r} is not valid; expected {' or '.join(frames)}")
    linear, angular = message.twist.linear, message.twist.angular
    twist = np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])
    joints = from_doubles(message.joint_velocities)
    return Jog(twist, message.header.frame_id == spec.tool_link, joints, message.gripper_velocity)


def to_commitment(commitment: Commitment, frame: str) -> ours.Commitment:
    """What the arm will do next."""
    message = ours.Commitment(
        joint_names=list(commitment.joint_names),
        chunk_set_id=commitment.chunk_set_id,
        first_due=to_time(commitment.first_due),
        row_period=to_duration(commitment.row_period),
        rows_executed=commitment.rows_executed,
        rows_dropped_late=commitment.rows_dropped_late,
        rows_executed_late=commitment.rows_executed_late,
    )
    message.header.stamp, message.header.frame_id = to_time(commitment.stamp), frame
    message.positions, message.gripper = to_doubles(commitment.positions), to_doubles(commitment.gripper)
    message.commanded_positions = to_doubles(commitment.commanded_positions)
    message.commanded_velocities = to_doubles(commitment.commanded_velocities)
    return message


def from_commitment(message: ours.Commitment) -> Commitment:
    """What the arm will do next. Raises ValueError when sizes disagree or rows have no period."""
    n = len(message.joint_names)
    found = Commitment(
        stamp=to_ns(message.header.stamp),
        joint_names=tuple(message.joint_names),
        chunk_set_id=message.chunk_set_id,
        first_due=to_ns(message.first_due),
        row_period=to_ns(message.row_period),
        positions=from_doubles(message.positions, n),
        gripper=from_doubles(message.gripper),
        commanded_positions=from_doubles(message.commanded_positions),
        commanded_velocities=from_doubles(message.commanded_velocities),
        rows_executed=message.rows_executed,
        rows_dropped_late=message.rows_dropped_late,
        rows_executed_late=message.rows_executed_late,
    )
    if len(found.gripper) != len(found.positions):
        raise ValueError(f"gripper: {len(found.gripper)} values for {len(found.positions)} rows")
    if {len(found.commanded_positions), len(found.commanded_velocities)} - {0, n}:
        raise ValueError(f"commanded: {len(found.commanded_positions)} values for {n} joints")
    if len(found.positions) and found.row_period <= 0:
        raise ValueError(f"row_period: {found.row_period} ns, expected above 0")
    return found


def to_image(image: NDArray[np.uint8], stamp: int, frame: str) -> Image:
    """An rgb8 image."""
    height, width, _ = image.shape
    message = Image(height=height, width=width, encoding="rgb8", is_bigendian=0, step=3 * width)
    message.header.stamp, message.header.frame_id = to_time(stamp), frame
    data = array("B")
    data.frombytes(np.ascontiguousarray(image).data.cast("B"))
    message.data = data
    return message


def to_depth(depth: NDArray[np.uint16], stamp: int, frame: str) -> Image:
    """A 16UC1 image of millimetres, little-endian."""
    height, width = depth.shape
    message = Image(height=height, width=width, encoding="16UC1", is_bigendian=0, step=2 * width)
    message.header.stamp, message.header.frame_id = to_time(stamp), frame
    data = array("B")
    data.frombytes(np.ascontiguousarray(depth, dtype="<u2").data.cast("B"))
    message.data = data
    return message


def from_image(message: Image) -> NDArray[np.uint8]:
    """A view (height, width, 3) on an rgb8 image. Raises ValueError for another encoding or size."""
    if message.encoding != "rgb8":
        raise ValueError(f"encoding: {message.encoding!r} is not valid; expected rgb8")
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    return rows[:, : 3 * message.width].reshape(message.height, message.width, 3)


def _fill(message: Any, rows: ActionChunk | JointRows, now: int, frame: str) -> Any:
    """The fields that ActionChunk.msg and ApprovedChunk.msg share."""
    message.header.stamp, message.header.frame_id = to_time(now), frame
    message.chunk_set_id = rows.chunk_set_id
    message.observation_stamp, message.expiry = to_time(rows.observation_stamp), to_time(rows.expiry)
    message.joint_names = list(rows.joint_names)
    message.horizon, message.committed_rows = len(rows.positions), rows.committed_rows
    message.row_period = to_duration(rows.row_period)
    message.positions, message.gripper = to_doubles(rows.positions), to_doubles(rows.gripper)
    return message


def _common(message: Any, horizon: int, width: int) -> dict[str, Any]:
    """The fields that ActionChunk and JointRows share."""
    gripper = from_doubles(message.gripper)
    if len(gripper) not in (0, horizon):
        raise ValueError(f"gripper: {len(gripper)} values for {horizon} rows")
    return {
        "chunk_set_id": message.chunk_set_id,
        "candidate": message.candidate,
        "observation_stamp": to_ns(message.observation_stamp),
        "expiry": to_ns(message.expiry),
        "joint_names": tuple(message.joint_names),
        "row_period": to_ns(message.row_period),
        "positions": from_doubles(message.positions).reshape(horizon, width),
        "gripper": gripper,
        "committed_rows": message.committed_rows,
    }
