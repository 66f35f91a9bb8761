import time

import pytest
from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.task import Future
from std_msgs.msg import String, UInt64
from vla_mbpo_msgs.action import ExecuteTask
from vla_mbpo_msgs.msg import GateDecision, GateState, TaskStatus

from vla_mbpo.nodes import convert, qos
from vla_mbpo.nodes.attempt import Attempt
from vla_mbpo.nodes.task import TaskNode

SAY = "press the button"
Result = ExecuteTask.Result


class Bench:
    """A task node whose gate and scene are played by the test."""

    def __init__(self, graph, bundle):
        self.graph = graph
        self.node = graph.start(lambda: TaskNode("task"), parameters={"task.bundle": bundle})
        graph.activate()
        graph.listen(qos.INSTRUCTION)
        self.gate, self.status = graph.talk(qos.GATE_STATE), graph.talk(qos.TASK_STATUS)
        self.client = ActionClient(graph.probe, ExecuteTask, qos.EXECUTE_TASK)
        graph.until(self.client.server_is_ready)
        self.mode, self.scene = GateState.AUTONOMOUS, TaskStatus(instruction=SAY, progress=0.25)
        self.beat = graph.probe.create_timer(0.05, self.say)
        self.feedback = []
        graph.until(lambda: self.node._status is not None and self.node._gate is not None and bool(self.instructions))

    def say(self):
        self.gate(GateState(mode=self.mode, reason="test"))
        self.scene.header.stamp = convert.to_time(time.time_ns())
        self.status(self.scene)

    def goal(self, text=SAY, timeout=0.0):
        sent = self.client.send_goal_async(
            ExecuteTask.Goal(instruction=text, timeout=timeout), feedback_callback=lambda m: self.feedback.append(m)
        )
        self.graph.until(sent.done)
        self.handle = sent.result()
        return self.handle.get_result_async()

    def result(self, future):
        self.graph.until(future.done)
        return future.result().result

    @property
    def instructions(self):
        return [m.data for m in self.graph.heard["/instruction"]]


@pytest.fixture
def bench(graph, bundle):
    made = Bench(graph, bundle)
    yield made
    made.client.destroy()


def test_success(bench, graph):
    decide = graph.talk(qos.GATE_DECISION)
    future = bench.goal()
    graph.until(lambda: bool(bench.feedback))
    assert bench.instructions[-1] == SAY
    decide(GateDecision(accepted=True))
    decide(GateDecision(accepted=False))
    graph.spin(0.5)
    last = bench.feedback[-1].feedback
    assert (last.chunks_accepted, last.chunks_rejected, last.progress) == (1, 1, 0.25) and last.elapsed > 0.1
    bench.scene.success, bench.scene.cost_events = True, ["table_hit"]
    result = bench.result(future)
    assert result.outcome == Result.SUCCEEDED and list(result.cost_events) == ["table_hit"] and result.elapsed > 0.3
    graph.spin(0.1)
    assert bench.instructions[-1] == ""
    assert "sim/reset" in bench.result(bench.goal()).message  # the attempt is over


def test_what_went_wrong_before_an_attempt_is_none_of_its_events(bench, graph):
    """The scene lists its events until it is reset, and each result had all of them."""
    bench.scene.cost_events = ["table_hit", "drop"]
    graph.until(lambda: len(bench.node._status.cost_events) == 2)
    future = bench.goal()
    bench.scene.success, bench.scene.cost_events = True, ["table_hit", "drop", "spill"]
    assert list(bench.result(future).cost_events) == ["spill"]
    bench.scene.success = False
    graph.until(lambda: not bench.node._status.success)
    future = bench.goal()
    bench.scene.cost_events = []  # reset
    graph.until(lambda: not bench.node._status.cost_events)
    bench.scene.success, bench.scene.cost_events = True, ["late"]
    assert list(bench.result(future).cost_events) == ["late"]


def test_failure_and_timeout(bench):
    assert bench.result(bench.goal(timeout=0.3)).outcome == Result.TIMED_OUT
    future = bench.goal()
    bench.scene.failed = True
    assert bench.result(future).outcome == Result.FAILED


@pytest.mark.parametrize("timeout", [float("nan"), float("inf"), -1.0, 3601.0])
def test_a_time_limit_that_is_none_is_refused_by_name(bench, timeout):
    """NaN was an attempt without an end."""
    result = bench.result(bench.goal(timeout=timeout))
    assert result.outcome == Result.REFUSED and "timeout" in result.message and "3600" in result.message


def test_a_clock_that_is_set_back_makes_no_attempt_longer():
    attempt = Attempt(None, begin=100_000_000_000, limit=60.0)
    for now in (101, 102, 42, 43, 44):  # s
        attempt.advance(now * 1_000_000_000)
    assert attempt.elapsed == 4.0 and attempt.begin == 42_000_000_000


@pytest.mark.parametrize(("mode", "name"), [(GateState.ESTOP, "ESTOP"), (GateState.HOLD, "HOLD")])
def test_a_stop_ends_the_attempt_and_forbids_the_next(bench, graph, mode, name):
    future = bench.goal()
    graph.spin(0.2)
    bench.mode = mode
    result = bench.result(future)
    assert result.outcome == Result.STOPPED and name in result.message
    refused = bench.result(bench.goal())
    assert refused.outcome == Result.REFUSED and "/gate/engage" in refused.message


def test_a_silent_gate_ends_the_attempt(bench, graph):
    future = bench.goal()
    graph.spin(0.2)
    graph.probe.destroy_timer(bench.beat)
    result = bench.result(future)
    assert result.outcome == Result.STOPPED and "silent" in result.message


def test_cancel(bench, graph):
    future = bench.goal()
    graph.spin(0.2)
    graph.until(bench.handle.cancel_goal_async().done)
    assert bench.result(future).outcome == Result.STOPPED
    graph.spin(0.1)
    assert bench.instructions[-1] == ""


def test_a_goal_that_is_cancelled_while_it_waits_never_begins(bench, graph):
    """Incident: cancelled while nodes changed their release, it was given out all the same, and the arm moved."""
    graph.listen(qos.ATTEMPT)
    gap = bench.node._swapping._gap = Future()
    future = bench.goal()
    graph.until(bench.handle.cancel_goal_async().done)
    bench.node._swapping._gap = None
    gap.set_result(None)
    assert bench.result(future).outcome == Result.STOPPED
    assert future.result().status == GoalStatus.STATUS_CANCELED
    graph.spin(0.3)
    assert SAY not in bench.instructions and not any(m.running for m in graph.heard[qos.ATTEMPT.name])


def test_a_goal_that_waits_for_the_gate_ends_with_the_nodes_deactivation(bench, graph):
    """Incident: its client waited for ever, as the next activation waited for the gate anew."""
    graph.probe.destroy_timer(bench.beat)
    graph.probe.destroy_publisher(bench.gate.__self__)  # with its latched last word
    graph.spin(0.2)
    bench.node.trigger_deactivate()
    bench.node.trigger_activate()
    future = bench.goal()
    graph.spin(0.2)
    assert not future.done()
    bench.node.trigger_deactivate()
    assert "not active" in bench.result(future).message


def test_unknown_words_are_refused_with_the_known_ones(bench):
    result = bench.result(bench.goal("juggle the cubes"))
    assert result.outcome == Result.REFUSED and "juggle" in result.message and "drawer" in result.message
    assert bench.instructions[-1] == ""


def test_one_goal_at_a_time(bench, graph):
    first = bench.goal()
    graph.spin(0.1)
    assert "another attempt" in bench.result(bench.goal("open the drawer")).message
    bench.scene.success = True
    assert bench.result(first).outcome == Result.SUCCEEDED


def test_status_of_another_instruction_is_no_success(bench, graph):
    bench.scene.instruction, bench.scene.success = "open the drawer", True
    graph.spin(0.2)
    assert bench.result(bench.goal(timeout=0.5)).outcome == Result.TIMED_OUT


def test_a_late_joiner_hears_the_instruction(bench, graph):
    bench.goal()
    graph.spin(0.1)
    late = []
    graph.probe.create_subscription(String, qos.INSTRUCTION.name, lambda m: late.append(m.data), qos.INSTRUCTION.qos)
    graph.until(lambda: late == [SAY])


def test_begin_and_end_of_an_attempt_are_told(bench, graph):
    graph.listen(qos.ATTEMPT)
    heard = graph.heard[qos.ATTEMPT.name]
    future = bench.goal()
    graph.until(lambda: bool(heard) and heard[-1].running)
    assert (heard[-1].instruction, heard[-1].number) == (SAY, 1)
    bench.scene.success, bench.scene.cost_events = True, ["table_hit"]
    bench.result(future)
    graph.until(lambda: not heard[-1].running)
    last = heard[-1]
    assert (last.running, last.outcome, list(last.cost_events)) == (False, Result.SUCCEEDED, ["table_hit"])


def test_an_attempt_beats_until_it_is_over(bench, graph):
    graph.listen(qos.TASK_HEARTBEAT)
    heard = graph.heard[qos.TASK_HEARTBEAT.name]
    graph.until(lambda: len(heard) > 2)
    assert {m.data for m in heard} == {0}
    future = bench.goal()
    graph.until(lambda: heard[-1].data == 1)
    bench.scene.success = True
    bench.result(future)
    graph.until(lambda: heard[-1].data == 0)


def test_a_node_that_is_deactivated_in_an_attempt_beats_no_more(bench, graph):
    graph.listen(qos.TASK_HEARTBEAT)
    heard = graph.heard[qos.TASK_HEARTBEAT.name]
    bench.goal()
    graph.until(lambda: bool(heard) and heard[-1].data == 1)
    bench.node.trigger_deactivate()
    graph.until(lambda: heard[-1].data == 0)


def test_a_refused_goal_is_no_attempt(bench, graph):
    graph.listen(qos.ATTEMPT)
    bench.result(bench.goal("juggle the cubes"))
    graph.spin(0.3)
    assert not any(m.running for m in graph.heard[qos.ATTEMPT.name])


def test_a_task_node_that_is_started_says_that_no_attempt_runs(bench, graph):
    """Of one that died in an attempt recorder and page heard the beginning only."""
    graph.listen(qos.ATTEMPT)
    heard = graph.heard[qos.ATTEMPT.name]
    graph.until(lambda: bool(heard))
    assert (heard[0].number, heard[0].running, heard[0].outcome) == (0, False, Result.STOPPED)


def test_the_first_sign_of_life_comes_before_the_instruction(bench, graph):
    """A node that froze in between was taken for one without an attempt."""
    said = []
    graph.probe.create_subscription(
        UInt64, qos.TASK_HEARTBEAT.name, lambda m: said.append(m.data), qos.TASK_HEARTBEAT.qos
    )
    graph.probe.create_subscription(String, qos.INSTRUCTION.name, lambda m: said.append(m.data), qos.INSTRUCTION.qos)
    graph.until(lambda: said.count(0) > 2)
    bench.goal()
    graph.until(lambda: SAY in said)
    assert said[said.index(SAY) - 1] == 1 == said[said.index(1)]
