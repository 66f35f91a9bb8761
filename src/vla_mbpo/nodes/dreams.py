"""Slow dreams beside the vetting: what the robot expects to see, published beside what it then saw."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image

from vla_mbpo.core.observation import Observation
from vla_mbpo.imagination.dream import Dream
from vla_mbpo.imagination.dreaming import Dreamer
from vla_mbpo.nodes import convert

NEAR = 60_000_000  # ns; a picture this close to the imagined moment is of that moment


@dataclass(frozen=True)
class Wish:
    """What to dream of: the preferred candidate of a chunk set."""

    id: int
    observation: Observation
    instruction: str
    positions: NDArray[np.float64]
    gripper: NDArray[np.float64]


class Dreams:
    """Dreams one chunk ahead at most every ``period`` s.

    ``offer`` is for the thread that vets, ``see`` for the executor's; neither waits for a dream.

    Attributes:
        id: of the newest dream that is finished; the chunk set's. 0: none.
        late: dreams that were finished after the moment they were of.
    """

    def __init__(self, dreamer: Dreamer, publish: Callable[[Image], None], period: float, ahead: int) -> None:
        """``ahead``: from an observation to the moment that is dreamt of [ns]."""
        self._dreamer, self._publish, self._period, self._ahead = dreamer, publish, period, ahead
        self._last, self.id, self.late = -1e9, 0, 0
        self._wish: Wish | None = None  # offered, and not yet asked for
        self._asked: Wish | None = None
        self._found: Dream | None = None
        self._lock = threading.Lock()

    @property
    def fault(self) -> str:
        """Why there are no dreams, or an empty string."""
        return self._dreamer.fault

    @property
    def seconds(self) -> float:
        """That the last dream took."""
        return self._dreamer.seconds

    @property
    def idle(self) -> bool:
        """Whether nothing is dreamt of or waits to be shown."""
        return self._asked is None

    def offer(self, wish: Wish) -> None:
        """Dream of this if it is time for a dream and the last one has been shown."""
        with self._lock:
            self._wish = wish

    def see(self, observation: Observation) -> None:
        """A new observation: when it is of the moment that was imagined, both are published side by side."""
        if self._asked is None:
            self._dreamer.answer()  # to who asked before the node was activated again: of no use, but it frees it
        self._begin()
        if self._asked is None:
            return
        if self._found is None:
            self._found = self._dreamer.answer()
            if self._found is None:
                self._asked = None if self._dreamer.fault else self._asked
                return
            self.id = self._asked.id
        due = self._asked.observation.stamp + self._ahead
        if observation.stamp < due - NEAR:
            return
        if observation.stamp <= due + NEAR:
            imagined = np.concatenate([self._found.head[0], self._found.wrist[0]], 1)
            real = np.concatenate([observation.head, observation.wrist], 1)
            picture = np.concatenate([imagined, real])
            self._publish(convert.to_image(picture, observation.stamp, f"dream {self.id}"))
        else:
            self.late += 1
        self._asked = self._found = None

    def _begin(self) -> None:
        """Ask for what was offered, if it is time."""
        with self._lock:
            wish, self._wish = self._wish, None
        now = time.monotonic()
        if wish is None or self._asked is not None or not self._dreamer.idle or now - self._last < self._period:
            return
        self._last, self._asked = now, wish
        self._dreamer.ask(wish.observation, wish.instruction, wish.positions, wish.gripper)
