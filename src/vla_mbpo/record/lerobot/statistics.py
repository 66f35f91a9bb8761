"""Statistics as LeRobot keeps them, of a feature in an episode and in all of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
EDGE = 150  # px; pictures of twice that and more are thinned out
LEVELS = np.arange(256) / 255.0  # of a picture's channel


def of_column(values: NDArray[Any]) -> dict[str, list[Any]]:
    """Of a column (T,) or (T, n): each statistic as a list of n (or 1) numbers; ``count``: T."""
    table = values.reshape(len(values), -1).astype(np.float64)
    found = {name: getattr(table, name)(axis=0).tolist() for name in ("min", "max", "mean", "std")}
    found["count"] = [len(table)]
    return found | {name: np.quantile(table, q, axis=0).tolist() for name, q in QUANTILES.items()}


def histogram(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.int64]:
    """How often each level of each channel occurs, (3, 256); large pictures are thinned out, as LeRobot does."""
    step = max(1, max(pictures[0].shape[:2]) // EDGE)
    stack = np.stack([picture[::step, ::step] for picture in pictures]).reshape(-1, 3)
    return np.stack([np.bincount(stack[:, channel], minlength=256) for channel in range(3)])


def of_pictures(counts: NDArray[np.int64], pictures: int) -> dict[str, list[Any]]:
    """Of a histogram: each statistic as (3, 1, 1) in 0 to 1, over its pixels; ``count``: pictures."""
    total = counts.sum(axis=1)
    mean = counts @ LEVELS / total
    std = np.sqrt(np.maximum(counts @ LEVELS**2 / total - mean**2, 0.0))
    below = np.cumsum(counts, axis=1)
    at = {name: (below >= np.ceil(q * total)[:, None]).argmax(axis=1) for name, q in QUANTILES.items()}
    at |= {"min": (counts > 0).argmax(axis=1), "max": 255 - (counts[:, ::-1] > 0).argmax(axis=1)}
    found = {"mean": mean, "std": std} | {name: LEVELS[level] for name, level in at.items()}
    return {name: value.reshape(3, 1, 1).tolist() for name, value in found.items()} | {"count": [pictures]}
