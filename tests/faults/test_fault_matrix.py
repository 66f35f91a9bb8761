"""What is lost while the arm moves, and how soon it stands.

Bounds are from the fault to a measured standstill: the time until the fault is noticed, 0.3 s for braking and
measuring, and as much again for a busy machine. While a machine gives simulator or arm driver no time at all, nobody
can brake: such pauses show in the stamps of what the two publish, and come on top (a CI run once paused for 0.2 s).
"""

import os
import signal
import time

import numpy as np
import pytest
from helpers import Up
from std_msgs.msg import Bool, String
from std_srvs.srv import Trigger
from vla_mbpo_msgs.msg import GateState
from vla_mbpo_msgs.srv import GateCommand

from vla_mbpo.nodes import convert, qos

MOVING, RESTING = 0.1, 0.02  # rad/s of the last joint; of every joint
BRAKE = 0.3  # s
TICKS = 0.06  # s; the driver publishes three ticks of motion, then the controller brakes
DEADLINE = qos.GATE_STATE_DEADLINE  # s; silence of the gate
ROWS = 0.8  # s; a chunk, the longest that can be committed
SLACK = 0.3  # s
PAUSE = 0.06  # s between two messages of a 50 Hz topic from which on it is a pause


# So that a busy machine moves the arm at all. None of them is what a fault is noticed by.
GENEROUS = (
    "policy.max_age=1.0", "gate.checks.max_chunk_age=1.0", "gate.checks.max_state_age=0.4",
    "arm_driver.max_state_age=0.4",
)  # fmt: skip


class Stack:
    """A running stack and what the test sees of it."""

    def __init__(self, graph, up, record):
        self.graph, self.up, self.record = graph, up, record
        graph.listen(qos.JOINT_STATES, qos.GATE_STATE, qos.COMMITMENT, qos.READY, qos.ACTION_CHUNKS, qos.GATE_DECISION)
        graph.until(lambda: bool(graph.heard[qos.READY.name]), 60.0)
        self.pids = up.children()
        self.instruct = graph.talk(qos.INSTRUCTION)
        self.turn = 0
        graph.until(lambda: bool(self.of(qos.GATE_STATE)))

    def of(self, topic):
        return self.graph.heard[topic.name]

    @property
    def gate(self):
        return self.of(qos.GATE_STATE)[-1]

    def engage(self):
        """HOLD to AUTONOMOUS, as an operator does it."""
        for _ in range(20):
            if self.gate.mode == GateState.AUTONOMOUS:
                return
            self.graph.call(GateCommand, qos.ENGAGE, GateCommand.Request(epoch=self.gate.epoch))
            self.graph.spin(0.2)
        raise AssertionError(self.gate.reason)

    def speed(self):
        return float(np.abs(self.of(qos.JOINT_STATES)[-1].velocity).max())

    def move(self):
        """Let the arm move: forth and back in turn."""
        self.engage()
        self.switch()
        self.until_moving()

    def switch(self):
        """Another instruction: the other direction."""
        self.turn += 1
        self.say()

    def say(self):
        """Give out the instruction. The task node has latched an empty one, and who joins late hears both."""
        self.instruct(String(data=("press the button", "open the drawer")[self.turn % 2]))

    def until_moving(self, timeout=20.0):
        """Steady motion, not the end of another one."""
        since, said = [time.monotonic()], [time.monotonic()]

        def steady():
            now = time.monotonic()
            if now - said[0] > 1.0:
                said[0] = now
                self.say()
            if self.speed() < MOVING:
                since[0] = now
            return now - since[0] > 0.5

        self.graph.until(steady, timeout)

    def time_to_rest(self, limit):
        """Seconds from now to the first of 0.1 s without motion."""
        begin = time.monotonic()
        rest = [begin]

        def standing():
            if self.speed() > RESTING:
                rest[0] = time.monotonic()
            return time.monotonic() - rest[0] > 0.1

        self.graph.until(standing, limit + 2.0)
        took, limit = rest[0] - begin, limit + self.paused(time.time() - (time.monotonic() - begin))
        self.record("to rest", (took, limit))
        assert took <= limit, f"{took:.2f} s to rest, at most {limit:.2f} s"
        return took

    def paused(self, begin):
        """Seconds since ``begin`` [s since the epoch] in which simulator or arm driver did not run."""
        sums = []
        for topic in (qos.JOINT_STATES, qos.COMMITMENT):
            stamps = np.array([convert.to_ns(m.header.stamp) / 1e9 for m in self.of(topic)])
            gaps = np.diff(stamps[stamps > begin - PAUSE])
            sums.append(float(gaps[gaps > PAUSE].sum()))
        return max(sums)

    def signal(self, node, number):
        os.kill(self.pids[node], number)


@pytest.fixture
def stack(graph, bundle, tmp_path, record_property):
    graph.start()
    settings = [word for setting in GENEROUS for word in ("--set", setting)]
    up = Up(tmp_path / "up.log", "--bundle", str(bundle), "--headless", *settings)
    try:
        made = Stack(graph, up, record_property)
        made.move()
        yield made
    finally:
        for pid in up.children().values():
            os.kill(pid, signal.SIGCONT)
        up.close()
        print(up.output)


def test_estop_topic(stack, graph):
    estop = graph.talk(qos.ESTOP)
    stack.until_moving()
    estop(Bool(data=True))
    stack.time_to_rest(BRAKE + SLACK)
    graph.spin(1.0)
    assert stack.gate.mode == GateState.ESTOP and stack.speed() < RESTING
    estop(Bool(data=False))
    graph.spin(0.7)
    assert graph.call(GateCommand, qos.RESET_GATE, GateCommand.Request(epoch=stack.gate.epoch)).success
    stack.move()  # only after reset and engage


def test_estop_service(stack, graph):
    graph.call(Trigger, qos.ESTOP_SERVICE, Trigger.Request())
    stack.time_to_rest(BRAKE + SLACK)
    assert stack.gate.mode == GateState.ESTOP


def test_task_switch(stack, graph):
    """Another instruction: what was committed is dropped, and the new motion starts from rest."""
    before = stack.of(qos.JOINT_STATES)[-1].velocity[6]
    stack.switch()
    stack.time_to_rest(BRAKE + SLACK)
    stack.until_moving()
    assert stack.of(qos.JOINT_STATES)[-1].velocity[6] * before < 0


def test_kill_arm_driver(stack, graph):
    stack.signal("arm_driver", signal.SIGKILL)
    stack.time_to_rest(TICKS + BRAKE + SLACK)
    graph.until(lambda: stack.up.process.poll() is not None, 5.0)
    assert stack.up.wait(1.0) == 1
    assert "vla-mbpo: error: arm_driver ended (signal SIGKILL), motion-critical: ending the others" in stack.up.output


def test_kill_gate(stack, graph):
    stack.signal("gate", signal.SIGKILL)
    stack.time_to_rest(DEADLINE + BRAKE + SLACK)
    graph.until(lambda: stack.up.process.poll() is not None, 5.0)
    assert stack.up.wait(1.0) == 1 and "gate ended" in stack.up.output


def test_kill_sim(stack, graph):
    """The controller itself: nothing moves any more, and everything ends."""
    stack.signal("sim", signal.SIGKILL)
    graph.until(lambda: stack.up.process.poll() is not None, 5.0)
    assert stack.up.wait(1.0) == 1 and "sim ended" in stack.up.output


@pytest.mark.parametrize("node", ["policy", "head_camera"])
def test_kill_what_is_not_motion_critical(stack, graph, node):
    """The rows run out; the process is started again and the task goes on."""
    stack.signal(node, signal.SIGKILL)
    stack.time_to_rest(ROWS + BRAKE + SLACK)
    assert stack.gate.mode == GateState.AUTONOMOUS
    stack.until_moving(30.0)
    assert f"{node} ended (signal SIGKILL); restarting it" in stack.up.output


def test_freeze_and_continue_policy(stack, graph):
    """What the policy makes of old frames after waking up is not executed."""
    stack.signal("policy", signal.SIGSTOP)
    stack.time_to_rest(ROWS + BRAKE + SLACK)
    graph.spin(1.0)
    asleep = time.time_ns()
    stack.signal("policy", signal.SIGCONT)
    stack.until_moving()
    accepted = [d for d in stack.of(qos.GATE_DECISION) if d.accepted and convert.to_ns(d.header.stamp) > asleep]
    ages = [convert.to_ns(d.header.stamp) - convert.to_ns(d.observation_stamp) for d in accepted]
    assert ages and max(ages) < 1.0e9
    assert stack.of(qos.COMMITMENT)[-1].rows_executed_late == 0


def test_freeze_and_continue_gate(stack, graph):
    stack.signal("gate", signal.SIGSTOP)
    stack.time_to_rest(DEADLINE + BRAKE + SLACK)
    stack.signal("gate", signal.SIGCONT)
    graph.spin(0.5)  # it may find its own inputs stale and take autonomy away
    stack.engage()
    stack.until_moving()


def test_freeze_and_continue_arm_driver(stack, graph):
    """The controller brakes by itself; the gate takes autonomy away until somebody engages it again."""
    stack.signal("arm_driver", signal.SIGSTOP)
    stack.time_to_rest(TICKS + BRAKE + SLACK)
    graph.until(lambda: stack.gate.mode == GateState.HOLD, 3.0)
    assert "arm_driver" in stack.gate.reason
    stack.signal("arm_driver", signal.SIGCONT)
    graph.spin(0.5)
    assert stack.speed() < RESTING
    stack.engage()
    stack.until_moving()
    assert stack.of(qos.COMMITMENT)[-1].rows_executed_late == 0


def test_freeze_sim(stack, graph):
    """Joint states are lost: autonomy ends."""
    stack.signal("sim", signal.SIGSTOP)
    graph.until(lambda: stack.gate.mode == GateState.HOLD, 3.0)
    assert "joint_states" in stack.gate.reason
    graph.until(lambda: stack.of(qos.COMMITMENT)[-1].chunk_set_id == 0, 2.0)
    stack.signal("sim", signal.SIGCONT)
    graph.spin(0.5)
    assert stack.speed() < RESTING
    stack.move()


def test_another_publisher_on_the_controllers_topic(stack, graph):
    """The driver hears what the controller hears: it stops, and takes no rows while it is not alone."""
    other = graph.talk(qos.TRAJECTORY)
    stack.until_moving()
    graph.listen(qos.TRAJECTORY)
    graph.until(lambda: bool(stack.of(qos.TRAJECTORY)))
    foreign = stack.of(qos.TRAJECTORY)[-1]
    foreign.header.stamp.nanosec ^= 1
    other(foreign)
    stack.time_to_rest(BRAKE + SLACK)
    stack.until_moving()  # alone again
