"""Intervals for success rates and their differences."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion; (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    interval = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return round(float(interval.low), 4), round(float(interval.high), 4)


def paired(
    before: ArrayLike,
    after: ArrayLike,
    draws: int = 4000,
    group: ArrayLike | None = None,
    confidence: float = 0.95,
) -> tuple[float, float, float]:
    """Mean difference of two results on the same scenes, and its 95 % interval by bootstrap over scenes.

    ``group``: of each scene; scenes of one group are drawn together, because something random is common to them.
    ``confidence``: of the two-sided interval; each end of one of 90 % is a one-sided bound of 95 %.
    """
    difference = np.asarray(after, float) - np.asarray(before, float)
    total, count = _grouped(difference, group), _grouped(np.ones_like(difference), group)
    chosen = np.random.default_rng(0).integers(len(total), size=(draws, len(total)))
    ends = [50.0 * (1.0 - confidence), 50.0 * (1.0 + confidence)]
    low, high = np.percentile(total[chosen].sum(1) / count[chosen].sum(1), ends)
    return round(float(difference.mean()), 4), round(float(low), 4), round(float(high), 4)


def _grouped(values: NDArray[np.float64], group: ArrayLike | None) -> NDArray[np.float64]:
    """Sums by group; without groups the values themselves."""
    if group is None:
        return values
    number = np.unique(np.asarray(group), return_inverse=True)[1]
    return np.bincount(number, weights=values).astype(np.float64)


def paired_ratio(
    before: ArrayLike, after: ArrayLike, draws: int = 4000, group: ArrayLike | None = None
) -> tuple[float, float, float] | None:
    """Sum of the second over the sum of the first, and its 95 % interval by bootstrap over scenes (``group`` as above).

    None where the first is nothing; draws of the bootstrap in which it is nothing are left out.
    """
    one, other = (_grouped(np.asarray(side, float), group) for side in (before, after))
    chosen = np.random.default_rng(0).integers(len(one), size=(draws, len(one)))
    chosen = chosen[one[chosen].sum(1) > 0]
    if not one.sum():
        return None
    low, high = np.percentile(other[chosen].sum(1) / one[chosen].sum(1), [2.5, 97.5])
    return round(float(other.sum() / one.sum()), 4), round(float(low), 4), round(float(high), 4)
