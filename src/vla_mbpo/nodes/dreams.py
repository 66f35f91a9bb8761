"""Slow dreams beside the vetting: what the robot expects to see, published beside what it then saw."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image

from vla_mbpo.core.observation import Observation
from vla_mbpo.imagination.dream import Dream, dream
from vla_mbpo.imagination.session import WorldModelSession
from vla_mbpo.nodes import convert
from vla_mbpo.nodes.worker import Worker

NICE = 15  # so that a dream has only the processor time that nobody else wants
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
    """Dreams one chunk ahead at most every ``period`` s in a thread of lowest priority, with a session of its own.

    ``offer`` is for the thread that vets, ``see`` for the executor's; neither waits.

    Attributes:
        id: of the newest dream that is finished; the chunk set's. 0: none.
        seconds: that the last one took.
    """

    def __init__(
        self, session: WorldModelSession, publish: Callable[[Image], None], period: float, flow_steps: int
    ) -> None:
        self._session, self._publish, self._period, self._steps = session, publish, period, flow_steps
        self._rng = np.random.default_rng(0)
        self._last, self.id, self.seconds = -1e9, 0, 0.0
        self._shown: tuple[Wish, Dream] | None = None
        self.fault = ""
        self._worker: Worker[Wish] = Worker(self._dream, self._on_error, NICE)

    def offer(self, wish: Wish) -> None:
        """Dream of this if it is time for a dream and the last one has been shown."""
        now = time.monotonic()
        if self._worker.idle and self._shown is None and now - self._last >= self._period:
            self._last = now
            self._worker.submit(wish)

    def see(self, observation: Observation) -> None:
        """A new observation: when it is of the moment that was imagined, both are published side by side."""
        shown = self._shown
        if shown is None:
            return
        wish, found = shown
        due = wish.observation.stamp + self._session.horizon * self._session.row_period
        if observation.stamp < due - NEAR:
            return
        self._shown = None
        if observation.stamp <= due + NEAR:
            imagined = np.concatenate([found.head[0], found.wrist[0]], 1)
            real = np.concatenate([observation.head, observation.wrist], 1)
            self._publish(convert.to_image(np.concatenate([imagined, real]), observation.stamp, f"dream {wish.id}"))

    def stop(self) -> None:
        """End the thread after the present dream, without waiting long: a node ends within 2 s."""
        self._worker.stop(0.3)

    def _dream(self, wish: Wish) -> None:
        begin = time.monotonic()
        chunk = (wish.positions, wish.gripper)
        found = dream(self._session, wish.observation, wish.instruction, [chunk], self._rng, self._steps)
        self.seconds, self.id, self.fault = time.monotonic() - begin, wish.id, ""
        self._shown = wish, found

    def _on_error(self, error: Exception) -> None:
        self.fault = f"dream failed: {type(error).__name__}: {error}"
