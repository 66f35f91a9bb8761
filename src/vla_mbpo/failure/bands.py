"""Functional conformal bands: how far the scores of an attempt that goes well stray, at each time of the attempt.

One-sided and time-varying, after SAFE (arXiv 2506.09937, section 4.3) and functional conformal prediction
(arXiv 2102.06746), with the finite-sample rank. Several members share one band: each one's score is standardised by
its own mean and modulation, and what is calibrated is their vote. So the probability that the vote ever raises the
alarm in an attempt that goes well is at most alpha, if that attempt is exchangeable with those of the calibration;
bands per member would only bound it by alpha * members / votes.

Curves are (members, looks), look by look since the attempt began. Shorter ones are padded with their last value.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.errors import require

FloatArray = NDArray[np.float64]

SHAPE_SHARE = 0.3  # of the calibration curves, for mean and modulation; the others are for the width
TRIM = 0.9  # share of those, the calmest, that the modulation is taken from
FLOOR = 0.1  # least modulation, as a share of the member's largest: at first all curves are alike
LEAST_SHAPE = 5  # curves


def rank(n: int, alpha: float) -> int:
    """Which of n calibration statistics, the smallest first, is the band: (n + 1) (1 - alpha), rounded up."""
    return math.ceil((n + 1) * (1.0 - alpha) - 1e-9)


def needed(alpha: float) -> int:
    """Fewest calibration curves in all for ``alpha``: below, the rank is beyond the largest statistic."""
    widths = math.ceil((1.0 - alpha) / alpha - 1e-9)
    n = max(widths, LEAST_SHAPE)
    while n - _shape_count(n) < widths or _shape_count(n) < LEAST_SHAPE:
        n += 1
    return n


def _shape_count(n: int) -> int:
    return round(SHAPE_SHARE * n)


def pad(curves: Sequence[FloatArray], length: int) -> FloatArray:
    """Curves (members, looks) of different lengths as (N, members, length); the last value is repeated."""
    return np.stack([curve[:, np.minimum(np.arange(length), curve.shape[1] - 1)] for curve in curves])


@dataclass(frozen=True)
class Shape:
    """Mean and modulation (members, T) of the scores of attempts that go well."""

    mean: FloatArray
    modulation: FloatArray

    @classmethod
    def of(cls, curves: FloatArray) -> "Shape":
        """From curves (N, members, T)."""
        mean = curves.mean(0)
        away = np.abs(curves - mean)
        calm = np.argsort(away.max(2), axis=0)[: max(1, math.ceil(TRIM * len(curves)))]  # (n, members), each its own
        modulation = np.stack([away[calm[:, m], m].max(0) for m in range(curves.shape[1])])
        return cls(mean, np.maximum(modulation, FLOOR * modulation.max(1, keepdims=True)) + 1e-8)

    def standardised(self, scores: FloatArray, time: int) -> FloatArray:
        """Scores (members,) at look ``time`` in units of the modulation above the mean; the last look goes on."""
        at = min(time, self.mean.shape[1] - 1)
        return (scores - self.mean[:, at]) / self.modulation[:, at]


def vote(highest: FloatArray, votes: int) -> FloatArray:
    """What ``votes`` of the members (..., members) have at least reached: the vote is above a band if this is."""
    return np.sort(highest, axis=-1)[..., -votes]


@dataclass(frozen=True)
class Band:
    """A calibrated vote.

    Attributes:
        shape: of the members' curves.
        statistics: (n,) what the vote reached in each of the other calibration attempts, sorted.
        votes: members that must agree.
    """

    shape: Shape
    statistics: FloatArray
    votes: int

    @classmethod
    def fit(cls, curves: Sequence[FloatArray], votes: int, seed: int = 0) -> "Band":
        """Calibrate on attempts that went well. ConfigError if they are too few for any band."""
        count = _shape_count(len(curves))
        require(count >= LEAST_SHAPE, "calibration", f"{len(curves)} successes", f"at least {needed(0.5)}")
        padded = pad(curves, max(curve.shape[1] for curve in curves))
        order = np.random.default_rng(seed).permutation(len(padded))
        shape = Shape.of(padded[order[:count]])
        highest = ((padded[order[count:]] - shape.mean) / shape.modulation).max(2)
        return cls(shape, np.sort(vote(highest, votes)), votes)

    def highest(self, curve: FloatArray) -> FloatArray:
        """What each member has reached by each look of an attempt (members, looks)."""
        standard = [self.shape.standardised(curve[:, t], t) for t in range(curve.shape[1])]
        return np.maximum.accumulate(np.stack(standard, 1), axis=1)

    def reached(self, curve: FloatArray) -> FloatArray:
        """(looks,) what the vote has."""
        return vote(self.highest(curve).T, self.votes)

    def width(self, alpha: float) -> float:
        """What the vote must exceed for an alarm. ConfigError if there are too few curves for ``alpha``."""
        require(0.0 < alpha < 1.0, "alpha", alpha, "above 0 and below 1")
        n = len(self.statistics)
        which = rank(n, alpha)
        fits = f"at least {needed(alpha)} successes in the calibration for alpha {alpha:g}"
        require(which <= n, "calibration", f"{n} curves for the band's width", fits)
        return float(self.statistics[which - 1])


class Curve:
    """The vote over one attempt, look by look. One thread."""

    def __init__(self, band: Band) -> None:
        self._band = band
        self.reset()

    def reset(self) -> None:
        """A new attempt begins."""
        self._highest = np.full(len(self._band.shape.mean), -np.inf)

    def add(self, scores: FloatArray, time: int) -> tuple[float, FloatArray]:
        """Take the members' scores at look ``time``; what the vote has reached so far, and what each member has."""
        self._highest = np.maximum(self._highest, self._band.shape.standardised(scores, time))
        return float(vote(self._highest, self._band.votes)), self._highest
