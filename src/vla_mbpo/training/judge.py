"""How good a probability is: ranking, calibration, and the constants that calibrate it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import rankdata

FloatArray = NDArray[np.float64]


def roc_auc(score: FloatArray, label: NDArray[np.bool_]) -> float:
    """Probability that a positive scores above a negative, ties half; NaN without both."""
    positives = int(label.sum())
    negatives = len(label) - positives
    if not positives or not negatives:
        return float("nan")
    ranks = rankdata(score)
    return float((ranks[label].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(score: FloatArray, label: NDArray[np.bool_]) -> float:
    """Mean precision at each positive, best score first; NaN without positives."""
    hits = label[np.argsort(-score, kind="stable")]
    if not hits.any():
        return float("nan")
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())


def recall_at(score: FloatArray, label: NDArray[np.bool_], false_alarms: float) -> tuple[float, float]:
    """Share of positives above the threshold that this share of negatives exceeds, and the threshold."""
    threshold = float(np.quantile(score[~label], 1.0 - false_alarms, method="higher"))
    return float((score[label] > threshold).mean()), threshold


def interval_by_group(statistic, groups: NDArray[np.int64], draws: int = 500, seed: int = 0) -> list[float]:
    """95 % interval of ``statistic(index)`` by bootstrap over groups: looks of one attempt are not independent."""
    rng, members = np.random.default_rng(seed), [np.flatnonzero(groups == g) for g in np.unique(groups)]
    values = [
        statistic(np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))]))
        for _ in range(draws)
    ]
    return [round(float(v), 4) for v in np.nanpercentile(values, [2.5, 97.5])]


@dataclass(frozen=True)
class Reliability:
    """Calibration curve: mean prediction, share of positives and number in each of ten bins; expected error."""

    predicted: list[float]
    observed: list[float]
    count: list[int]
    error: float

    @classmethod
    def of(cls, probability: FloatArray, label: NDArray[np.bool_]) -> "Reliability":
        """Over bins of equal width."""
        place = np.minimum((probability * 10).astype(int), 9)
        predicted, observed, count = [], [], []
        for b in range(10):
            mine = place == b
            if mine.any():
                predicted.append(round(float(probability[mine].mean()), 4))
                observed.append(round(float(label[mine].mean()), 4))
                count.append(int(mine.sum()))
        gap = np.abs(np.array(predicted) - np.array(observed)) * np.array(count)
        return cls(predicted, observed, count, round(float(gap.sum() / len(label)), 4))


def platt(logits: FloatArray, labels: FloatArray) -> tuple[float, float]:
    """Scale and shift of an ensemble's logits (E, N) for the least cross-entropy with labels (N,) in 0..1.

    Platt's method (temperature and bias), fitted to the mean of the members' probabilities, which is what is used.
    """

    def loss(x: FloatArray) -> float:
        p = (1 / (1 + np.exp(-np.clip(np.exp(x[0]) * logits + x[1], -30, 30)))).mean(0)
        p = np.clip(p, 1e-6, 1 - 1e-6)
        return float(-(labels * np.log(p) + (1 - labels) * np.log(1 - p)).mean())

    found = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-6})
    return float(np.exp(found.x[0])), float(found.x[1])
