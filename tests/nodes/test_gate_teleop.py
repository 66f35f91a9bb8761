"""The gate while a person has the stick."""

import time

import pytest
from std_msgs.msg import UInt64
from std_srvs.srv import Trigger
from test_gate_node import Bench
from vla_mbpo_msgs.msg import Commitment, GateState, TeleopCommand

from vla_mbpo.nodes import convert, qos


class Stick:
    """A person's command, repeated as the teleop node does."""

    def __init__(self, bench):
        self.bench = bench
        if bench.node.parameters["start_engaged"]:  # engaging asks for the deadman to be let go after it
            bench.until_mode(GateState.AUTONOMOUS)
        self.say = bench.graph.talk(qos.TELEOP_COMMAND)
        self.message = TeleopCommand()  # nothing is held
        self._tick()
        bench.graph.spin(0.1)
        self.timer = bench.graph.probe.create_timer(0.02, self._tick)

    def _tick(self):
        if self.message is not None:
            self.message.header.stamp = convert.to_time(time.time_ns())
            self.say(self.message)

    def hold(self, speed=0.0, **changes):
        message = TeleopCommand(deadman=True, **changes)
        message.header.frame_id = self.bench.spec.base_frame
        message.twist.linear.x = speed
        self.message = message

    def press_anew(self):
        self.message.deadman = False
        self.bench.graph.spin(0.1)
        self.message.deadman = True


def test_a_person_goes_before_the_policy_and_is_marked(graph, spec):
    bench = Bench(graph, spec, start_engaged=True)
    bench.until_mode(GateState.AUTONOMOUS)
    assert not bench.state.intervention
    Stick(bench).hold(0.1)
    bench.until_mode(GateState.TELEOP)
    graph.until(lambda: bool(bench.approved))
    assert bench.approved[0].approved_by == "teleop" and bench.approved[0].epoch == bench.state.epoch
    assert bench.state.intervention and bench.decisions[-1].intervention
    refused = next(d for d in bench.send(0.1) if not d.accepted)
    assert refused.reasons[0].check == "mode"


def test_a_takeover_that_closes_the_gripper_begins_where_it_was_told_to_be(graph, spec):
    """Incident: it began at the width of what was held, and so let go of it first."""
    bench = Bench(graph, spec, start_engaged=True)
    stick = Stick(bench)
    graph.talk(qos.COMMITMENT)(Commitment(gripper=[0.006]))
    graph.until(lambda: bench.node._opening == 0.006)
    stick.hold(gripper_velocity=-0.05)
    graph.until(lambda: bool(bench.approved))
    assert 0.0 < len(bench.approved[0].gripper) and max(bench.approved[0].gripper) <= 0.006


def test_letting_go_holds_and_only_engaging_ends_the_intervention(graph, spec):
    bench = Bench(graph, spec, start_engaged=True)
    stick = Stick(bench)
    stick.hold(0.1)
    bench.until_mode(GateState.TELEOP)
    stick.message.deadman = False
    bench.until_mode(GateState.HOLD)
    assert bench.state.reason == "deadman released" and bench.state.intervention
    bench.engage()
    bench.until_mode(GateState.AUTONOMOUS)
    assert not bench.state.intervention


def test_a_person_drives_the_arm_of_a_silent_task_node(graph, spec):
    bench = Bench(graph, spec, start_engaged=True, task_timeout=0.5)
    stick = Stick(bench)
    graph.talk(qos.TASK_HEARTBEAT)(UInt64(data=1))  # once
    bench.until_mode(GateState.HOLD)
    graph.spin(0.1)  # after the stop the deadman has to be seen let go of
    stick.hold(0.1)
    bench.until_mode(GateState.TELEOP)
    graph.spin(1.0)
    assert bench.state.mode == GateState.TELEOP and bench.approved


def test_silence_of_the_stick_releases(graph, spec):
    bench = Bench(graph, spec, start_engaged=True)
    stick = Stick(bench)
    stick.hold(0.1)
    bench.until_mode(GateState.TELEOP)
    stick.message = None
    bench.until_mode(GateState.HOLD)  # how fast: tests/faults/test_takeover_faults.py, which knows of pauses
    assert bench.state.reason == "teleop silent"


def test_an_old_command_moves_nothing(graph, spec):
    bench = Bench(graph, spec, start_engaged=True)
    bench.until_mode(GateState.AUTONOMOUS)
    message = TeleopCommand(deadman=True)
    message.header.stamp = convert.to_time(time.time_ns() - 500_000_000)
    graph.talk(qos.TELEOP_COMMAND)(message)
    graph.spin(0.2)
    assert bench.state.mode == GateState.AUTONOMOUS and not bench.approved


def test_the_sticks_estop_latches_until_it_is_let_go(graph, spec):
    bench = Bench(graph, spec, start_engaged=True)
    stick = Stick(bench)
    stick.hold(estop=True)
    bench.until_mode(GateState.ESTOP)
    graph.spin(0.7)
    assert "cool-down" in bench.command("/gate/reset").message  # pressed all the time
    stick.message = None
    graph.spin(0.7)
    assert bench.command("/gate/reset").success


@pytest.mark.parametrize("speed", [float("nan"), float("inf")])
def test_a_command_that_is_no_number_moves_nothing(graph, spec, speed):
    bench = Bench(graph, spec, start_engaged=True)
    Stick(bench).hold(speed)
    graph.until(lambda: bool(bench.decisions))
    assert not bench.approved and bench.decisions[-1].reasons[0].check == "message"


def test_a_deadman_that_is_held_through_a_reset_moves_nothing(graph, spec):
    """Incident (review): with the deadman held, the reset of an e-stop was the start of motion."""
    bench = Bench(graph, spec, start_engaged=True)
    stick = Stick(bench)
    stick.hold(0.1)
    bench.until_mode(GateState.TELEOP)
    graph.call(Trigger, "/gate/estop", Trigger.Request())
    bench.until_mode(GateState.ESTOP)
    graph.spin(0.6)
    assert bench.command("/gate/reset").success
    graph.spin(0.3)
    assert bench.state.mode == GateState.HOLD
    stick.press_anew()
    bench.until_mode(GateState.TELEOP)


def test_a_deadman_that_is_held_while_the_gate_is_activated_moves_nothing(graph, spec):
    """Incident (review): one that had been let go before the gate was deactivated counted as let go for ever."""
    bench = Bench(graph, spec)
    stick = Stick(bench)
    graph.spin(0.1)
    bench.node.trigger_deactivate()
    stick.hold(0.1)
    graph.spin(0.1)
    bench.node.trigger_activate()
    graph.spin(0.5)
    assert bench.state.mode == GateState.HOLD
    stick.press_anew()
    bench.until_mode(GateState.TELEOP)
