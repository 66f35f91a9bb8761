"""A running stack that is disturbed, and how long the arm takes to rest.

Bounds are from the fault to a measured standstill: the time until the fault is noticed, 0.3 s for braking and
measuring, and as much again for a busy machine. While a machine gives simulator or arm driver no time at all, nobody
can brake: such pauses show in the stamps of what the two publish, and come on top (a CI run once paused for 0.2 s).
"""

import os
import signal
import time
from dataclasses import replace

import numpy as np
from helpers import Up
from sensor_msgs.msg import Joy
from std_msgs.msg import String
from vla_mbpo_msgs.msg import GateState
from vla_mbpo_msgs.srv import GateCommand

from vla_mbpo.nodes import convert, qos

MOVING, RESTING = 0.1, 0.02  # rad/s of the last joint; of every joint
BRAKE = 0.3  # s
TICKS = 0.06  # s; the driver publishes three ticks of motion, then the controller brakes
DEADLINE = 0.2  # s; silence of the gate
TASK = 1.2  # s; silence of the task node, noticed at the second of two looks
ROWS = 0.8  # s; a chunk, the longest that can be committed
SLACK = 0.3  # s
PAUSE = 0.06  # s between two messages of a 50 Hz topic from which on it is a pause


# So that a busy machine moves the arm at all. None of them is what a fault is noticed by.
GENEROUS = (
    "policy.max_age=1.0", "gate.checks.max_chunk_age=1.0", "gate.checks.max_state_age=0.4",
    "gate.input_timeout=1.0", "arm_driver.max_state_age=0.4", f"arm_driver.gate_timeout={DEADLINE}",
)  # fmt: skip


class Stack:
    """A running stack and what the test sees of it."""

    def __init__(self, graph, up, record):
        self.graph, self.up, self.record = graph, up, record
        graph.listen(
            qos.JOINT_STATES, qos.GATE_STATE, qos.COMMITMENT, qos.READY, qos.ACTION_CHUNKS, qos.GATE_DECISION,
            qos.DIAGNOSTICS, replace(qos.APPROVED_CHUNK, qos=qos.EVERY),
        )  # fmt: skip
        graph.until(lambda: bool(graph.heard[qos.READY.name]), 60.0)
        self.pids = up.children()
        self.instruct = graph.talk(qos.INSTRUCTION)
        self.turn = 0
        graph.until(lambda: bool(self.of(qos.GATE_STATE)) and bool(self.of(qos.JOINT_STATES)), 20.0)

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

    def reset(self):
        """ESTOP to HOLD, as an operator does it."""

        def done():
            if self.gate.mode == GateState.ESTOP:
                self.graph.call(GateCommand, qos.RESET_GATE, GateCommand.Request(epoch=self.gate.epoch))
                self.graph.spin(0.2)
            return self.gate.mode != GateState.ESTOP

        self.graph.until(done, 5.0)

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

    @property
    def instruction(self):
        """Of the present direction."""
        return ("press the button", "open the drawer")[self.turn % 2]

    def say(self):
        """Give out the instruction. The task node has latched an empty one, and who joins late hears both."""
        self.instruct(String(data=self.instruction))

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

    def complaint(self, node):
        """What the node's last diagnostics say is wrong."""
        found = [status for m in self.of(qos.DIAGNOSTICS) for status in m.status if status.name == node]
        return found[-1].message if found else ""

    @property
    def late(self):
        """Commitments that are to reach a row at another time than it was approved for, seen from outside.

        The last row of a commitment is of the newest chunk; it has to be the last of an approved one, in its place.
        """
        ends = [
            (convert.to_ns(m.observation_stamp) + m.horizon * convert.to_ns(m.row_period), m.positions[-7:])
            for m in self.of(qos.APPROVED_CHUNK)
        ]
        wrong = 0
        for m in self.of(qos.COMMITMENT):
            if not len(m.positions):
                continue
            period, rows = convert.to_ns(m.row_period), len(m.positions) // 7
            end = convert.to_ns(m.first_due) + (rows - 1) * period
            # Rows of two chunks off a common grid are read off the path: the last one up to a row before the chunk's.
            mine = [q for due, q in ends if -period / 2 <= due - end < period]
            wrong += not any(np.abs(np.subtract(q, m.positions[-7:])).max() < 0.05 for q in mine)
        return wrong


class Pad:
    """A gamepad in a person's hands: says 50 times a second what is held."""

    DEADMAN, ESTOP, START = 10, 1, 6

    def __init__(self, stack):
        self.stack = stack
        self._message = Joy(axes=[0.0] * 6, buttons=[0] * 15)
        self._say = stack.graph.talk(qos.JOY)
        self._timer = stack.graph.probe.create_timer(0.02, lambda: self._say(self._message))
        stack.graph.spin(0.1)

    def hold(self, *buttons, axes=()):
        self._message.axes = [dict(axes).get(i, 0.0) for i in range(6)]
        self._message.buttons = [int(i in buttons) for i in range(15)]
        self._say(self._message)

    def unplug(self):
        if self._timer is not None:
            self.stack.graph.probe.destroy_timer(self._timer)
        self._timer = None

    def press(self, button, mode, axes=()):
        """Until the gate is in ``mode``; as a person does it, again if nothing comes of it.

        A teleop node that was just started may not hear the gamepad yet, and has to see the button let go first.
        """
        pressed = [0.0]

        def done():
            if time.monotonic() - pressed[0] > 1.0:
                self.hold()
                self.stack.graph.spin(0.2)
                self.hold(button, axes=axes)
                pressed[0] = time.monotonic()
            return self.stack.gate.mode == mode

        self.stack.graph.until(done, 15.0)

    def take_over(self):
        """Until the person's command moves the arm: left and right in turn, so that there is always room."""
        self.stack.turn += 1
        self.press(self.DEADMAN, GateState.TELEOP, axes={0: (-1.0) ** self.stack.turn})
        self.stack.until_moving()


def started(of, policy, log, record, *settings, options=()):
    """A stack in motion; ended afterwards. ``options`` of `vla-mbpo up`."""
    words = [*options, *(word for setting in (*GENEROUS, *settings) for word in ("--set", setting))]
    up = Up(log, "--bundle", str(policy), "--headless", *words)
    try:
        made = Stack(of, up, record)
        made.move()
        yield made
    finally:
        for pid in up.children().values():
            os.kill(pid, signal.SIGCONT)
        up.close()
        print(up.output)
