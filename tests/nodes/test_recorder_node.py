"""The recorder's node: what was said is on disk, and says what it was."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.request import Request, urlopen

import pytest
from helpers import Graph, free_port
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.serialization import deserialize_message
from rosbags.rosbag2 import Reader
from sensor_msgs.msg import Image
from std_msgs.msg import Bool, String
from vla_mbpo_msgs.action import ExecuteTask
from vla_mbpo_msgs.msg import ApprovedChunk, AttemptState, GateDecision, GateState, Reason
from vla_mbpo_msgs.srv import Record

from vla_mbpo.monitor.guard import HEADER
from vla_mbpo.nodes import convert, qos
from vla_mbpo.nodes.monitor import MonitorNode
from vla_mbpo.nodes.recorded import RECORDED
from vla_mbpo.nodes.recorder import RecorderNode

SAY = "open the drawer"


class Bench:
    def __init__(self, graph: Graph, out):
        self.graph, self.out = graph, out
        self.node = graph.start(lambda: RecorderNode("recorder"), parameters={"recorder.out": str(out)})
        graph.activate()
        self._attempt = graph.talk(qos.ATTEMPT)

    def attempt(self, running, outcome=0):
        message = AttemptState(number=1, running=running, instruction=SAY, outcome=outcome)
        message.header.stamp = convert.to_time(time.time_ns())
        self._attempt(message)
        self.graph.spin(0.1)

    def ask(self, what, **words):
        return self.graph.call(Record, f"{qos.RECORDER}/{what}", Record.Request(**words))

    def episode(self):
        """Labels and folder of the only episode, once it has ended."""
        found = lambda: list(self.out.glob("*/episode.json"))  # noqa: E731
        self.graph.until(lambda: bool(found()) and json.loads(found()[0].read_text())["state"] != "recording")
        (path,) = found()
        return json.loads(path.read_text()), path.parent


@pytest.fixture
def bench(graph, tmp_path):
    return Bench(graph, tmp_path / "episodes")


def in_bag(folder, topic):
    with Reader(folder) as reader:
        found = [data for connection, _, data in reader.messages() if connection.topic == topic.name]
    return [deserialize_message(data, topic.type) for data in found]


def test_an_attempt_is_recorded_as_it_was_said(bench):
    say = bench.graph.talk(qos.GATE_DECISION)
    bench.attempt(True)
    sent = [GateDecision(chunk_set_id=number, accepted=False, reasons=[Reason(check="reach")]) for number in range(20)]
    for message in sent:
        say(message)
        bench.graph.spin(0.01)
    bench.attempt(False, ExecuteTask.Result.TIMED_OUT)
    labels, folder = bench.episode()
    assert in_bag(folder, qos.GATE_DECISION) == sent
    assert (labels["instruction"], labels["outcome"]) == (SAY, "failed")
    assert labels["decisions"] == {"accepted": 0, "rejected": 20} and labels["vetoes"] == {"reach": 20}


def test_pictures_of_best_effort_cameras_are_recorded(bench):
    cameras = [bench.graph.talk(topic) for topic in (qos.HEAD_IMAGE, qos.WRIST_IMAGE)]
    bench.attempt(True)
    for _ in range(10):
        for say in cameras:
            say(Image(height=96, width=96, step=288, encoding="rgb8", data=bytes(96 * 288)))
        bench.graph.spin(0.05)
    bench.attempt(False)
    _, folder = bench.episode()
    assert [len(in_bag(folder, topic)) for topic in (qos.HEAD_IMAGE, qos.WRIST_IMAGE)] == [10, 10]


def test_an_attempt_without_cameras_is_bad(bench):
    bench.attempt(True)
    bench.attempt(False)
    labels, _ = bench.episode()
    assert labels["state"] == "bad" and qos.HEAD_IMAGE.name in labels["reasons"][0]


def test_a_persons_part_is_a_span(bench):
    say = bench.graph.talk(qos.GATE_STATE)
    bench.attempt(True)
    for second, there in ((1, False), (2, True), (3, False)):
        message = GateState(intervention=there)
        message.header.stamp.sec = second
        say(message)
        bench.graph.spin(0.05)
    bench.attempt(False)
    labels, _ = bench.episode()
    assert labels["interventions"] == [{"begin_ns": 2 * 10**9, "end_ns": 3 * 10**9}]


def test_an_approved_chunk_without_a_decision_makes_the_episode_bad(bench):
    say = bench.graph.talk(qos.APPROVED_CHUNK)
    bench.attempt(True)
    say(ApprovedChunk(chunk_set_id=7, candidate=3))
    bench.attempt(False)
    labels, _ = bench.episode()
    assert any("7/3" in reason for reason in labels["reasons"])


def test_a_stop_that_anybody_published_is_recorded(bench):
    bench.attempt(True)
    say = bench.graph.probe.create_publisher(Bool, qos.ESTOP.name, qos.ANYBODY)
    bench.graph.until(lambda: say.get_subscription_count() > 0)
    bench.graph.spin(0.1)
    say.publish(Bool(data=True))
    bench.graph.spin(0.1)
    bench.attempt(False)
    _, folder = bench.episode()
    assert in_bag(folder, qos.ESTOP) == [Bool(data=True)]


def test_the_services_start_stop_and_label(bench):
    say = bench.graph.talk(qos.INSTRUCTION)
    started = bench.ask("start", instruction="by hand")
    say(String(data="a"))
    bench.graph.spin(0.2)
    stopped = bench.ask("stop", outcome="failed")
    assert started.success and stopped.success and started.episode == stopped.episode
    assert bench.ask("label", outcome="succeeded").success
    labels, folder = bench.episode()
    assert (labels["kind"], labels["instruction"], labels["outcome"]) == ("manual", "by hand", "succeeded")
    assert String(data="a") in in_bag(folder, qos.INSTRUCTION)


def test_the_last_seconds_are_saved_by_service(bench):
    say = bench.graph.talk(qos.GATE_STATE)
    for number in range(5):
        say(GateState(epoch=number))
        bench.graph.spin(0.05)
    answer = bench.ask("save", instruction="looks odd")
    assert answer.success and len(in_bag(bench.out / answer.episode, qos.GATE_STATE)) == 5


def test_an_order_that_makes_no_sense_says_why(bench):
    answer = bench.ask("stop")
    assert not answer.success and "none is being recorded" in answer.message


def test_an_order_that_fails_in_an_unforeseen_way_says_how(bench, monkeypatch):
    """Incident: the error was only in the log, and the answer was that the disk is busy."""
    monkeypatch.setattr(bench.node._recorder, "_stop", lambda order: {}["bag"])
    answer = bench.ask("stop")
    assert not answer.success and answer.message == "KeyError: 'bag'"
    assert "KeyError" in bench.node.warning()


def test_deactivation_ends_the_episode(bench):
    bench.attempt(True)
    bench.node.trigger_deactivate()
    (path,) = bench.out.glob("*/episode.json")
    assert json.loads(path.read_text())["outcome"] == "aborted"


def test_without_its_thread_the_node_ends_with_an_error(bench):
    """Incident: the thread had died, and the node stayed active and recorded nothing."""
    bench.node._recorder.stop(5.0)
    bench.graph.until(bench.node.ended.done)
    assert bench.node.exit_code == 1


def test_every_topic_of_the_path_is_heard():
    names = {row.topic.name for row in RECORDED}
    topics = {value.name for value in vars(qos).values() if isinstance(value, qos.Topic)}
    # Drawn for people, read by no node, or news for the other nodes only.
    drawn = (qos.DREAM, qos.MARKERS, qos.VOLUMES, qos.OVERLAY)
    left_out = (*drawn, qos.HEAD_DEPTH, qos.WRIST_DEPTH, qos.HEARTBEAT, qos.TASK_HEARTBEAT)
    left_out = (*left_out, qos.CLOCK, qos.TRAINING, qos.READY)
    assert names == topics - {topic.name for topic in left_out}


def test_a_folder_that_cannot_be_written_to_is_an_error_before_anything_moves(graph, tmp_path):
    (tmp_path / "file").touch()
    node = graph.start(lambda: RecorderNode("recorder"), parameters={"recorder.out": str(tmp_path / "file" / "x")})
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE and "recorder.out" in node._fault


def test_the_page_starts_saves_and_ends_a_recording(graph, tmp_path):
    port = free_port()
    graph.start(
        lambda: RecorderNode("recorder"),
        lambda: MonitorNode("monitor"),
        parameters={"recorder.out": str(tmp_path), "monitor.port": port},
    )
    graph.activate()
    graph.spin(1.0)
    for what in ("start", "save", "stop/failed"):
        with ThreadPoolExecutor(1) as page:
            url = f"http://127.0.0.1:{port}/record/{what}"
            order = Request(url, b"", {HEADER: graph.nodes[-1]._page.guard.token})
            answer = page.submit(lambda order=order: json.loads(urlopen(order, timeout=8).read())["said"])
            graph.until(answer.done, 10.0)
        assert answer.result().startswith(what.split("/")[0])
    found = [json.loads(path.read_text()) for path in tmp_path.glob("*/episode.json")]
    assert sorted((labels["kind"], labels["outcome"]) for labels in found) == [("manual", "failed"), ("saved", "")]
