import time

import numpy as np
import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from scripted_bundle import SPEED
from std_msgs.msg import String
from vla_mbpo_msgs.msg import GateState

from vla_mbpo.arm.commitment import Commitment
from vla_mbpo.core.observation import Observation
from vla_mbpo.core.state import RobotState
from vla_mbpo.nodes import convert, frames, qos
from vla_mbpo.nodes.policy import Job, PolicyNode

PERIOD = 50_000_000


class Bench:
    """A policy node whose cameras, arm and gate are played by the test, frame by frame."""

    def __init__(self, graph, spec, bundle, **parameters):
        self.graph, self.spec = graph, spec
        values = {"bundle": bundle, "max_age": 2.0, **parameters}  # generous: the machine may be busy
        self.node = graph.start(lambda: PolicyNode("policy"), parameters={f"policy.{k}": v for k, v in values.items()})
        graph.activate()
        graph.listen(qos.ACTION_CHUNKS)
        topics = (qos.HEAD_IMAGE, qos.WRIST_IMAGE, qos.JOINT_STATES, qos.COMMITMENT, qos.GATE_STATE, qos.INSTRUCTION)
        self.head, self.wrist, self.joints, self.commit, self.gate, self.instruct = map(graph.talk, topics)
        self.writer = convert.JointStateWriter(spec)
        self.rng = np.random.default_rng(0)
        self.still = None
        self.start = time.time_ns() - 40_000_000
        self.frames = 0

    def go(self, instruction="press the button", epoch=1):
        self.gate(GateState(mode=GateState.AUTONOMOUS, epoch=epoch))
        self.instruct(String(data=instruction))
        self.graph.until(lambda: self.node._epoch == epoch and self.node._mode == GateState.AUTONOMOUS)
        self.graph.spin(0.1)

    def stamp(self, frame):
        return self.start + frame * PERIOD

    def frame(self, count=1, wrist=True, age=0, size=96):
        """The next frames in real time: joint states, both images."""
        for _ in range(count):
            stamp = self.stamp(self.frames) - age
            self.graph.spin(max(0.0, (stamp + age + 30_000_000 - time.time_ns()) / 1e9))
            self.joints(self.writer.write(RobotState(stamp, self.spec.home, np.zeros(7), 0.08)))
            self.graph.until(lambda t=stamp: self.last_joints() == t)
            seen = self.pairs
            views = {"head": self.head, **({"wrist": self.wrist} if wrist else {})}
            for view, send in views.items():
                image = self.rng.integers(0, 255, (size, size, 3), dtype=np.uint8) if self.still is None else self.still
                send(convert.to_image(image, stamp, f"{view}_camera_optical_frame"))
            self.frames += 1
            if wrist:
                self.graph.until(lambda n=seen: self.pairs > n)
        self.graph.until(lambda: self.node._worker.idle)
        self.graph.spin(0.05)

    def hold_rows(self, first_frame, rows=12):
        """Publish a commitment made at ``first_frame``: the last joint at 0.01 rad per row, one row per frame."""
        now = self.stamp(first_frame)
        positions = np.tile(self.spec.home, (rows, 1))
        positions[:, -1] += 0.01 * np.arange(1, rows + 1)
        none = np.zeros(7)
        made = Commitment(
            now, self.spec.joints, 5, now + PERIOD, PERIOD, positions, np.full(rows, 0.08), self.spec.home, none
        )
        self.commit(convert.to_commitment(made, "base"))
        self.graph.spin(0.02)

    def last_joints(self):
        joints = self.node._inputs._joints
        return convert.to_ns(joints[-1].header.stamp) if joints else 0

    @property
    def pairs(self):
        return self.node.report()["frame_pairs"]

    @property
    def sets(self):
        return self.graph.heard["/policy/action_chunks"]


def test_nothing_is_proposed_without_an_instruction_or_autonomy(graph, spec, bundle):
    bench = Bench(graph, spec, bundle)
    bench.frame(3)
    bench.go("")
    bench.frame(3)
    bench.gate(GateState(mode=GateState.HOLD, epoch=2))
    bench.instruct(String(data="press the button"))
    bench.frame(3)
    assert not bench.sets


def test_k_chunks_every_eight_frames(graph, spec, bundle):
    bench = Bench(graph, spec, bundle, k=3)
    bench.go()
    bench.frame(18)
    assert [convert.to_ns(s.observation_stamp) for s in bench.sets] == [bench.stamp(i) for i in (0, 8, 16)]
    message = bench.sets[0]
    assert message.instruction == "press the button" and message.policy_version == bench.node._session.version
    assert [c.candidate for c in message.chunks] == [0, 1, 2] and len(message.features) > 0
    for chunk in map(convert.from_chunk, message.chunks):
        assert (chunk.observation_stamp, chunk.expiry) == (bench.stamp(0), bench.stamp(16))
        np.testing.assert_allclose(chunk.reference, spec.home)
        np.testing.assert_allclose(np.diff(chunk.positions[:, -1]), 0.05 * SPEED, atol=1e-3)
        assert chunk.committed_rows == 0
    assert len({convert.from_chunk(c).positions.tobytes() for c in message.chunks}) == 3  # candidates differ


def test_committed_rows_are_the_prefix_but_not_of_the_first_chunk(graph, spec, bundle):
    bench = Bench(graph, spec, bundle)
    bench.go()
    bench.hold_rows(0)
    bench.frame(8)
    bench.hold_rows(8)
    bench.frame(1)
    first, second = (convert.from_chunk(s.chunks[0]) for s in bench.sets)
    assert (first.committed_rows, second.committed_rows) == (0, 3)
    np.testing.assert_allclose(second.positions[:3, -1], spec.home[-1] + 0.01 * np.arange(1, 4), atol=1e-9)


@pytest.mark.parametrize("cause", ["instruction", "epoch", "holding"])
def test_what_was_committed_is_dropped(graph, spec, bundle, cause):
    bench = Bench(graph, spec, bundle)
    bench.go()
    bench.frame(8)
    bench.hold_rows(8)
    if cause == "instruction":
        bench.go("open the drawer")
    elif cause == "epoch":
        bench.go(epoch=2)
    else:
        stamp, none = bench.stamp(8), np.zeros((0, 7))
        holding = Commitment(stamp, spec.joints, 0, 0, PERIOD, none, np.zeros(0), spec.home, np.zeros(7))
        bench.commit(convert.to_commitment(holding, "base"))
        graph.spin(0.05)
    bench.frames += 2
    bench.frame(2)
    assert len(bench.sets) == 2 and bench.sets[1].chunks[0].committed_rows == 0


def test_frames_without_partner_too_old_or_of_the_wrong_size_are_not_used(graph, spec, bundle):
    bench = Bench(graph, spec, bundle)
    bench.go()
    bench.frame(3, wrist=False)
    assert not bench.sets and bench.node.warning() == ""
    bench.frame(2, age=2_400_000_000)
    assert not bench.sets and "observation_age" in bench.node.warning()
    bench.frame(1, size=64)
    assert not bench.sets and "96" in bench.node.warning()
    bench.frame(9)
    assert bench.sets and bench.node.warning() == ""


def test_frozen_pixels_end_inference(graph, spec, bundle):
    bench = Bench(graph, spec, bundle, replan_rows=2, max_frozen=0.2)
    bench.go()
    bench.still = bench.rng.integers(0, 255, (96, 96, 3), dtype=np.uint8)
    bench.frame(12)
    assert 1 <= len(bench.sets) <= 3
    assert "observation_frozen" in bench.node.warning()


def test_who_misses_the_joint_states_that_the_gate_hears_ends_to_be_started_again(graph, spec, bundle, monkeypatch):
    """Incident: a policy that had been started on a busy machine heard cameras and gate, but never the joint states."""
    monkeypatch.setattr(frames, "DEAF_PAIRS", 4)
    monkeypatch.setattr(frames, "DEAF_AFTER", 0.0)
    bench = Bench(graph, spec, bundle)
    bench.go()
    for _ in range(4):
        assert not bench.node.ended.done()
        seen, stamp = bench.pairs, time.time_ns()
        for view, send in (("head", bench.head), ("wrist", bench.wrist)):
            image = bench.rng.integers(0, 255, (96, 96, 3), dtype=np.uint8)
            send(convert.to_image(image, stamp, f"{view}_camera_optical_frame"))
        graph.until(lambda n=seen: bench.pairs > n)
    graph.until(bench.node.ended.done)
    assert bench.node.exit_code == 1


def test_unknown_words_are_refused_by_name(graph, spec, bundle):
    bench = Bench(graph, spec, bundle)
    bench.go("juggle the cubes")
    bench.frame(2)
    assert not bench.sets and "juggle" in bench.node.warning() and "cube" in bench.node.warning()
    bench.go("press the button")
    bench.frame(2)
    assert bench.sets and bench.node.warning() == ""


def test_the_end_of_an_attempt_with_unknown_words_ends_the_warning(graph, spec, bundle):
    """Incident: the node warned of the instruction until the next one."""
    bench = Bench(graph, spec, bundle)
    bench.go("juggle the cubes")
    graph.until(lambda: "juggle" in bench.node.warning())
    bench.instruct(String(data=""))
    graph.until(lambda: bench.node.warning() == "")


def test_a_changed_bundle_is_refused(graph, bundle, tmp_path):
    copy = tmp_path / "changed"
    copy.mkdir()
    for file in bundle.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    (copy / "step.int8.onnx").write_bytes(b"something else")
    node = graph.start(lambda: PolicyNode("policy"), parameters={"policy.bundle": copy})
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert "sha256" in node._fault


def test_a_look_gives_the_same_candidates_whatever_was_looked_at_before(graph, spec, bundle):
    """So that a replay of a recording draws the noise that was drawn then."""
    bench = Bench(graph, spec, bundle, k=2)
    bench.go()
    bench.frame(1)
    (first,) = bench.sets
    rng, none = np.random.default_rng(1), np.zeros((0, 7))
    pictures = rng.integers(0, 255, (2, 96, 96, 3), dtype=np.uint8)

    def look(stamp):
        seen, before = Observation(stamp, *pictures, spec.home, np.zeros(7), 0.08), len(bench.sets)
        bench.node._infer(Job(bench.node._session, seen, "press the button", none, none[:, 0], bench.node._round, 1.0))
        graph.until(lambda: len(bench.sets) > before)
        return bench.sets[-1].chunks[1].positions

    stamp = convert.to_ns(first.observation_stamp) + PERIOD
    one, other, again = look(stamp), look(stamp + PERIOD), look(stamp)
    assert one == again and one != other
