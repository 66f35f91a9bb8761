"""The gripper by a GripperCommand action: which openings become goals. The server and its messages are played here."""

import sys
from types import ModuleType, SimpleNamespace
from unittest.mock import Mock

import pytest
from action_msgs.msg import GoalStatus
from test_arm_driver_node import Bench
from vla_mbpo_msgs.msg import GateState

from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.nodes import grippers
from vla_mbpo.nodes.grippers import ACTION_PERIOD, CommandAction, Gripper
from vla_mbpo.paths import robot_dir


class Later:
    """What the server answers, when the test says so."""

    def __init__(self):
        self._callbacks = []

    def add_done_callback(self, callback):
        self._callbacks.append(callback)

    def exception(self):
        return None

    def result(self):
        return self._result

    def answer(self, result):
        self._result = result
        for callback in self._callbacks:
            callback(self)


class Server:
    """Takes goals: their position [m, of one finger] and the answer that is still to come."""

    def __init__(self):
        self.ready, self.goals = True, []

    def server_is_ready(self):
        return self.ready

    def send_goal_async(self, goal):
        self.goals.append((goal.command.position, Later()))
        return self.goals[-1][1]

    @property
    def positions(self):
        return [round(position, 6) for position, _ in self.goals]

    def end(self, status):
        """Accept the last goal and end it."""
        result = Later()
        self.goals[-1][1].answer(SimpleNamespace(accepted=True, get_result_async=lambda: result))
        result.answer(SimpleNamespace(status=status))


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def clock(monkeypatch):
    """Seconds, as a list of one."""
    now = [100.0]
    monkeypatch.setattr(grippers.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def gripper(server, clock, monkeypatch):
    messages = ModuleType("control_msgs.action")
    messages.GripperCommand = SimpleNamespace(Goal=lambda: SimpleNamespace(command=SimpleNamespace()))
    monkeypatch.setitem(sys.modules, "control_msgs", ModuleType("control_msgs"))
    monkeypatch.setitem(sys.modules, "control_msgs.action", messages)
    monkeypatch.setattr(grippers, "ActionClient", lambda *_: server)
    server.destroy = lambda: None
    node = Mock(parameters={"gripper_effort": 20.0, "gripper_action": "/gripper"})
    return CommandAction(node, RobotSpec.load(robot_dir("franka_fr3")))


def test_the_last_opening_is_sent_though_it_came_too_soon_after_another(gripper, server, clock):
    """Incident: it was left to the driver's next repetition, which does not come when the rows have ended."""
    gripper.send(0.08)
    clock[0] += ACTION_PERIOD / 2
    gripper.send(0.04)
    gripper.send(0.0)
    gripper.tick()
    assert server.positions == [0.04]
    clock[0] += ACTION_PERIOD
    gripper.tick()
    gripper.tick()
    assert server.positions == [0.04, 0.0]


def test_an_opening_waits_for_the_server(gripper, server):
    server.ready = False
    gripper.send(0.08)
    server.ready = True
    gripper.tick()
    assert server.positions == [0.04]


def test_a_dropped_opening_is_not_sent(gripper, server, clock):
    gripper.send(0.08)
    gripper.send(0.0)
    gripper.drop()
    clock[0] += 2 * ACTION_PERIOD
    gripper.tick()
    assert server.positions == [0.04]


def rejected(server):
    server.goals[-1][1].answer(SimpleNamespace(accepted=False))


def aborted(server):
    server.end(GoalStatus.STATUS_ABORTED)


@pytest.mark.parametrize("missed", [rejected, aborted])
def test_a_goal_that_came_to_nothing_is_sent_again_with_the_next_repetition(gripper, server, clock, missed):
    """Incident: whatever the server answered, the same opening was never sent again."""
    gripper.send(0.08)
    missed(server)
    clock[0] += 2 * ACTION_PERIOD
    gripper.tick()
    assert server.positions == [0.04]  # nobody wants it any more
    gripper.send(0.08)
    assert server.positions == [0.04, 0.04]


def test_a_goal_that_succeeded_is_not_sent_again(gripper, server, clock):
    gripper.send(0.08)
    server.end(GoalStatus.STATUS_SUCCEEDED)
    clock[0] += 2 * ACTION_PERIOD
    gripper.send(0.08)
    assert server.positions == [0.04]


def test_the_end_of_a_goal_that_was_replaced_does_not_count(gripper, server, clock):
    gripper.send(0.08)
    _, first = server.goals[-1]
    clock[0] += 2 * ACTION_PERIOD
    gripper.send(0.0)
    first.answer(SimpleNamespace(accepted=False))
    clock[0] += 2 * ACTION_PERIOD
    gripper.send(0.0)
    assert server.positions == [0.04, 0.0]


class Noted(Gripper):
    """Counts what the driver asks for."""

    def __init__(self):
        self.openings, self.ticks, self.drops = [], 0, 0

    def send(self, opening):
        self.openings.append(opening)

    def tick(self):
        self.ticks += 1

    def drop(self):
        self.drops += 1


def test_the_driver_ticks_after_its_rows_have_ended_and_drops_what_waits_when_it_stops(graph, spec):
    bench, noted = Bench(graph, spec), Noted()
    bench.node._gripper = noted
    for _ in range(5):  # on a machine that pauses it stops early: another try then
        bench.go()
        noted.drops = 0
        graph.until(lambda: bench.commitment.chunk_set_id == 0)
        graph.spin(0.1)
        if not bench.node.report()["stop_reason"]:
            break
    ticks = noted.ticks
    graph.spin(0.2)
    assert noted.openings and noted.ticks > ticks and noted.drops == 0
    bench.change(GateState.HOLD)
    graph.until(lambda: noted.drops > 0)
