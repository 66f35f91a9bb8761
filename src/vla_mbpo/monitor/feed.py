"""The latest of everything, for viewers of any speed."""

import threading


class Feed:
    """Keeps one piece of content per name. Any thread.

    There is no queue: a viewer asks for what is newer than what it has seen, and one that is slow misses what was
    replaced meanwhile. So neither memory nor the writer depends on who looks.

    Attributes:
        number: of the newest content; every ``put`` counts.
    """

    def __init__(self) -> None:
        self.number = 0
        self._content: dict[str, tuple[int, bytes]] = {}
        self._fresh = threading.Condition()

    def put(self, name: str, content: bytes) -> None:
        """Replace the content of ``name``; nothing is new if it is the same."""
        with self._fresh:
            if self._content.get(name, (0, None))[1] == content:
                return
            self.number += 1
            self._content[name] = self.number, content
            self._fresh.notify_all()

    def get(self, name: str) -> bytes:
        """The latest content, empty if there is none."""
        with self._fresh:
            return self._content.get(name, (0, b""))[1]

    def after(self, seen: int, timeout: float) -> tuple[int, list[tuple[str, bytes]]]:
        """What came after number ``seen``, oldest first, and the number up to which that is.

        Waits up to ``timeout`` s for something new.
        """
        with self._fresh:
            self._fresh.wait_for(lambda: self.number != seen, timeout)
            new = sorted((number, name) for name, (number, _) in self._content.items() if number > seen)
            return self.number, [(name, self._content[name][1]) for _, name in new]

    def all(self) -> dict[str, bytes]:
        """The latest of every name."""
        with self._fresh:
            return {name: content for name, (_, content) in self._content.items()}
