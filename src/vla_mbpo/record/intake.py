"""The way into the recorder's thread: never waits, never grows beyond its limit."""

import threading
from collections import Counter, deque

from vla_mbpo.record.message import Message


class Intake:
    """A queue bounded by bytes. Messages that do not fit are dropped and counted; orders always fit. Any thread."""

    def __init__(self, limit: int) -> None:
        """``limit`` [bytes] of messages that wait."""
        self._limit, self._size = limit, 0
        self._items: deque[object] = deque()
        self._dropped: Counter[int] = Counter()
        self._fresh = threading.Condition()
        self._urgent = False
        self.most = 0  # bytes that ever waited

    def put(self, message: Message) -> bool:
        """Whether the message was taken."""
        with self._fresh:
            if self._size + len(message.data) > self._limit:
                self._dropped[message.topic] += 1 + message.lost
                return False
            self._items.append(message)
            self._size += len(message.data)
            self.most = max(self.most, self._size)
            return True

    def order(self, item: object) -> None:
        """Something other than a message; handled after the messages before it, and at once."""
        with self._fresh:
            self._items.append(item)
            self._urgent = True
            self._fresh.notify()

    def take(self, timeout: float) -> tuple[list[object], Counter[int]]:
        """Wait up to ``timeout`` [s] for an order; then all that waits, and what was dropped per topic meanwhile."""
        with self._fresh:
            self._fresh.wait_for(lambda: self._urgent, timeout)
            items, dropped = list(self._items), self._dropped
            self._items.clear()
            self._dropped, self._size, self._urgent = Counter(), 0, False
            return items, dropped
