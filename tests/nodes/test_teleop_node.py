import time

import numpy as np
import pytest
from sensor_msgs.msg import Joy
from vla_mbpo_msgs.msg import GateState
from vla_mbpo_msgs.srv import GateCommand

from vla_mbpo.nodes import convert, qos
from vla_mbpo.nodes.teleop import SETTLE, TeleopNode

DEADMAN, ESTOP, START = 10, 1, 6


class Bench:
    """A gamepad played by the test."""

    def __init__(self, graph):
        self.graph = graph
        self.node = graph.start(lambda: TeleopNode("teleop"), parameters={"teleop.joy_timeout": 0.3})
        graph.activate()
        graph.listen(qos.TELEOP_COMMAND)
        self.joy = graph.talk(qos.JOY)
        until = time.monotonic() + SETTLE + 0.1
        while time.monotonic() < until:
            self.hold()

    def hold(self, *buttons, axes=()):
        self.joy(Joy(axes=[dict(axes).get(i, 0.0) for i in range(6)], buttons=[int(i in buttons) for i in range(15)]))
        self.graph.spin(0.1)

    @property
    def heard(self):
        return self.graph.heard[qos.TELEOP_COMMAND.name]


@pytest.fixture
def bench(graph):
    return Bench(graph)


def test_a_stick_becomes_a_command_in_the_base_frame(bench, spec):
    bench.hold(DEADMAN, axes={1: 1.0})
    command = bench.heard[-1]
    assert command.deadman and command.twist.linear.x == pytest.approx(0.125)
    assert command.header.frame_id == spec.base_frame


def test_the_command_is_repeated_while_the_gamepad_is_slow(bench):
    bench.hold(DEADMAN, axes={1: 1.0})
    before = len(bench.heard)
    bench.graph.spin(0.15)
    stamps = [convert.to_ns(message.header.stamp) for message in bench.heard[before:]]
    assert len(stamps) >= 4 and (np.diff(stamps) > 0).all()


def test_a_silent_gamepad_releases_the_deadman_and_then_says_nothing(bench):
    bench.hold(DEADMAN, axes={1: 1.0})
    bench.graph.until(lambda: not bench.heard[-1].deadman, 1.0)
    count = len(bench.heard)
    bench.graph.spin(0.2)
    assert len(bench.heard) == count and bench.node.warning() == "/joy is silent"


def test_what_is_held_while_the_gamepad_is_plugged_in_has_to_be_pressed_anew(bench):
    """Incident (review): a pad's first readings said that nothing was held, and the next ones counted as a press."""
    bench.graph.until(lambda: bench.node.warning() == "/joy is silent", 1.0)
    before = len(bench.heard)
    bench.hold()
    for _ in range(6):
        bench.hold(DEADMAN, axes={1: 1.0})
    assert len(bench.heard) > before and not any(command.deadman for command in bench.heard[before:])
    bench.hold()
    bench.hold(DEADMAN, axes={1: 1.0})
    assert bench.heard[-1].deadman


@pytest.mark.parametrize("axes", [[0.0] * 3, [float("nan")] * 6])
def test_a_message_that_no_gamepad_sends_releases(bench, axes):
    bench.hold(DEADMAN, axes={1: 1.0})
    bench.joy(Joy(axes=axes, buttons=[0] * 15))
    bench.graph.spin(0.1)
    assert not bench.heard[-1].deadman and "expected" in bench.node.warning()


@pytest.mark.parametrize("off", [-3600.0, 3600.0])
def test_a_gamepad_of_another_time_drives_nothing_but_stops(bench, off):
    """Incident (review): a recorded /joy was stamped anew, passed for a person of now, and engaged the gate."""
    for buttons in ((), (DEADMAN,), (ESTOP,)):
        message = Joy(axes=[0.0, 1.0, 0.0, 0.0, 0.0, 0.0], buttons=[int(i in buttons) for i in range(15)])
        message.header.stamp = convert.to_time(time.time_ns() + int(off * 1e9))
        bench.joy(message)
        bench.graph.spin(0.1)
    assert not any(command.deadman for command in bench.heard) and bench.heard[-1].estop
    assert f"stamped {off:+.0f}"[:9] in bench.node.warning() and "0.3" in bench.node.warning()


def test_a_late_press_of_the_estop_is_said_again(bench):
    """Incident (review): said once, it was overwritten by the message after it, before the gate had taken it in."""
    late = Joy(axes=[0.0] * 6, buttons=[int(i == ESTOP) for i in range(15)])
    late.header.stamp = convert.to_time(time.time_ns() - 1_000_000_000)
    bench.joy(late)
    bench.hold()
    assert bench.heard[-1].estop


def test_the_estop_button_is_passed_on(bench):
    bench.hold(ESTOP)
    assert bench.heard[-1].estop


@pytest.mark.parametrize(
    "axes, buttons", [([1.01] + [0.0] * 5, 15), ([float("nan")] * 6, 15), ([0.0] * 8, 11)],
    ids=["beyond its range", "not a number", "another gamepad"],
)  # fmt: skip
def test_the_estop_button_counts_whatever_else_is_wrong(bench, axes, buttons):
    """Incident: a stick that gave 1.01 took the e-stop with it."""
    bench.joy(Joy(axes=axes, buttons=[int(i == ESTOP) for i in range(buttons)]))
    bench.graph.until(lambda: bool(bench.heard) and bench.heard[-1].estop, 1.0)
    assert not bench.heard[-1].deadman


def test_start_engages_in_the_present_epoch(bench, graph):
    asked = []

    def answer(request, response):
        asked.append(request.epoch)
        response.success = True
        return response

    graph.probe.create_service(GateCommand, qos.ENGAGE, answer)
    graph.talk(qos.GATE_STATE)(GateState(mode=GateState.HOLD, epoch=7))
    graph.until(lambda: bench.node._engage.service_is_ready() and bench.node._gate is not None)
    presses = 0
    while not asked:  # again, as a person would: a request sent before the server knows of its client is lost
        presses += 1
        assert presses <= 10
        bench.hold()
        bench.hold(START)
        bench.hold(START)
        graph.spin(0.3)
    assert set(asked) == {7} and len(asked) <= presses  # once a press, though it is held
