"""A topic that only one may publish on."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rclpy.serialization import serialize_message

from vla_mbpo.nodes import qos
from vla_mbpo.nodes.base import ManagedNode
from vla_mbpo.nodes.qos import Topic

ALONE = 1.0  # s without another's message before this node is alone again


class ExclusiveTopic:
    """Publishes on a topic and hears whether somebody else does too.

    Whoever else publishes a trajectory or approved rows makes the arm do what this node does not know of. By content,
    not by counting publishers: a killed process stays in the graph for many seconds. One thread.
    """

    def __init__(self, node: ManagedNode, topic: Topic, on_other: Callable[[], None]) -> None:
        """Make the publisher; ``listen`` starts hearing. ``on_other`` is called for each foreign message."""
        self.name = topic.name
        self._node, self._topic, self._on_other = node, topic, on_other
        self._out = node.publisher(topic)
        self._mine: deque[bytes] = deque(maxlen=100)
        self._alone_from = 0.0

    def listen(self) -> None:
        """Hear what is published, until the node is deactivated."""
        self._mine.clear()
        self._alone_from = 0.0
        every = replace(self._topic, qos=qos.ANYBODY)  # with a short queue the own ones would hide a foreign one
        self._node.subscribe(every, self._on_bytes, raw=True)

    def publish(self, message: Any) -> None:
        """Send."""
        data = serialize_message(message)
        self._mine.append(data)
        self._out.publish(data)

    @property
    def left(self) -> float:
        """Seconds until this node counts as alone; 0 when it does."""
        return max(0.0, self._alone_from - time.monotonic())

    @property
    def warning(self) -> str:
        """One line while not alone."""
        return f"somebody else publishes on {self.name}" if self.left else ""

    def _on_bytes(self, data: bytes) -> None:
        if data in self._mine:
            return
        if not self.left:
            self._node.get_logger().error(f"somebody else publishes on {self.name}")
        self._alone_from = time.monotonic() + ALONE
        self._on_other()
