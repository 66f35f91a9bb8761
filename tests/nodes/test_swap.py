"""Another release in the running nodes: all of them or none, between attempts, and back."""

import shutil
import threading
import time

import pytest
from rclpy.action import ActionClient
from rclpy.task import Future
from scripted_bundle import write_release
from vla_mbpo_msgs.action import ExecuteTask
from vla_mbpo_msgs.msg import ReleaseState, TaskStatus
from vla_mbpo_msgs.srv import SwapRelease

from vla_mbpo.nodes import convert, models, qos, swapping
from vla_mbpo.nodes.gate import GateNode
from vla_mbpo.nodes.policy import PolicyNode
from vla_mbpo.nodes.task import TaskNode
from vla_mbpo.releases import running
from vla_mbpo.releases.release import Release

SAY = "press the button"
OFF = {"gate.vetting.imagination": "off", "gate.vetting.failure_detector": "off"}
Result = ExecuteTask.Result


@pytest.fixture(scope="session")
def releases(spec, tmp_path_factory):
    """Two of them. Read only."""
    folder = tmp_path_factory.mktemp("releases")
    return {name: write_release(folder / name, spec, name=name) for name in ("old", "new")}


def version(folder):
    return Release.load(folder).policy.version


class Bench:
    """Gate, policy and task with a release; the scene is played by the test, and the gate misses no input."""

    makers = (lambda: GateNode("gate"), lambda: PolicyNode("policy"), lambda: TaskNode("task"))

    def __init__(self, graph, release, **parameters):
        self.graph = graph
        nodes = ("gate", "policy", "task", "imagination", "failure_detector")[: len(self.makers)]
        graph.start(*self.makers, parameters={f"{node}.release": release for node in nodes} | OFF | parameters)
        graph.activate()
        graph.listen(qos.INSTRUCTION, qos.RELEASE)
        self.gate, self.policy, self.task = graph.nodes[:3]
        self.status = graph.talk(qos.TASK_STATUS)
        self.gate._inputs.silent = lambda autonomy=True: ""
        assert self.gate._machine.engage(self.gate._machine.epoch, self.gate.now()) is None
        self.swapper = graph.probe.create_client(SwapRelease, qos.SWAP)
        self.client = ActionClient(graph.probe, ExecuteTask, qos.EXECUTE_TASK)
        graph.until(lambda: self.client.server_is_ready() and self.swapper.service_is_ready())
        self.scene = TaskStatus(instruction=SAY)
        graph.probe.create_timer(0.02, self.say)
        graph.until(lambda: self.task._status is not None and bool(self.events))
        graph.spin(0.3)

    def say(self):
        self.scene.header.stamp = convert.to_time(time.time_ns())
        self.status(self.scene)

    def ask(self, release, now=False):
        return self.swapper.call_async(SwapRelease.Request(release=str(release), now=now))

    def swap(self, release, now=False):
        future = self.ask(release, now)
        self.graph.until(future.done, 30.0)
        return future.result()

    def begin(self, text=SAY):
        """A goal; its result's future."""
        sent = self.client.send_goal_async(ExecuteTask.Goal(instruction=text, timeout=20.0))
        self.graph.until(sent.done)
        return sent.result().get_result_async()

    @property
    def events(self):
        return self.graph.heard[qos.RELEASE.name]

    @property
    def used(self):
        """Of every node."""
        return {node._models.live for node in (self.gate, self.policy)} | {self.task._swapping._models.live}


@pytest.fixture
def bench(graph, releases):
    made = Bench(graph, releases["old"])
    yield made
    made.client.destroy()


def test_all_nodes_use_it_and_say_so(bench, releases):
    answer = bench.swap(releases["new"])
    assert answer.accepted and answer.version == Release.load(releases["new"]).version
    assert bench.used == {str(releases["new"])}
    assert bench.policy._session.version == version(releases["new"])
    bench.graph.until(lambda: bench.events[-1].release == str(releases["new"]))
    assert bench.events[-1].policy == version(releases["new"]) and bench.events[-1].previous == str(releases["old"])


def test_the_way_back_loads_nothing(bench, releases, monkeypatch):
    bench.swap(releases["new"])
    for node in (bench.gate, bench.policy, bench.task):
        owner = node._swapping if node is bench.task else node
        monkeypatch.setattr(owner._models, "_load", lambda release: pytest.fail("loaded again"))
    answer = bench.swap(releases["old"])
    assert answer.accepted and bench.used == {str(releases["old"])}


def test_a_running_attempt_ends_first(bench, releases, graph):
    attempt = bench.begin()
    graph.until(lambda: graph.heard[qos.INSTRUCTION.name][-1].data == SAY)
    swapped = bench.ask(releases["new"])
    graph.until(lambda: str(releases["new"]) in bench.policy._models._loaded, 20.0)  # loaded beside the one in use
    graph.spin(0.5)
    assert not swapped.done() and bench.used == {str(releases["old"])}
    bench.scene.success = True
    graph.until(attempt.done)
    graph.until(swapped.done)
    assert attempt.result().result.outcome == Result.SUCCEEDED and swapped.result().accepted
    assert bench.used == {str(releases["new"])}


def test_now_ends_a_running_attempt(bench, releases, graph):
    attempt = bench.begin()
    answer = bench.swap(releases["new"], now=True)
    graph.until(attempt.done)
    assert answer.accepted and attempt.result().result.outcome == Result.STOPPED
    assert "release" in attempt.result().result.message


def test_an_attempt_that_does_not_end_in_time_keeps_its_release(graph, releases):
    bench = Bench(graph, releases["old"], **{"task.swap_patience": 0.5})
    attempt = bench.begin()
    answer = bench.swap(releases["new"])
    assert not answer.accepted and "not ended" in answer.message and not attempt.done()
    assert bench.used == {str(releases["old"])}
    bench.client.destroy()


def test_a_goal_that_comes_while_nodes_switch_begins_with_the_new_release(bench, releases, graph, monkeypatch):
    """It is not refused: it waits."""
    switch, begun = bench.policy._models._switch, []

    def late(release):
        begun.append(bench.begin_soon())
        graph.heard[qos.INSTRUCTION.name].clear()
        switch(release)

    bench.begin_soon = lambda: bench.client.send_goal_async(ExecuteTask.Goal(instruction=SAY, timeout=20.0))
    monkeypatch.setattr(bench.policy._models, "_switch", late)
    assert bench.swap(releases["new"]).accepted
    graph.until(lambda: any(m.data == SAY for m in graph.heard[qos.INSTRUCTION.name]))
    assert bench.used == {str(releases["new"])}


@pytest.mark.parametrize("file", ["policy/step.int8.onnx", "policy/manifest.json", "manifest.json"])
def test_a_broken_candidate_leaves_the_incumbent_in_use_and_is_named(bench, releases, tmp_path, file):
    broken = shutil.copytree(releases["new"], tmp_path / "broken")
    (broken / file).write_bytes(b"something else")
    answer = bench.swap(broken)
    assert not answer.accepted and file.rpartition("/")[2] in answer.message
    assert bench.used == {str(releases["old"])} and bench.policy._session.version == version(releases["old"])
    assert bench.swap(releases["new"]).accepted  # nothing is left over


def test_a_candidate_that_was_mended_is_read_anew(bench, releases, tmp_path):
    folder = shutil.copytree(releases["new"], tmp_path / "mended")
    good = (folder / "policy" / "step.int8.onnx").read_bytes()
    (folder / "policy" / "step.int8.onnx").write_bytes(b"something else")
    assert not bench.swap(folder).accepted
    (folder / "policy" / "step.int8.onnx").write_bytes(good)
    assert bench.swap(folder).accepted


def test_a_candidate_that_proposes_no_numbers_is_refused(bench, spec, tmp_path):
    bad = write_release(tmp_path / "bad", spec, spoil=lambda rows: rows.fill(float("nan")))
    answer = bench.swap(bad)
    assert not answer.accepted and "NaN" in answer.message and len(bench.used) == 1


def test_a_node_that_does_not_switch_takes_the_others_back(bench, releases, monkeypatch):
    switch = bench.policy._models._switch

    def refuse(release):
        if release == str(releases["new"]):
            raise RuntimeError("stuck")
        switch(release)

    monkeypatch.setattr(bench.policy._models, "_switch", refuse)
    answer = bench.swap(releases["new"])
    assert not answer.accepted and "policy: RuntimeError: stuck" in answer.message
    assert bench.used == {str(releases["old"])}


def test_a_node_that_is_not_there_is_named(graph, releases, monkeypatch):
    monkeypatch.setattr("vla_mbpo.nodes.swapping.APPEAR_TIME", 0.3)
    bench = Bench(graph, releases["old"], **{"task.swap_nodes": "[gate, policy, imagination]"})
    answer = bench.swap(releases["new"])
    assert not answer.accepted and "imagination: the node is not there" in answer.message
    assert bench.used == {str(releases["old"])}
    bench.client.destroy()


def test_a_gate_that_asks_imagination_takes_no_release_without_a_world_model(graph, releases, tiny_world_model):
    asked = {"gate.vetting.imagination": "on", "gate.vetting.world_model": tiny_world_model, "gate.release": "''"}
    bench = Bench(graph, releases["old"], **asked)
    answer = bench.swap(releases["new"])
    assert not answer.accepted and "without world_model" in answer.message
    bench.client.destroy()


def test_an_answer_that_is_lost_is_asked_for_again(bench, releases, monkeypatch):
    """Incident: on a busy machine a server that did not know of the client yet answered nobody."""
    monkeypatch.setattr("vla_mbpo.nodes.swapping.AGAIN", 0.2)
    asked, call = [], bench.task._swapping._clients["policy"].call_async

    def lose_the_first(request):
        asked.append(request)
        return call(request) if len(asked) > 1 else Future()

    monkeypatch.setattr(bench.task._swapping._clients["policy"], "call_async", lose_the_first)
    assert bench.swap(releases["new"]).accepted and len(asked) >= 3


def test_a_node_that_does_not_answer_leaves_no_question_behind(bench, releases, monkeypatch):
    """Incident: every question without an answer was kept for good."""
    monkeypatch.setattr("vla_mbpo.nodes.swapping.AGAIN", 0.1)
    monkeypatch.setattr("vla_mbpo.nodes.swapping.LOAD_TIME", 0.5)
    load = bench.policy._models._load
    monkeypatch.setattr(bench.policy._models, "_load", lambda release: (time.sleep(2.0), load(release))[1])
    answer = bench.swap(releases["new"])
    assert not answer.accepted and "policy: no answer" in answer.message
    assert not any(client._pending_requests for client in bench.task._swapping._clients.values())


def test_whoever_asks_for_a_swap_waits_longer_than_it_may_take():
    """Incident: with a patience of 600 s `promote` said that a release does not go live, and then it went live."""
    (patience,) = (param for param in TaskNode.PARAMETERS if param.name == "swap_patience")
    load, switch = (
        swapping.APPEAR_TIME + limit + swapping.AGAIN for limit in (swapping.LOAD_TIME, swapping.SWITCH_TIME)
    )
    assert load + patience.upper + 2 * switch < running.PATIENCE  # twice: there and, if one refuses, back


def test_loading_does_not_stop_the_node(bench, releases, graph, monkeypatch):
    load = bench.policy._models._load

    def slow(release):
        time.sleep(1.0)
        return load(release)

    monkeypatch.setattr(bench.policy._models, "_load", slow)
    swapped, beats = bench.ask(releases["new"]), []
    graph.probe.create_subscription(
        qos.HEARTBEAT.type, qos.HEARTBEAT.name, lambda _: beats.append(time.monotonic()), qos.HEARTBEAT.qos
    )
    graph.until(swapped.done, 30.0)
    assert swapped.result().accepted and len(beats) > 10


def test_a_node_that_missed_it_follows(graph, releases):
    """As one that was started again: its parameters name the release before."""
    graph.start(lambda: PolicyNode("policy"), parameters={"policy.release": releases["old"]})
    graph.activate()
    node = graph.nodes[0]
    tell = graph.talk(qos.RELEASE)
    tell(ReleaseState(release=str(releases["new"])))
    graph.until(lambda: not node._models.agreed)  # proposes nothing until it has it
    graph.until(lambda: node._models.live == str(releases["new"]), 20.0)
    assert node._models.agreed and node._session.version == version(releases["new"])


def test_who_cannot_follow_proposes_nothing_and_says_why(graph, releases, tmp_path):
    graph.start(lambda: PolicyNode("policy"), parameters={"policy.release": releases["old"]})
    graph.activate()
    node = graph.nodes[0]
    graph.talk(qos.RELEASE)(ReleaseState(release=str(tmp_path / "gone")))
    graph.until(lambda: "manifest.json cannot be read" in node.warning())
    assert not node._models.agreed


def test_services_are_named_after_the_node():
    assert models.service_of("policy") == "/policy/release"


@pytest.mark.parametrize("cleaned", [False, True], ids=["deactivated", "cleaned up"])
@pytest.mark.parametrize("name", ["policy", "task"])
def test_a_node_that_is_taken_down_while_it_answers_goes_on(bench, releases, graph, monkeypatch, name, cleaned):
    """Incident: the answer to a service that was gone ended the process, which came back active, unasked."""
    monkeypatch.setattr(swapping, "LOAD_TIME", 2.0)
    monkeypatch.setattr(swapping, "APPEAR_TIME", 0.3)
    load, may = bench.policy._models._load, threading.Event()
    monkeypatch.setattr(bench.policy._models, "_load", lambda release: (may.wait(20.0), load(release))[1])
    bench.ask(releases["new"])
    graph.until(lambda: bool(bench.policy._models._loading) and str(releases["new"]) in bench.task._models._loaded)
    node = getattr(bench, name)
    node.trigger_deactivate()
    if cleaned:
        node.trigger_cleanup()
    may.set()
    graph.until(lambda: not bench.policy._models._loading and not bench.task._swapping._busy, 30.0)  # raises nothing
    graph.spin(0.3)
    assert node.state == ("unconfigured" if cleaned else "inactive")


def test_what_is_loading_when_a_node_is_cleaned_up_does_not_come_into_use(bench, releases, graph, monkeypatch):
    """Incident (review): it took the place of what the next configuration had loaded."""
    made, used, may = bench.policy._models, [], threading.Event()
    load = made._load
    monkeypatch.setattr(made, "_load", lambda release: (may.wait(20.0), load(release))[1])
    monkeypatch.setattr(made, "_use", used.append)
    made._on_release(ReleaseState(release=str(releases["new"])))
    graph.until(lambda: bool(made._loading))
    bench.policy.trigger_deactivate()
    bench.policy.trigger_cleanup()
    may.set()
    graph.until(lambda: not made._loading, 30.0)
    graph.spin(0.2)
    assert not used
