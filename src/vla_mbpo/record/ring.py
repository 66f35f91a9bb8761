"""The last seconds of everything, for "save the last 30 s"."""

from collections import deque

from vla_mbpo.core.errors import require
from vla_mbpo.record.message import Message


class Ring:
    """Keeps messages that are neither too old nor, all together, too many bytes. One thread."""

    def __init__(self, seconds: float, limit: int) -> None:
        """``limit`` [bytes] of their data."""
        require(seconds >= 0, "ring seconds", seconds, "expected 0 or more")
        require(limit >= 0, "ring bytes", limit, "expected 0 or more")
        self._span, self._limit = int(seconds * 1e9), limit
        self._kept: deque[Message] = deque()
        self.size = 0  # bytes

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, message: Message) -> None:
        """Take the newest message, and let go of what is too old or too much."""
        self._kept.append(message)
        self.size += len(message.data)
        while self._kept and (self.size > self._limit or message.received - self._kept[0].received > self._span):
            self.size -= len(self._kept.popleft().data)

    def since(self, time: int) -> list[Message]:
        """What was received at ``time`` [ns] or later, in the order in which it came."""
        return [message for message in self._kept if message.received >= time]
