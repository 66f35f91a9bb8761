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


FEATURES = 32  # of the tiny detector


def tapes(folder, policy, seeds, wild=1.0, success=True, source="few", k=2):
    """Rollouts as `vla-mbpo train rollouts` writes them."""
    folder.mkdir(exist_ok=True)
    for seed in seeds:
        looks = calm_attempt(seed, FEATURES, wild=wild).looks
        np.savez(
            folder / f"{source}_button_{seed:07d}.npz", policy=policy, task="button", source=source, seed=seed,
            at=np.array([look.row for look in looks]), success_row=looks[-1].row if success else -1,
            features=np.stack([look.features for look in looks]),
            candidates=np.stack([look.chunks[:k] for look in looks]),
            joints=np.stack([look.joints for look in looks]),
        )  # fmt: skip
    return folder


def noise_attempts(folder: Path, count: int, rows: int, size: int) -> Path:
    """Attempts of noise pictures in ``folder``; in half of them the arm moves and succeeds, 8 rows before the end."""
    rng = np.random.default_rng(0)
    for seed in range(count):
        at, moves = np.arange(0, rows, 8, dtype=np.int32), seed % 2
        m = len(at)
        np.savez(
            folder / f"test_button_{seed}.npz", source="test", policy="", task="button", seed=seed, at=at,
            head=rng.integers(0, 256, (m, size, size, 3), dtype=np.uint8),
            wrist=rng.integers(0, 256, (m, size, size, 3), dtype=np.uint8),
            joints=np.zeros((m, 7), np.float32), velocities=np.zeros((m, 7), np.float32),
            gripper=np.full(m, 0.04, np.float32), points=np.zeros((m, 9), np.float32),
            set_point=(0.3 * moves * np.linspace(0, 1, rows)[:, None] * np.ones(7)).astype(np.float32),
            opening=np.full(rows, 0.04, np.float32), cost=np.zeros(rows, np.uint8),
            success_row=rows - 8 if moves else -1,
        )  # fmt: skip
    return folder
