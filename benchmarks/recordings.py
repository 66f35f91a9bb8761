"""Recordings as the recorder makes them, without a running stack: of any pictures, and of experts in the simulator."""

import os
from collections.abc import Collection, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.serialization import serialize_message
from vla_mbpo_msgs.msg import (
    ActionChunkSet,
    ApprovedChunk,
    AttemptState,
    Commitment,
    FailureRisk,
    GateDecision,
    GateState,
    Reason,
    TaskStatus,
)

from vla_mbpo.core.chunk import ActionChunk, ActionType
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.state import RobotState, Trajectory
from vla_mbpo.nodes import convert, qos
from vla_mbpo.nodes.notes import NOTES
from vla_mbpo.nodes.recorded import RECORDED, info
from vla_mbpo.paths import ros_environment
from vla_mbpo.policy.runtime import REPLAN_ROWS
from vla_mbpo.record.episode import ATTEMPT, Episode
from vla_mbpo.record.message import Message
from vla_mbpo.sim.cameras import SceneCamera
from vla_mbpo.sim.experts import Expert
from vla_mbpo.sim.robot import SimRobot
from vla_mbpo.sim.scene import Scene
from vla_mbpo.sim.tasks import TASKS

BEGIN = 1_790_000_000_000_000_000  # ns
MS = 1_000_000  # ns
FEATURES = 32


@dataclass
class Story:
    """An attempt over T rows.

    Attributes:
        task, seed: of the scene.
        head, wrist: (T + 1, h, w, 3).
        positions: joints (T + 1, n) [rad]; commanded is each row's next one.
        opening: (T + 1,) [m], likewise.
        success_row: -1: it fails.
        person: rows in which a person has the arm.
        vetoed: chunk sets, from 1, whose first candidate the gate refuses.
        verdicts: of the imagination by chunk set.
        alarm: row from which on the failure detector is alarmed; -1: never.
        blind: rows without pictures.
        cost: rows in which a cost event begins.
        looks: rows at which the policy makes a chunk set, in order; none: every REPLAN_ROWS.
        late: by row, how late its pictures are [ns].
    """

    task: str
    seed: int
    head: NDArray[np.uint8]
    wrist: NDArray[np.uint8]
    positions: NDArray[np.float64]
    opening: NDArray[np.float64]
    success_row: int = -1
    person: Collection[int] = ()
    vetoed: Collection[int] = ()
    verdicts: dict[int, int] = field(default_factory=dict)
    alarm: int = -1
    blind: Collection[int] = ()
    cost: Collection[int] = ()
    looks: Sequence[int] = ()
    late: dict[int, int] = field(default_factory=dict)

    @property
    def sets(self) -> list[int]:
        """Rows of the chunk sets 1, 2 and so on."""
        return list(self.looks or range(0, self.rows, REPLAN_ROWS))

    @property
    def rows(self) -> int:
        """T."""
        return len(self.positions) - 1


def expert_story(spec: RobotSpec, task: str, seed: int, rows: int, size: int) -> Story:
    """What an expert does and the cameras see, at the row rate; ``size`` of the pictures [px]."""
    robot = SimRobot(spec, Scene.build(spec, task, seed))
    camera, expert = SceneCamera(robot.scene, size), Expert(robot)
    seen, commanded, openings, done = [], [robot.state().positions], [robot.state().gripper], -1
    try:
        for row in range(rows + 1):
            seen.append(camera.render(robot.qpos, "head", "wrist"))
            target, opening = expert.row()
            inside = np.clip(target, spec.lower, spec.upper)
            robot.accept(Trajectory(0, spec.joints, (spec.row_period,), inside[None], np.zeros((0, len(inside)))))
            robot.command_gripper(float(np.clip(opening, *spec.gripper_range)))
            robot.advance(robot.time + spec.row_period)
            commanded.append(inside)
            openings.append(opening)
            done = row if robot.referee.success and done < 0 else done
    finally:
        camera.close()
    head, wrist = (np.stack(pictures) for pictures in zip(*seen, strict=True))
    positions = np.array(commanded[:-1])
    return Story(task, seed, head, wrist, positions, np.array(openings[:-1]), done if done < rows else -1)


def record(root: Path, spec: RobotSpec, story: Story, begin: int = BEGIN, lost: int = 0) -> Path:
    """Write it as an episode; ``lost``: pictures that the recorder knows to have missed. Returns its folder."""
    os.environ.update(ros_environment())  # where message definitions are found
    topics = [info(row) for row in RECORDED]
    index = {topic.name: number for number, topic in enumerate(topics)}
    words = TASKS[story.task].instruction
    episode = Episode(root, ATTEMPT, words, topics, begin - 500 * MS)
    for received, topic, message in sorted(_messages(spec, story, begin), key=lambda said: said[0]):
        note = NOTES[topic.name](message) if topic.name in NOTES else None
        missing, lost = (lost, 0) if topic is qos.HEAD_IMAGE else (0, lost)
        data = serialize_message(message)
        episode.add(Message(index[topic.name], received, received, 0, data, lost=missing, note=note))
    episode.close()
    return episode.folder


def _stamped(message: Any, stamp: int) -> Any:
    message.header.stamp = convert.to_time(stamp)
    return message


def _messages(spec: RobotSpec, story: Story, begin: int) -> list[tuple[int, qos.Topic, Any]]:
    """When received [ns], on which topic, what."""
    said: list[tuple[int, qos.Topic, Any]] = []

    def say(topic: qos.Topic, message: Any, stamp: int) -> None:
        said.append((stamp + MS, topic, _stamped(message, stamp)))

    words = TASKS[story.task].instruction
    say(qos.ATTEMPT, AttemptState(number=1, running=True, instruction=words), begin - 400 * MS)
    for row in range(story.rows + 1):
        now = begin + row * spec.row_period
        _senses(spec, story, row, now, say)
        _control(spec, story, row, now, say)
        if row in story.sets:
            _plan(spec, story, row, now + story.late.get(row, 0), say)
    outcome = 0 if story.success_row >= 0 else 1
    over = AttemptState(number=1, running=False, instruction=words, outcome=outcome, message="it is over")
    say(qos.ATTEMPT, over, begin + story.rows * spec.row_period + 10 * MS)
    return said


def _senses(spec: RobotSpec, story: Story, row: int, now: int, say: Any) -> None:
    """Pictures, joints and the referee."""
    if row not in story.blind:
        seen = now + story.late.get(row, 0)
        say(qos.HEAD_IMAGE, convert.to_image(story.head[row], seen, "head"), seen)
        say(qos.WRIST_IMAGE, convert.to_image(story.wrist[row], seen + 2 * MS, "wrist"), seen + 2 * MS)
    state = RobotState(now, story.positions[row], 0.1 * story.positions[row], float(story.opening[row]))
    say(qos.JOINT_STATES, convert.JointStateWriter(spec).write(state), now)
    status = TaskStatus(task=story.task, instruction=TASKS[story.task].instruction, seed=story.seed)
    status.success = 0 <= story.success_row <= row
    status.cost_events = ["drop"] * sum(cost <= row for cost in story.cost)
    status.failed = story.success_row < 0 and row == story.rows
    say(qos.TASK_STATUS, status, now + 5 * MS)


def _control(spec: RobotSpec, story: Story, row: int, now: int, say: Any) -> None:
    """What the driver does, and who is in command."""
    number = sum(look < row for look in story.sets)
    commitment = Commitment(joint_names=list(spec.joints), chunk_set_id=number, rows_executed=row)
    commitment.commanded_positions = convert.to_doubles(story.positions[row])
    commitment.commanded_velocities = convert.to_doubles(np.zeros(len(spec.joints)))
    commitment.gripper = convert.to_doubles([story.opening[row]])
    say(qos.COMMITMENT, commitment, now)
    if row == story.rows:  # stamps are compared with a quarter of a microsecond's precision
        say(qos.COMMITMENT, deepcopy(commitment), now + MS)
    state = GateState(mode=GateState.AUTONOMOUS, epoch=1, intervention=row in story.person)
    say(qos.GATE_STATE, state, now + 6 * MS)


def _plan(spec: RobotSpec, story: Story, row: int, now: int, say: Any) -> None:
    """A chunk set, and what was made of it."""
    number, n = 1 + story.sets.index(row), len(spec.joints)
    rng = np.random.default_rng([story.seed, row])
    ahead = np.minimum(row + 1 + np.arange(spec.horizon), story.rows)
    chunks = [
        ActionChunk(
            chunk_set_id=number, candidate=k, observation_stamp=now, expiry=now + 1000 * MS,
            action_type=ActionType.JOINT_POSITION, joint_names=spec.joints, row_period=spec.row_period,
            positions=story.positions[ahead] + 1e-3 * rng.normal(size=(spec.horizon, n)), reference=np.zeros(n),
            gripper=story.opening[ahead], committed_rows=0,
        )
        for k in range(2)
    ]  # fmt: skip
    made: ActionChunkSet = convert.to_chunk_set(chunks, now + 10 * MS, spec.base_frame)
    made.policy_version, made.instruction = "made_up@0123456789ab", TASKS[story.task].instruction
    made.features = convert.to_floats(rng.normal(size=FEATURES))
    say(qos.ACTION_CHUNKS, made, now + 10 * MS)
    first = int(number in story.vetoed)
    if first:
        refused = GateDecision(chunk_set_id=number, candidate=0, reasons=[Reason(check="speed")])
        say(qos.GATE_DECISION, refused, now + 11 * MS)
    decision = GateDecision(chunk_set_id=number, candidate=first, accepted=True)
    decision.imagination.verdict = story.verdicts.get(number, 0)
    say(qos.GATE_DECISION, decision, now + 12 * MS)
    say(qos.APPROVED_CHUNK, ApprovedChunk(chunk_set_id=number, candidate=first), now + 13 * MS)
    risk = FailureRisk(chunk_set_id=number, known=True, alarm=0 <= story.alarm <= row)
    say(qos.RISK, risk, now + 14 * MS)
