"""Recordings of known messages, written by the recorder itself; no stack runs."""

import json
import time

import numpy as np
from rclpy.serialization import serialize_message
from sensor_msgs.msg import JointState
from vla_mbpo_msgs.action import ExecuteTask
from vla_mbpo_msgs.msg import (
    AttemptState,
    CandidateVerdict,
    FailureRisk,
    GateDecision,
    GateState,
    ImaginationVerdict,
    Reason,
    SceneState,
    TaskStatus,
)

from vla_mbpo.arm.commitment import Commitment
from vla_mbpo.core.chunk import ActionChunk, ActionType
from vla_mbpo.nodes import convert, qos
from vla_mbpo.nodes.notes import NOTES
from vla_mbpo.nodes.recorded import RECORDED, info
from vla_mbpo.record.message import Message
from vla_mbpo.record.recorder import Limits, Recorder

PERIOD = 50_000_000  # ns
SIZE, K, POLICY, SAY = 16, 2, "few@0123456789ab", "press the button"
CLOSED, OPEN = 0.02, 0.06  # m
_PLACE = {row.topic.name: place for place, row in enumerate(RECORDED)}
_OUTCOMES = {"succeeded": ExecuteTask.Result.SUCCEEDED, "failed": ExecuteTask.Result.TIMED_OUT,
             "aborted": ExecuteTask.Result.STOPPED}  # fmt: skip


def set_point(spec, seconds):
    """Where the arm of every recording is told to be, so long after its first look."""
    return spec.home + 0.05 * np.asarray(seconds)[..., None]


def plan(spec, look, candidate):
    """Candidate of a look: positions (H, n) and opening (H,)."""
    rows = np.arange(1, spec.horizon + 1)[:, None]
    return spec.home + 0.001 * (look + 1) * rows + 0.01 * candidate, np.full(spec.horizon, OPEN)


class Attempt:
    """Messages of one attempt, ``rows`` long; the policy looks at rows ``looks``. ``say`` adds more.

    ``earlier``: cost events of the attempt before that the scene still lists; it was reset by default.
    """

    def __init__(
        self, spec, rows=64, looks=None, success=None, outcome=None, instruction=SAY, seed=None, earlier=0
    ):  # fmt: skip
        self.spec, self.rows, self.success = spec, rows, success
        self.looks = list(range(0, rows, 8)) if looks is None else looks
        self.outcome, self.seed = outcome or ("failed" if success is None else "succeeded"), seed
        self.instruction, self.earlier = instruction, ["drop"] * earlier
        self.begin = (time.time_ns() - 60_000_000_000) // PERIOD * PERIOD  # of the first row
        self._said = []
        self._body()
        self._told()

    def stamp(self, row):
        """When a row begins [ns]."""
        return self.begin + round(row * PERIOD)

    def set_id(self, look):
        return self.stamp(self.looks[look])

    def say(self, topic, message, row):
        """A message at a row, which may be a fraction or lie before the first one."""
        if hasattr(message, "header"):
            message.header.stamp = convert.to_time(self.stamp(row))
        self._said.append((self.stamp(row), topic, message))

    def decide(self, look, candidate, check="", verdict=CandidateVerdict.UNSAFE):
        reasons = [Reason(check=check)] if check else []
        stamp = convert.to_time(self.set_id(look))
        decision = GateDecision(chunk_set_id=self.set_id(look), candidate=candidate, accepted=not check,
                                reasons=reasons, observation_stamp=stamp)  # fmt: skip
        decision.imagination.verdict = verdict
        self.say(qos.GATE_DECISION, decision, self.looks[look] + 0.7)

    def imagine(self, look, verdicts):
        said = [CandidateVerdict(candidate=k, verdict=one) for k, one in enumerate(verdicts)]
        stamp = convert.to_time(self.set_id(look))
        verdict = ImaginationVerdict(chunk_set_id=self.set_id(look), observation_stamp=stamp, candidates=said)
        self.say(qos.VERDICT, verdict, self.looks[look] + 0.6)

    def risk(self, look, alarm):
        stamp = convert.to_time(self.set_id(look))
        said = FailureRisk(chunk_set_id=self.set_id(look), observation_stamp=stamp, known=True, alarm=alarm)
        self.say(qos.RISK, said, self.looks[look] + 0.6)

    def takeover(self, first, after):
        """A person is in command from row ``first`` until row ``after``; None: until the end."""
        self.say(qos.GATE_STATE, GateState(mode=GateState.TELEOP, intervention=True), first)
        if after is not None:
            self.say(qos.GATE_STATE, GateState(mode=GateState.AUTONOMOUS), after)

    def record(self, folder):
        """Write it; the folder of the episode."""
        before = set(folder.glob("*/episode.json"))
        limits = Limits(free_bytes=0, lead=1.0, linger=0.0, flush_period=0.05, queue_bytes=1 << 30)
        recorder = Recorder(folder, [info(row) for row in RECORDED], limits, lambda text: None)
        for number, (stamp, topic, message) in enumerate(sorted(self._said, key=lambda said: said[0]), 1):
            make = NOTES.get(topic.name)
            note = make(message) if make else None
            recorder.put(Message(_PLACE[topic.name], stamp, stamp, number, serialize_message(message), 0, note))
        recorder.stop(30.0)
        (made,) = set(folder.glob("*/episode.json")) - before
        return made.parent

    def _body(self):
        """What sensors and arm driver say, also in the second before the attempt."""
        spec, rng = self.spec, np.random.default_rng(0)
        names = [*spec.joints, *spec.gripper_joints]
        for row in range(-20, self.rows + 1):
            joints = set_point(spec, row * PERIOD / 1e9)
            position = [*joints, *(0.02 for _ in spec.gripper_joints)]
            self.say(qos.JOINT_STATES, JointState(name=names, position=position, velocity=[0.1] * len(names)), row)
            for view in (qos.HEAD_IMAGE, qos.WRIST_IMAGE):
                picture = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
                picture[0, 0] = row % 256
                self.say(view, convert.to_image(picture, self.stamp(row), "camera"), row)
        for tick in range(-50, round(2.5 * self.rows) + 3):
            commanded = set_point(spec, tick / 50)
            gripper = np.full(1, OPEN if tick < 50 else CLOSED)
            said = Commitment(self.begin + tick * 20_000_000, spec.joints, 0, self.begin, PERIOD, commanded[None],
                              gripper, commanded, np.zeros(len(spec.joints)), 0, 0, 0)  # fmt: skip
            self.say(qos.COMMITMENT, convert.to_commitment(said, spec.base_frame), tick / 2.5)

    def _told(self):
        """Attempt, gate, task's status and the policy's sets."""
        done = self.rows if self.success is None else self.success
        self.say(qos.ATTEMPT, AttemptState(number=1, running=True, instruction=self.instruction), -0.5)
        end = AttemptState(number=1, instruction=self.instruction, outcome=_OUTCOMES[self.outcome])
        self.say(qos.ATTEMPT, end, self.rows + 0.5)
        self.say(qos.GATE_STATE, GateState(mode=GateState.AUTONOMOUS), -1)
        # What is left of the attempt before: it had gone well.
        self.say(qos.TASK_STATUS, TaskStatus(success=True, cost_events=["drop", "drop"]), -10)
        for row in range(0, self.rows, 2):
            events = [*self.earlier, *(["hit"] if row >= 20 else [])]
            said = TaskStatus(success=row >= done, cost_events=events, seed=self.seed or 0)
            self.say(qos.TASK_STATUS, said, row)
        if self.seed is not None:
            self.say(qos.SCENE_STATE, SceneState(task="button", seed=self.seed), 0)
        self._sets(self.instruction)

    def _sets(self, instruction):
        spec = self.spec
        for look, row in enumerate(self.looks):
            stamp, chunks = self.stamp(row), []
            for candidate in range(K):
                positions, gripper = plan(spec, look, candidate)
                chunks.append(ActionChunk(
                    chunk_set_id=stamp, candidate=candidate, observation_stamp=stamp, expiry=stamp + 16 * PERIOD,
                    action_type=ActionType.JOINT_POSITION, joint_names=spec.joints, reference=spec.home,
                    row_period=PERIOD, positions=positions, gripper=gripper, committed_rows=0,
                ))  # fmt: skip
            message = convert.to_chunk_set(chunks, stamp, spec.base_frame)
            message.policy_version, message.instruction = POLICY, instruction
            message.features = convert.to_floats(np.full(4, look + 1.0))
            self.say(qos.ACTION_CHUNKS, message, row + 0.5)


def relabel(folder, **changed):
    """Other values in an episode's labels."""
    path = folder / "episode.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
