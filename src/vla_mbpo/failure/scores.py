"""Scores of one attempt, look by look: high means that it may be going wrong.

A score sees what a policy gives with each chunk set: its features and its candidate chunks. Where what it reads was
learned (failure/learned.py), it was learned on rollouts of the same policy.
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.policy.runtime import REPLAN_ROWS

FloatArray = NDArray[np.float64]

STILL = 1e-3  # rad per row, below which a joint has no direction
RECENT = 4  # looks, 1.6 s


@dataclass(frozen=True)
class Look:
    """One inference of the policy.

    Attributes:
        features: (F,) of the policy.
        chunks: (K, H, n + 1) candidates: absolute joint positions [rad], gripper opening [m].
        joints: (n,) measured [rad].
        row: when the scene was looked at, in row periods since any moment that is the same within the attempt; a camera
            need not be in step with the rows.
        failure: what the world model made of the attempt so far, probability that it fails; NaN: nothing is known.
    """

    features: NDArray[np.float32]
    chunks: FloatArray
    joints: FloatArray
    row: float
    failure: float = float("nan")


class Turns:
    """Which looks of an attempt count, and as the how-manieth: bands are of one look per period of the policy."""

    def __init__(self, period: int = REPLAN_ROWS) -> None:
        """``period``: rows from one look to the next."""
        self._period = period
        self.reset()

    def reset(self) -> None:
        """A new attempt begins."""
        self._first, self._last = float("nan"), -np.inf

    def number(self, look: Look) -> int | None:
        """By its time, from 0 on. None: it came sooner than the period, as other samples for the same look do."""
        if look.row - self._last < self._period - 1:
            return None
        self._first = look.row if np.isnan(self._first) else self._first
        self._last = look.row
        return math.floor((look.row - self._first) / self._period + 0.5)


class Score(Protocol):
    """One way to score an attempt. One thread."""

    name: str

    def reset(self) -> None:
        """A new attempt begins."""

    def add(self, look: Look) -> float:
        """Take a look; the score of the attempt so far. NaN: it cannot be told."""


class Recent:
    """The mean of another score over the last few looks: what went well before does not hide what goes wrong now."""

    def __init__(self, score: Score, looks: int = RECENT) -> None:
        self.name, self._score, self._last = score.name, score, deque[float](maxlen=looks)
        self.reset()

    def reset(self) -> None:
        """A new attempt begins."""
        self._score.reset()
        self._last.clear()

    def add(self, look: Look) -> float:
        """Take a look."""
        self._last.append(self._score.add(look))
        return sum(self._last) / len(self._last)


class Sum:
    """The sum of another score since the attempt began: grows while it lasts (SAFE, equation 3).

    A look counts for the time since the one before, so that the sum is the same where looks are missing.
    """

    def __init__(self, score: Score, period: int = REPLAN_ROWS) -> None:
        self.name, self._score, self._period = score.name, score, period
        self.reset()

    def reset(self) -> None:
        """A new attempt begins."""
        self._score.reset()
        self._sum, self._last = 0.0, float("nan")

    def add(self, look: Look) -> float:
        """Take a look."""
        since = (look.row - self._last) / self._period
        self._sum, self._last = self._sum + self._score.add(look) * (since if since > 0 else 1.0), look.row
        return self._sum


class Overlap:
    """How far the chunk is from the one before where they overlap in time: STAC-single (SAFE, appendix; Sentinel).

    ``scale`` (n + 1,): standard deviation of each dimension of the policy's actions.
    """

    name = "overlap"

    def __init__(self, scale: FloatArray) -> None:
        self._scale = scale
        self.reset()

    def reset(self) -> None:
        """A new attempt begins."""
        self._last: tuple[float, FloatArray] | None = None

    def add(self, look: Look) -> float:
        """Root mean square distance [standard deviations] of the first candidates; 0 where nothing overlaps."""
        before, self._last = self._last, (look.row, look.chunks[0])
        shift = 0 if before is None else round(look.row - before[0])
        if before is None or not 0 < shift < len(before[1]):
            return 0.0
        old = before[1][shift:]
        return float(np.sqrt(np.square((look.chunks[0, : len(old)] - old) / self._scale).mean()))


class SetOverlap(Overlap):
    """The same between all candidates of both sets: energy distance of the two samples (STAC, Sentinel)."""

    name = "overlap_of_sets"

    def add(self, look: Look) -> float:
        """Energy distance [standard deviations]."""
        before, self._last = self._last, (look.row, look.chunks)
        shift = 0 if before is None else round(look.row - before[0])
        if before is None or not 0 < shift < before[1].shape[1]:
            return 0.0
        old = before[1][:, shift:] / self._scale
        new = look.chunks[:, : old.shape[1]] / self._scale
        old, new = (x.reshape(len(x), -1) / np.sqrt(x[0].size) for x in (old, new))
        return float(2 * _apart(new, old) - _apart(new, new) - _apart(old, old))


def _apart(a: FloatArray, b: FloatArray) -> float:
    """Mean distance between two samples."""
    return float(np.linalg.norm(a[:, None] - b[None], axis=2).mean())


class Reversals:
    """Share of joints and rows of the first candidate at which a joint turns round (arXiv 2605.28726)."""

    name = "reversals"

    def reset(self) -> None:
        """A new attempt begins."""

    def add(self, look: Look) -> float:
        """0 to 1."""
        steps = np.diff(look.chunks[0, :, :-1], axis=0)
        moving = np.abs(steps) > STILL
        turned = (steps[1:] * steps[:-1] < 0) & moving[1:] & moving[:-1]
        return float(turned.mean())


class Spread:
    """How far the candidates are apart at the end of the chunk: root mean variance [standard deviations]."""

    name = "spread"

    def __init__(self, scale: FloatArray) -> None:
        self._scale = scale

    def reset(self) -> None:
        """A new attempt begins."""

    def add(self, look: Look) -> float:
        """0 with one candidate."""
        return float(np.sqrt((look.chunks / self._scale).var(0).mean()))


class Imagined:
    """The world model's probability that the attempt fails."""

    name = "imagined"

    def reset(self) -> None:
        """A new attempt begins."""

    def add(self, look: Look) -> float:
        """NaN where no world model runs."""
        return look.failure


class Elapsed:
    """How long the attempt has lasted: finds what times out, and only late."""

    name = "elapsed"

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """A new attempt begins."""
        self._first: float | None = None

    def add(self, look: Look) -> float:
        """Row periods."""
        self._first = look.row if self._first is None else self._first
        return float(look.row - self._first)
