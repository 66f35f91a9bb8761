"""Whose e-stop it is that is pressed on the topic: a page may let go of its own only."""

from collections import deque

ECHO = 20  # ticks of who hears within which the page hears what it has sent itself


class Stops:
    """Told of every stop that the page sends, of everything that is heard on the topic, and that time passes.

    Time is that of who hears: one that stands still for long and then hears the page's own stop has heard just that.

    The topic has one voice for all buttons: letting go of the page's would let go of another that is still pressed.
    """

    def __init__(self) -> None:
        self._sent: deque[int] = deque(maxlen=100)  # the tick at which it will not be heard any more
        self._ticks = 0
        self._mine = self._other = False

    def send(self) -> None:
        """The page is about to send a stop. Any thread."""
        self._mine = True
        self._sent.append(self._ticks + ECHO)

    def tick(self) -> None:
        """Time passes; about every 0.1 s, in the thread that hears."""
        self._ticks += 1
        while self._sent and self._ticks > self._sent[0]:
            self._sent.popleft()

    def hear(self, pressed: bool) -> None:
        """A message of the topic. One thread."""
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
