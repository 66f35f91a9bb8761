"""The imagination node: one answer for every chunk set, in time, UNKNOWN with its reason where it cannot know."""

import os
import shutil
import signal
import time

import numpy as np
import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from vla_mbpo_msgs.msg import ActionChunkSet, CandidateVerdict

from vla_mbpo.core.chunk import ActionChunk, ActionType
from vla_mbpo.core.state import RobotState
from vla_mbpo.nodes import convert, qos
from vla_mbpo.nodes.imagination import ImaginationNode
from vla_mbpo.policy.bundle import Bundle

PERIOD = 50_000_000
LENIENT = {"unsafe_cost": 1.0, "max_uncertainty": 1.0}  # an untrained model says anything


class Bench:
    """An imagination node whose cameras, arm and policy are played by the test."""

    def __init__(self, graph, spec, world_model, policy, **parameters):
        self.graph, self.spec = graph, spec
        values = {"bundle": world_model, "deadline": 1.0, "max_age": 2.0, "dream_period": 0.0, **LENIENT, **parameters}
        overrides = {f"imagination.{k}": v for k, v in values.items()}
        self.node = graph.start(lambda: ImaginationNode("imagination"), parameters=overrides)
        graph.activate()
        graph.listen(qos.VERDICT, qos.DREAM)
        topics = (qos.HEAD_IMAGE, qos.WRIST_IMAGE, qos.JOINT_STATES, qos.ACTION_CHUNKS)
        self.head, self.wrist, self.joints, self.chunks = map(graph.talk, topics)
        self.version = Bundle.load(policy).version
        self.writer = convert.JointStateWriter(spec)
        self.rng = np.random.default_rng(0)

    def frame(self, head=None, wrist=None, position=0.0, stamp=None, frames=("head", "wrist")):
        """One observation now; its stamp."""
        stamp = stamp or time.time_ns()
        self.joints(self.writer.write(RobotState(stamp, self.spec.home + position, np.zeros(7), 0.08)))
        self.graph.spin(0.03)
        pictures = [self.rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) if x is None else x for x in (head, wrist)]
        for say, picture, frame in zip((self.head, self.wrist), pictures, frames, strict=True):
            say(convert.to_image(picture, stamp, f"{frame}_camera_optical_frame"))
        self.graph.spin(0.05)
        return stamp

    def ask(self, stamp, speeds=(0.1, 0.2, 0.3), spoil=None, **changes):
        """A chunk set made from the observation at ``stamp``, and the verdict on it."""
        chunks = []
        for i, speed in enumerate(speeds):
            rows = np.tile(self.spec.home, (16, 1))
            rows[:, -1] += speed * 0.05 * np.arange(1, 17)
            chunk = ActionChunk(
                stamp, i, stamp, stamp + 16 * PERIOD, ActionType.JOINT_POSITION, self.spec.joints, self.spec.home,
                PERIOD, rows, np.full(16, 0.08),
            )  # fmt: skip
            chunks.append(convert.to_chunk(chunk, stamp, "base"))
        if spoil:
            spoil(chunks)
        message = ActionChunkSet(
            chunk_set_id=stamp, instruction="press the button", policy_version=self.version, chunks=chunks
        )
        message.observation_stamp = convert.to_time(stamp)
        for name, value in changes.items():
            setattr(message, name, value)
        before = len(self.verdicts)
        self.chunks(message)
        self.graph.until(lambda: len(self.verdicts) > before)
        return self.verdicts[-1]

    @property
    def verdicts(self):
        return self.graph.heard[qos.VERDICT.name]


@pytest.fixture
def bench(graph, spec, tiny_world_model, tiny_bundle):
    return Bench(graph, spec, tiny_world_model, tiny_bundle)


def known(verdict):
    return [one.verdict != CandidateVerdict.UNKNOWN for one in verdict.candidates]


def reason(verdict):
    """Why all candidates are UNKNOWN."""
    assert not any(known(verdict)) and not verdict.order
    return verdict.candidates[0].reasons[0]


def test_every_candidate_is_judged_against_the_observation_of_its_stamp(bench):
    stamp = bench.frame()
    bench.frame()
    verdict = bench.ask(stamp)
    assert verdict.chunk_set_id == stamp and convert.to_ns(verdict.observation_stamp) == stamp
    assert verdict.model_version == bench.node._vetting.session.version
    assert known(verdict) == [True] * 3 and sorted(verdict.order) == [0, 1, 2]
    for one in verdict.candidates:
        assert 0 <= one.success_probability <= 1 and 0 <= one.cost_probability <= 1 and np.isfinite(one.score)
    assert 0 < convert.to_ns(verdict.latency) < 1e9


def test_fast_cameras_do_not_push_an_observation_out(bench):
    """Incident: 12 were kept, which is 0.2 s at 60 pictures a second."""
    stamp = bench.frame()
    for k in range(1, 15):
        bench.frame(stamp=stamp + k * 16_000_000)
    assert known(bench.ask(stamp)) == [True] * 3


def test_an_observation_that_never_arrived_is_unknown(bench):
    bench.frame()
    assert "has not arrived" in reason(bench.ask(time.time_ns()))


@pytest.mark.parametrize(
    "view", [{"head": np.zeros((32, 32, 3), np.uint8)}, {"wrist": np.full((32, 32, 3), 255, np.uint8)}],
    ids=["black head", "white wrist"],
)  # fmt: skip
def test_a_view_that_shows_nothing_is_unknown(bench, view):
    bench.frame()
    assert "observation_contrast" in reason(bench.ask(bench.frame(**view)))
    assert all(known(bench.ask(bench.frame())))


def test_a_refused_pair_is_filed_under_the_stamp_of_its_head_view(bench):
    """Incident: the reason was under the wrist view's stamp, and the verdict spoke of an observation not arrived."""
    head, wrist = np.zeros((32, 32, 3), np.uint8), bench.rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    stamp = time.time_ns()
    bench.head(convert.to_image(head, stamp, "head_camera_optical_frame"))
    bench.graph.spin(0.05)
    bench.wrist(convert.to_image(wrist, stamp + 10_000_000, "wrist_camera_optical_frame"))
    bench.graph.spin(0.05)
    assert "observation_contrast" in reason(bench.ask(stamp))


def test_swapped_views_are_unknown(bench):
    assert not any(known(bench.ask(bench.frame(frames=("wrist", "head")))))
    assert all(known(bench.ask(bench.frame())))


def test_a_frozen_view_is_unknown(bench):
    still = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    end = time.monotonic() + 1.2
    while time.monotonic() < end:
        stamp = bench.frame(wrist=still)
    assert "observation_frozen" in reason(bench.ask(stamp))


def test_not_a_number_in_the_joint_states_is_unknown(bench):
    assert not any(known(bench.ask(bench.frame(position=np.nan))))
    assert all(known(bench.ask(bench.frame())))


def spoil_number(chunks):
    chunks[1].positions[3] = float("nan")


def spoil_length(chunks):
    chunks[1].positions.pop()


def spoil_names(chunks):
    chunks[0].joint_names = ["a", "b", "c", "d", "e", "f", "g"]


@pytest.mark.parametrize(
    "how, text",
    [
        ({"spoil": spoil_number}, "not finite"),
        ({"spoil": spoil_length}, "size 111"),
        ({"spoil": spoil_names}, "another observation or arm"),
        ({"policy_version": "sft_other@123456789abc"}, "sft_other@123456789abc"),
        ({"instruction": "sing a song"}, "unknown words"),
    ],
    ids=["NaN", "a number missing", "another arm", "another policy", "an unknown word"],
)
def test_what_cannot_be_judged_is_unknown_and_the_node_lives(bench, how, text):
    assert text in reason(bench.ask(bench.frame(), **how))
    assert all(known(bench.ask(bench.frame())))


def test_a_set_without_candidates_is_answered(bench):
    verdict = bench.ask(bench.frame(), speeds=())
    assert not verdict.candidates and not verdict.order


def test_an_answer_that_takes_too_long_is_unknown(graph, spec, tiny_world_model, tiny_bundle, monkeypatch):
    bench = Bench(graph, spec, tiny_world_model, tiny_bundle, deadline=0.1)
    judge = bench.node._vetting.judge
    monkeypatch.setattr(bench.node._vetting, "judge", lambda *a: (time.sleep(0.5), judge(*a))[1])
    stamp = bench.frame()
    assert "not answer in time" in reason(bench.ask(stamp))
    graph.spin(0.7)
    assert len(bench.verdicts) == 1  # and it is not taken back
    assert bench.node.report()["late"] == 1


def dreamed(bench):
    """The id of a dream that is finished before its moment; the first ones are late, the process takes its time.

    Incident: a helper that only waited for dreams of its newest request never saw one where the first was late.
    """
    dreams, known = bench.node._dreams, 0
    for _ in range(20):
        bench.ask(bench.frame())
        end = time.monotonic() + 20
        while dreams.id == known and time.monotonic() < end:
            bench.frame()
        if dreams.id != known and not dreams.idle and time.time_ns() < dreams.id + 14 * PERIOD:
            return dreams.id
        known = dreams.id
        while not dreams.idle:
            bench.frame()
    raise AssertionError("no dream in time")


def test_dreams_show_the_imagined_above_what_was_seen(graph, spec, tiny_world_model, tiny_bundle):
    bench = Bench(graph, spec, tiny_world_model, tiny_bundle, dream_period=0.01)
    stamp = dreamed(bench)
    end = stamp + 16 * PERIOD
    graph.spin((end - time.time_ns()) / 1e9)
    seen = bench.rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    bench.frame(head=seen, stamp=end)
    graph.until(lambda: bool(graph.heard[qos.DREAM.name]))
    picture = graph.heard[qos.DREAM.name][-1]
    assert picture.header.frame_id == f"dream {stamp}" and convert.to_ns(picture.header.stamp) == end
    image = convert.from_image(picture)
    assert image.shape == (64, 64, 3)
    np.testing.assert_array_equal(image[32:, :32], seen)
    assert bench.ask(bench.frame()).dream_id == stamp


def test_a_node_that_is_activated_again_amid_a_dream_dreams_on(graph, spec, tiny_world_model, tiny_bundle):
    """Incident: nobody took the answer of the dream from before, and the process was never asked again."""
    bench = Bench(graph, spec, tiny_world_model, tiny_bundle, dream_period=0.01)
    process = bench.node._dreamer._process
    os.kill(process.pid, signal.SIGSTOP)
    bench.ask(bench.frame())
    bench.frame()
    assert not bench.node._dreams.idle
    bench.node.trigger_deactivate()
    bench.node.trigger_activate()
    os.kill(process.pid, signal.SIGCONT)
    graph.until(lambda: graph.probe.count_subscribers(qos.ACTION_CHUNKS.name) == 1)
    graph.spin(0.3)
    end = time.monotonic() + 20.0
    while bench.node._dreams.idle:
        assert time.monotonic() < end
        bench.ask(bench.frame())
        bench.frame()


def test_a_dream_does_not_hold_up_the_verdicts(graph, spec, tiny_world_model, tiny_bundle):
    bench = Bench(graph, spec, tiny_world_model, tiny_bundle, dream_period=0.01)
    os.kill(bench.node._dreamer._process.pid, signal.SIGSTOP)  # the longest of all dreams
    bench.ask(bench.frame())
    bench.frame()
    assert not bench.node._dreams.idle
    assert all(all(known(bench.ask(bench.frame()))) for _ in range(3))


def test_when_the_dreaming_process_dies_the_vetting_goes_on(graph, spec, tiny_world_model, tiny_bundle):
    bench = Bench(graph, spec, tiny_world_model, tiny_bundle, dream_period=0.01)
    bench.node._dreamer._process.kill()
    bench.node._dreamer._process.wait()
    for _ in range(3):
        assert all(known(bench.ask(bench.frame())))
    assert "dreaming process is gone" in bench.node.warning()


def test_the_dreaming_process_ends_with_the_node(graph, spec, tiny_world_model, tiny_bundle):
    bench = Bench(graph, spec, tiny_world_model, tiny_bundle, dream_period=0.01)
    process = bench.node._dreamer._process
    assert process.poll() is None
    bench.node.shut_down()
    assert process.poll() is not None


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"action_type": 1}, "not all joint positions"),
        ({"committed_rows": 2}, "same rows committed"),
        ({"row_period": convert.to_duration(100_000_000)}, "100 ms"),
    ],
    ids=["another type", "another prefix", "another period"],
)
def test_rows_that_the_world_model_cannot_read_are_unknown(bench, changes, text):
    def spoil(chunks):
        for chunk in chunks if "committed_rows" not in changes else chunks[:1]:
            for name, value in changes.items():
                setattr(chunk, name, value)

    assert text in reason(bench.ask(bench.frame(), spoil=spoil))


def test_a_damaged_bundle_is_refused_at_configure(graph, tiny_world_model, tmp_path):
    copy = shutil.copytree(tiny_world_model, tmp_path / "copy")
    with (copy / "observe.int8.onnx").open("ab") as file:
        file.write(b"!")
    node = graph.start(lambda: ImaginationNode("imagination"), parameters={"imagination.bundle": copy})
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert "observe.int8.onnx" in node._fault
