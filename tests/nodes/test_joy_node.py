import sys
import time
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.lifecycle import TransitionCallbackReturn

from vla_mbpo.nodes import convert, qos
from vla_mbpo.nodes.joy import JoyNode

sys.path.insert(0, str(Path(__file__).parents[1] / "teleop"))

from virtual_pad import NAME, pad  # noqa: E402, F401

JOY, STATUS = qos.JOY.name, qos.DIAGNOSTICS.name
QUIET = 0.3  # s; several times the interval between two messages


def joy(graph, **parameters):
    """The node, active, and its first messages heard."""
    node = graph.start(lambda: JoyNode("joy"), parameters={f"joy.{name}": v for name, v in parameters.items()})
    graph.activate()
    graph.listen(qos.JOY, qos.DIAGNOSTICS)
    graph.until(lambda: bool(graph.heard[JOY]))
    return node


def pressed(graph, button):
    return bool(graph.heard[JOY]) and graph.heard[JOY][-1].buttons[button] == 1


def test_a_button_press_arrives(graph, pad):  # noqa: F811
    node = joy(graph)
    pad.press(4)
    graph.until(lambda: pressed(graph, 4))
    message = graph.heard[JOY][-1]
    assert [i for i, value in enumerate(message.buttons) if value] == [4]
    assert message.header.frame_id == "joy"
    assert 0 <= node.now() - convert.to_ns(message.header.stamp) < 10**9


def test_a_change_does_not_wait_for_the_repetition(graph, pad):  # noqa: F811
    joy(graph, autorepeat=1.0)
    graph.spin(0.1)
    begin = time.monotonic()
    pad.press(0)
    graph.until(lambda: pressed(graph, 0))
    assert time.monotonic() - begin < 0.4


def test_axes_have_the_signs_and_ranges_of_game_controller_node(graph, pad):  # noqa: F811
    joy(graph)
    for axis, moved in enumerate((-1, 1, 1, -1, 1, 0)):  # as SDL has them
        pad.axis(axis, moved)
    expected = [1.0, -1.0, -1.0, 1.0, -1.0, 0.0]
    graph.until(lambda: list(graph.heard[JOY][-1].axes) == expected)
    assert len(graph.heard[JOY][-1].buttons) == 21


@pytest.mark.parametrize("autorepeat", [20.0, 50.0])
def test_what_is_held_is_repeated(graph, pad, autorepeat):  # noqa: F811
    joy(graph, autorepeat=autorepeat)
    pad.press(9)
    graph.until(lambda: pressed(graph, 9))
    graph.heard[JOY].clear()
    graph.spin(1.0)
    assert all(message.buttons[9] for message in graph.heard[JOY])
    assert 0.5 * autorepeat <= len(graph.heard[JOY]) <= 1.1 * autorepeat + 1


def test_nothing_is_published_after_unplugging(graph, pad):  # noqa: F811
    joy(graph)
    pad.press(9)
    graph.until(lambda: pressed(graph, 9))
    graph.spin(0.05)
    pad.unplug()
    graph.spin(0.05)  # what was under way arrives
    graph.heard[JOY].clear()
    graph.spin(QUIET)
    assert graph.heard[JOY] == []


def test_it_goes_on_when_a_gamepad_is_plugged_in_again(graph, pad):  # noqa: F811
    joy(graph)
    pad.press(9)
    graph.until(lambda: pressed(graph, 9))
    pad.unplug()
    graph.spin(0.1)
    graph.heard[JOY].clear()
    pad.plug()
    graph.until(lambda: len(graph.heard[JOY]) >= 5)
    assert not any(message.buttons[9] for message in graph.heard[JOY])
    pad.press(1)
    graph.until(lambda: pressed(graph, 1))


def test_diagnostics_say_whether_there_is_a_gamepad(graph, pad):  # noqa: F811
    node = joy(graph)

    def status():
        graph.heard[STATUS].clear()
        node.publish_diagnostics()
        graph.until(lambda: bool(graph.heard[STATUS]))
        last = graph.heard[STATUS][-1].status[0]
        return last.level, last.message, {one.key: one.value for one in last.values if one.key != "process"}

    values = {"state": "active", "gamepad": NAME, "connected": "True"}
    assert status() == (DiagnosticStatus.OK, "active", values)
    pad.unplug()
    graph.spin(0.1)
    values = {"state": "active", "gamepad": "", "connected": "False"}
    assert status() == (DiagnosticStatus.WARN, "no gamepad", values)


def test_an_inactive_node_is_silent_and_can_be_activated_again(graph, pad):  # noqa: F811
    node = joy(graph)
    assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    graph.spin(0.05)
    graph.heard[JOY].clear()
    graph.spin(QUIET)
    assert graph.heard[JOY] == []
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    graph.until(lambda: bool(graph.heard[JOY]))


def test_it_cannot_repeat_more_often_than_it_reads(graph):
    node = graph.start(lambda: JoyNode("joy"), parameters={"joy.rate": 20.0})
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert node._fault == "configure failed: joy.autorepeat: 50.0 is not valid; expected at most the rate, 20.0"
