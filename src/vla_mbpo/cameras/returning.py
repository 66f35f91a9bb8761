"""A camera that comes back by itself after it was unplugged."""

import time
from collections.abc import Callable

from vla_mbpo.cameras.source import Frame, Lost, Opened, Source

RETRY = 1.0  # s between attempts to open a lost camera


class Returning:
    """Reads a source, and opens it again whenever it is lost. Methods of ``Source``, from one thread.

    Attributes:
        lost: what is wrong while the camera is away; empty while it is there.
        losses: how often it went away.
    """

    def __init__(self, source: Source, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock``: seconds, of which only differences count."""
        self._source, self._clock = source, clock
        self._next = 0.0
        self.lost, self.losses = "", 0

    def open(self) -> Opened:
        """Start. A camera that is not there then is an error."""
        self.lost, self._first = "", self._source.open()
        return self._first

    def read(self, timeout: float) -> Frame | None:
        """The next frame; None while there is none or the camera is away. Does not raise Lost."""
        if self.lost and not self._reopen(timeout):
            return None
        try:
            return self._source.read(timeout)
        except Lost as error:
            self.lost, self.losses = f"camera lost: {error}", self.losses + 1
            self._source.close()  # may take a second
            self._next = self._clock() + RETRY
            return None

    def close(self) -> None:
        """Stop."""
        self._source.close()

    def report(self) -> dict[str, object]:
        """Values for /diagnostics; any thread."""
        return {**self._source.report(), "losses": self.losses}

    def _reopen(self, timeout: float) -> bool:
        wait = self._next - self._clock()
        if wait > 0:
            time.sleep(min(wait, timeout))
            return False
        try:
            opened = self._source.open()
            if opened != self._first:
                raise OSError("another camera came back")
        except Exception as error:  # whatever a driver makes of a device that is just coming up
            self._source.close()
            self.lost = f"camera lost, and not back yet: {' '.join(str(error).split())}"
            self._next = self._clock() + RETRY
            return False
        self.lost = ""
        return True
