"""A person takes over, lets go, and loses the gamepad or its node on the way."""

import signal

import numpy as np
import pytest
from stack import BRAKE, RESTING, SLACK, Pad
from vla_mbpo_msgs.msg import GateState

from vla_mbpo.nodes import qos

JOY = 0.2  # s; silence of the gamepad
DEADLINE = qos.TELEOP_DEADLINE  # s; silence of the teleop node


@pytest.fixture
def pad(survivor):
    """Unplugged also when the test fails: the next one brings its own."""
    made = Pad(survivor)
    yield made
    made.unplug()


def test_takeover_release_and_hand_back(survivor, pad, graph_of):
    """The human wins at once; letting go is a controlled stop; autonomy returns by hand only."""
    stack = survivor
    pad.take_over()
    assert stack.of(qos.APPROVED_CHUNK)[-1].approved_by == "teleop" and stack.gate.intervention
    pad.hold()
    stack.time_to_rest(BRAKE + SLACK)
    graph_of.spin(0.5)
    assert stack.gate.mode == GateState.HOLD and stack.gate.intervention and stack.speed() < RESTING
    pad.press(pad.START, GateState.AUTONOMOUS)
    stack.until_moving()
    assert not stack.gate.intervention and stack.late == 0


def test_gamepad_lost_mid_takeover(survivor, pad, graph_of):
    pad.take_over()
    pad.unplug()
    survivor.time_to_rest(JOY + BRAKE + SLACK)
    graph_of.until(lambda: survivor.gate.mode == GateState.HOLD, 5.0)
    assert survivor.late == 0


def test_gamepad_estop_mid_takeover(survivor, pad, graph_of):
    pad.take_over()
    pad.hold(pad.DEADMAN, pad.ESTOP)
    survivor.time_to_rest(BRAKE + SLACK)
    graph_of.until(lambda: survivor.gate.mode == GateState.ESTOP, 5.0)
    pad.hold()
    survivor.reset()


def test_freeze_teleop_mid_takeover(survivor, pad, graph_of):
    """It stops; what it says after waking up is what the person holds then, not what was held before."""
    pad.take_over()
    survivor.signal("teleop", signal.SIGSTOP)
    survivor.time_to_rest(DEADLINE + BRAKE + SLACK)
    pad.hold()
    survivor.signal("teleop", signal.SIGCONT)
    graph_of.spin(0.5)
    assert survivor.gate.mode == GateState.HOLD and survivor.speed() < RESTING


def test_kill_teleop_mid_takeover(survivor, pad, graph_of):
    """It stops; the node is started again, and the deadman has to be pressed anew."""
    pad.take_over()
    survivor.signal("teleop", signal.SIGKILL)
    survivor.time_to_rest(DEADLINE + BRAKE + SLACK)
    before = survivor.gate.epoch
    graph_of.until(lambda: "teleop was restarted and is active again" in survivor.up.output, 30.0)
    survivor.pids = survivor.up.children()
    graph_of.spin(0.5)
    assert survivor.gate.epoch == before and survivor.speed() < RESTING  # still held all the time
    pad.take_over()
    pad.hold()


def test_takeover_at_speed_makes_no_step(survivor, pad, graph_of, spec):
    """Commanded velocities stay under the acceleration limits over takeover and hand-back."""
    seen = len(survivor.of(qos.COMMITMENT))
    pad.take_over()
    pad.hold()
    graph_of.until(lambda: survivor.gate.mode == GateState.HOLD, 5.0)
    graph_of.spin(0.5)
    pad.press(pad.START, GateState.AUTONOMOUS)
    pad.hold()
    survivor.until_moving()
    messages = [m for m in survivor.of(qos.COMMITMENT)[seen:] if len(m.commanded_velocities)]
    velocities = np.array([m.commanded_velocities for m in messages])
    times = np.array([m.header.stamp.sec + m.header.stamp.nanosec / 1e9 for m in messages])
    assert (np.abs(np.diff(velocities, axis=0)) <= 1.001 * spec.acceleration * np.diff(times)[:, None]).all()
