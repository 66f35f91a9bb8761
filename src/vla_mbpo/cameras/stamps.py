"""From a camera's stamps to the node's clock.

A camera stamps frames on its own clock or, where driver and device agree on it, on the host's. The host's is taken as
it is. A device's clock has an unknown offset and drifts: a frame's arrival minus its stamp is that offset plus a delay
that is never negative, so the smallest such difference is the best guess. A frame that shows the guess to be too large
corrects it at once, and it rises only slowly, with the smallest difference of the last seconds: frames that are late,
however many they are, look as old as they are. Arrivals are measured on the steady clock, so that setting the host's
clock has no part in it.
"""

from collections.abc import Callable

WARM_UP = 500_000_000  # ns of frames that a device's clock is watched for before the first one gets a stamp
WINDOW = 2_500_000_000  # ns; the smallest difference of the last one to two windows counts
SLEW = 2e-4  # how fast the offset rises, s/s; the clocks of cameras drift by less than half of it
STEP = 250_000_000  # ns; a stamp further back than the last one is of a clock that began anew
TRUSTED = 1_000_000_000  # ns; a first stamp that is said to be on the host's clock and further off is not


class Offset:
    """Difference between the steady clock and a device's. One per connection; one thread."""

    def __init__(self) -> None:
        self._lows: list[int] = []
        self._began = self._bucket = self._last = 0
        self._value: float | None = None

    def stamp(self, raw: int, arrival: int) -> int | None:
        """Time on the steady clock [ns], at most the arrival; None during the warm-up.

        Args:
            raw: the device's stamp [ns], rising.
            arrival: when the frame came, steady clock [ns].
        """
        difference = arrival - raw
        if not self._lows:
            self._began = self._bucket = self._last = raw
            self._lows = [difference, difference]
        elif raw - self._bucket > WINDOW:
            self._bucket, self._lows = raw, [self._lows[1], difference]
        self._lows[1] = min(self._lows[1], difference)
        if self._value is None:
            if raw - self._began < WARM_UP:
                return None
            self._value = float(min(self._lows))
        rise = min(min(self._lows) - self._value, SLEW * (raw - self._last))
        self._value, self._last = min(self._value + max(rise, 0.0), float(difference)), raw
        return raw + round(self._value)


class Stamps:
    """Gives the frames of one connection their stamps. One thread.

    Attributes:
        clock: whose clock the last frame was stamped on: ``host`` or ``device``.
        refused: frames whose stamp did not rise.
    """

    def __init__(self, latency: int = 0) -> None:
        """``latency``: least time from exposure to arrival, which a device's own clock does not tell [ns]."""
        self._latency = latency
        self._offset = Offset()
        self._raw = 0
        self._said: bool | None = None
        self.clock, self.refused = "", 0

    def stamp(self, raw: int, on_host: bool, arrival: int, steady: int) -> int | None:
        """Time of exposure on the node's clock [ns], never later than the arrival; None: not to be published.

        Args:
            raw: the camera's stamp [ns].
            on_host: it is said to be on the node's clock; some cameras can say so only after some frames.
            arrival, steady: when the frame came, on the node's and on the steady clock [ns].
        """
        if on_host is not self._said:  # believed or not for good: a frame that comes late later on is just late
            self._said, self._raw = on_host, 0
            self.clock = "host" if on_host and abs(arrival - raw) < TRUSTED else "device"
            self._offset = Offset()
        elif raw < self._raw - STEP:  # a counter of 32 bits begins anew every 72 minutes; or the host's clock was set
            self._offset = Offset()
        elif raw <= self._raw:
            self.refused += 1
            return None
        self._raw = raw
        if self.clock == "host":
            return min(raw, arrival)
        found = self._offset.stamp(raw, steady)
        return None if found is None else found + arrival - steady - self._latency


class Rising:
    """Lets only stamps through that rise, over all connections. One thread.

    Attributes:
        last: the last one let through [ns]; 0 before.
        refused: how many were not.
    """

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self.last = self.refused = 0

    def accept(self, stamp: int) -> bool:
        """Whether ``stamp`` [ns] is later than all before it, or the clock was set back since."""
        rises = stamp > self.last or self.last > self._now() + STEP
        if rises:
            self.last = stamp
        else:
            self.refused += 1
        return rises
