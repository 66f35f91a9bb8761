"""Whose e-stop it is that is pressed on the topic: a page may let go of its own only."""

from collections import deque

ECHO = 2.0  # s within which the page hears what it has sent itself


class Stops:
    """Told of every stop that the page sends and of everything that is heard on the topic. Times in s.

    The topic has one voice for all buttons: letting go of the page's would let go of another that is still pressed.
    """

    def __init__(self) -> None:
        self._sent: deque[float] = deque(maxlen=100)
        self._mine = self._other = False

    def send(self, now: float) -> None:
        """The page is about to send a stop. Any thread."""
        self._mine = True
        self._sent.append(now)

    def hear(self, pressed: bool, now: float) -> None:
        """A message of the topic. One thread."""
        while self._sent and now - self._sent[0] > ECHO:
            self._sent.popleft()
        if not pressed:
            self._mine = self._other = False
        elif self._sent:
            self._sent.popleft()
            self._mine = True
        else:
            self._other = True

    @property
    def nobodys(self) -> bool:
        """Nobody has been heard to press since this page was started, or whoever did has let go."""
        return not self._mine and not self._other

    @property
    def mine(self) -> bool:
        """Only the page has pressed, and has not let go."""
        return self._mine and not self._other
