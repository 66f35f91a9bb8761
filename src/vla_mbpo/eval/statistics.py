"""Intervals for success rates and their differences."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion; (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    interval = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return round(float(interval.low), 4), round(float(interval.high), 4)


def paired(before: ArrayLike, after: ArrayLike, draws: int = 4000) -> tuple[float, float, float]:
    """Mean difference of two results on the same scenes, and its 95 % interval by bootstrap over scenes."""
    difference = np.asarray(after, float) - np.asarray(before, float)
    chosen = np.random.default_rng(0).integers(len(difference), size=(draws, len(difference)))
    low, high = np.percentile(difference[chosen].mean(1), [2.5, 97.5])
    return round(float(difference.mean()), 4), round(float(low), 4), round(float(high), 4)


def paired_ratio(before: ArrayLike, after: ArrayLike, draws: int = 4000) -> tuple[float, float, float] | None:
    """Sum of the second over the sum of the first, and its 95 % interval by bootstrap over scenes.

    None where the first is nothing; draws of the bootstrap in which it is nothing are left out.
    """
    one, other = np.asarray(before, float), np.asarray(after, float)
    chosen = np.random.default_rng(0).integers(len(one), size=(draws, len(one)))
    chosen = chosen[one[chosen].sum(1) > 0]
    if not one.sum():
        return None
    low, high = np.percentile(other[chosen].sum(1) / one[chosen].sum(1), [2.5, 97.5])
    return round(float(other.sum() / one.sum()), 4), round(float(low), 4), round(float(high), 4)
