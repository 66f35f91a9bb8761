"""Puts a recorded episode back on the topics that policy, imagination and failure detector hear, and nothing else.

Beside the stack, in the process of `vla-mbpo replay`. What would move an arm is in none of these tables.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from rclpy.node import Node
from rosgraph_msgs.msg import Clock

from vla_mbpo.core.errors import require
from vla_mbpo.nodes import qos
from vla_mbpo.nodes.convert import to_time
from vla_mbpo.nodes.qos import Topic
from vla_mbpo.replay.said import ADD, Said

CLOCK_PERIOD = 5_000_000  # ns
CHECK_PERIOD = 200_000_000  # ns
LATE = 20_000_000  # ns; who is later than that does not catch up


@dataclass(frozen=True)
class Shadow:
    """A node that may run in a replay: what it has to hear, what it says, and of which kind (of Said) that is."""

    hears: tuple[Topic, ...]
    says: Topic
    kind: str


_SEES = (qos.HEAD_IMAGE, qos.WRIST_IMAGE, qos.JOINT_STATES)
SHADOWS = {
    "policy": Shadow(
        (*_SEES, qos.INSTRUCTION, qos.GATE_STATE, qos.COMMITMENT, qos.RESAMPLE), qos.ACTION_CHUNKS, "sets"
    ),
    "imagination": Shadow((*_SEES, qos.GATE_STATE, qos.ACTION_CHUNKS), qos.VERDICT, "verdicts"),
    "failure_detector": Shadow((qos.INSTRUCTION, qos.GATE_STATE, qos.ACTION_CHUNKS, qos.VERDICT), qos.RISK, "risks"),
}


def fed(running: Collection[str]) -> list[tuple[Topic, int]]:
    """Topics that are put back, and how many of the running nodes hear each: all but what one of them says itself."""
    said = {SHADOWS[name].says.name for name in running}
    heard = {topic.name: topic for name in running for topic in SHADOWS[name].hears if topic.name not in said}
    count = Counter(topic.name for name in running for topic in SHADOWS[name].hears)
    return [(topic, count[topic.name]) for topic in heard.values()]


class Listener:
    """Collects what the running nodes say. The thread that spins ``node``."""

    def __init__(self, node: Node, running: Collection[str]) -> None:
        self.said = Said()
        for name in running:
            topic, add = SHADOWS[name].says, ADD[SHADOWS[name].kind]
            node.create_subscription(topic.type, topic.name, lambda m, add=add: add(self.said, m), 50)


class Player:
    """Publishes messages at the times at which they came, and /clock. Any one thread."""

    def __init__(self, node: Node, running: Collection[str]) -> None:
        """``running``: nodes of SHADOWS."""
        self._node, self._running = node, running
        self._clock = node.create_publisher(Clock, qos.CLOCK.name, qos.CLOCK.qos)
        self._heard = fed(running)
        self._out = {t.name: node.create_publisher(t.type, t.name, t.qos) for t, _ in self._heard}

    @property
    def topics(self) -> set[str]:
        """Names of what is put back."""
        return set(self._out)

    @property
    def connected(self) -> bool:
        """Whether every topic has all of its listeners."""
        clocked = self._clock.get_subscription_count() >= len(self._running)
        return clocked and all(self._out[t.name].get_subscription_count() >= n for t, n in self._heard)

    def require_alone(self, managers: Collection[str]) -> None:
        """Raise ConfigError when a node is on the domain that this replay has not started."""
        ours = {*self._running, *managers, self._node.get_name()}
        strangers = sorted({name for name in self._node.get_node_names() if not name.startswith("_")} - ours)
        require(not strangers, "ROS domain", ", ".join(strangers), "nobody but the replay's own nodes")

    def play(self, messages: Iterable[tuple[int, str, bytes]], rate: float, check: Callable[[], None]) -> int:
        """Publish ``messages`` (received [ns], topic, CDR), ``rate`` times as fast as they came.

        /clock shows at least when the last message came and at most when the next one did. Where this process is late
        recorded time stands still, so that nothing comes in bursts. ``check`` is called every 0.2 s of recorded time.

        Returns:
            How many were published.
        """
        start, shown, checked, count = 0, 0, 0, 0  # start: wall clock less recorded time at ``rate`` [ns]
        for received, topic, data in messages:
            due = round(received / rate)
            start = max(start, time.monotonic_ns() - due - LATE) if count else time.monotonic_ns() - due
            while (wait := start + due - time.monotonic_ns()) > 0:
                shown = self._show(received - round(wait * rate), shown)
                time.sleep(min(CLOCK_PERIOD, wait) / 1e9)
            shown = self._show(received, shown)
            self._out[topic].publish(data)
            count += 1
            if received - checked > CHECK_PERIOD:
                check()
                checked = received
        return count

    def _show(self, now: int, shown: int) -> int:
        """/clock, which does not go back. Returns what it shows now [ns]."""
        if now > shown:
            self._clock.publish(Clock(clock=to_time(now)))
        return max(now, shown)
