"""Data that tests of several folders make up."""

from pathlib import Path

import numpy as np

from vla_mbpo.failure.attempts import Attempt
from vla_mbpo.failure.scores import Look


def calm_attempt(seed: int, features: int, looks: int = 12, wild: float = 1.0):
    """A made-up attempt that goes well; ``wild`` above 1: not so well."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(looks):
        rows = 0.02 * (8 * i + np.arange(16))[None, :, None] + wild * rng.normal(0, 0.01, (2, 16, 8))
        made.append(Look(wild * rng.normal(size=features).astype(np.float32), rows, np.zeros(7), 8 * i))
    return Attempt(tuple(made), True, "button", "few", "tiny", seed, "", -1.0, Path())
