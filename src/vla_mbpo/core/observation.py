"""Observations that cannot be built from stale, future or frozen inputs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.verdict import Reason


class StaleInput(ValueError):
    """An input is too old, from the future, missing, not finite or frozen; carries the typed reason."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(str(reason))
        self.reason = reason


@dataclass(frozen=True)
class FreshnessLimits:
    """Limits for model inputs.

    Attributes:
        max_age: oldest allowed stamp relative to now [ns].
        max_future: clock disagreement tolerated [ns].
        max_skew: largest difference between the stamps of one observation [ns].
        max_frozen: longest time with bit-identical pixels while stamps advance [ns].
    """

    max_age: int = 250_000_000
    max_future: int = 20_000_000
    max_skew: int = 60_000_000
    max_frozen: int = 500_000_000


@dataclass(frozen=True)
class Observation:
    """One synchronised model input. Build it with ``Observation.fresh`` on any path that leads to motion.

    Attributes:
        stamp: time of the head image [ns].
        head: RGB (H, W, 3) uint8.
        wrist: RGB (H, W, 3) uint8.
        joints: measured positions [rad], (n,).
        velocities: measured velocities [rad/s], (n,).
        gripper: measured opening [m].
    """

    stamp: int
    head: NDArray[np.uint8]
    wrist: NDArray[np.uint8]
    joints: NDArray[np.float64]
    velocities: NDArray[np.float64]
    gripper: float

    @classmethod
    def fresh(
        cls,
        now: int,
        head: tuple[int, NDArray[np.uint8]],
        wrist: tuple[int, NDArray[np.uint8]],
        state: tuple[int, NDArray[np.float64], NDArray[np.float64], float],
        limits: FreshnessLimits = FreshnessLimits(),
    ) -> "Observation":
        """Check stamps and values, then build.

        Args:
            now: current time [ns].
            head, wrist: (stamp [ns], image).
            state: (stamp [ns], joints, velocities, gripper).

        Raises:
            StaleInput: with the offending input named.
        """
        for name, stamp in (("head", head[0]), ("wrist", wrist[0]), ("joint_states", state[0])):
            age = now - stamp
            if age > limits.max_age:
                raise StaleInput(Reason("observation_age", -1, name, age / 1e9, limits.max_age / 1e9))
            if -age > limits.max_future:
                raise StaleInput(Reason("observation_future", -1, name, age / 1e9, -limits.max_future / 1e9))
            skew = abs(stamp - head[0])
            if skew > limits.max_skew:
                raise StaleInput(Reason("observation_skew", -1, name, skew / 1e9, limits.max_skew / 1e9))
        if not (np.isfinite(state[1]).all() and np.isfinite(state[2]).all() and np.isfinite(state[3])):
            raise StaleInput(Reason("observation_finite", -1, "joint_states", float("nan"), 0.0))
        return cls(head[0], head[1], wrist[1], state[1], state[2], float(state[3]))


MIN_CONTRAST = 3.0  # of 255, standard deviation of the green channel; the least in 1,834 wrist images was 6


class PixelCheck:
    """Notices pictures that show nothing, or nothing new. One instance per camera; one thread."""

    def __init__(self, name: str, limit: int = FreshnessLimits.max_frozen) -> None:
        self._name, self._limit = name, limit
        self._last: bytes = b""
        self._since = 0

    def check(self, stamp: int, image: NDArray[np.uint8]) -> None:
        """Look at the next picture.

        Raises:
            StaleInput: it has no contrast (covered lens, no light, glare), or the same pixels have lasted longer than
                the limit while stamps advanced.
        """
        contrast = float(image[::2, ::2, 1].std())
        if contrast < MIN_CONTRAST:
            raise StaleInput(Reason("observation_contrast", -1, self._name, contrast, MIN_CONTRAST))
        pixels = image.tobytes()
        if pixels != self._last or stamp < self._since:
            self._last, self._since = pixels, stamp
        elif stamp - self._since > self._limit:
            raise StaleInput(
                Reason("observation_frozen", -1, self._name, (stamp - self._since) / 1e9, self._limit / 1e9)
            )
