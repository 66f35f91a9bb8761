"""``vla-mbpo train detector``: the failure detector of one policy, on rollouts that went well and that did not.

SAFE-MLP and SAFE-LSTM (arXiv 2506.09937) and random network distillation (arXiv 1810.12894) on the policy's features;
the bank of looks that nearest neighbours are searched in, and mean and covariance for Mahalanobis.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from vla_mbpo.core.errors import require
from vla_mbpo.failure.attempts import Attempt
from vla_mbpo.failure.learned import Bank
from vla_mbpo.training.episodes import check_scenes
from vla_mbpo.training.loop import Loop

LEAST = 20  # attempts of each outcome
BANK = 1500  # looks kept for nearest neighbours
DISTILLED = 32  # outputs of the random network


@dataclass(frozen=True)
class DetectorRecipe:
    """``samples`` counts attempts seen. ``width``: of both networks' hidden layers."""

    data: tuple[str, ...]
    policy: str  # bundle
    tasks: tuple[str, ...]  # that are learned from
    width: int = 128
    dropout: float = 0.3
    noise: float = 0.1  # on standardised features
    memory_dropout: float = 0.5  # the LSTM's, which else knows the attempts by heart, ...
    memory_noise: float = 0.5  # ... its AUC on calibration scenes was 0.61 with 0.1
    samples: int = 16_000
    batch: int = 64
    learning_rate: float = 1e-3
    warmup: int = 50
    ema: float = 0.99
    weight_decay: float = 0.1
    seed: int = 0


class DetectorNet(nn.Module):
    """All learned networks of a detector; each reads features (B, F)."""

    mean: Tensor
    std: Tensor

    def __init__(self, features: int, width: int, dropout: float = 0.0, memory_dropout: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))
        self.mlp = nn.Sequential(
            nn.Linear(features, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, width), nn.ReLU(),
            nn.Dropout(dropout), nn.Linear(width, 1),
        )  # fmt: skip
        self.cell, self.drop, self.last = nn.LSTMCell(features, width), nn.Dropout(memory_dropout), nn.Linear(width, 1)
        self.target = nn.Sequential(nn.Linear(features, width), nn.ReLU(), nn.Linear(width, DISTILLED))
        self.student = nn.Sequential(
            nn.Linear(features, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, DISTILLED)
        )
        self.target.requires_grad_(False)

    def standardised(self, features: Tensor) -> Tensor:
        """Features as the networks read them."""
        return (features - self.mean) / self.std

    def one(self, x: Tensor) -> Tensor:
        """Logit (B,) of failure, from standardised features of one look."""
        return self.mlp(x)[..., 0]

    def step(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logit (B,) of failure and the next state, from one look more."""
        hidden, cell = self.cell(x, (hidden, cell))
        return self.last(self.drop(hidden))[..., 0], hidden, cell

    def surprise(self, x: Tensor) -> Tensor:
        """(B,) error of the student."""
        return (self.student(x) - self.target(x)).square().mean(-1)


class Trainer(Loop):
    """Trains one detector; ``run`` checkpoints under ``out``."""

    net: DetectorNet

    def __init__(self, recipe: DetectorRecipe, attempts: Sequence[Attempt], out: Path) -> None:
        """``attempts``: of one policy. ConfigError where one outcome is too rare, or a scene not to be learned from."""
        torch.manual_seed(recipe.seed)
        check_scenes([{"source": attempt.source, "seed": attempt.seed} for attempt in attempts])
        attempts = [attempt for attempt in attempts if attempt.task in recipe.tasks]
        fails = np.array([not attempt.success for attempt in attempts])
        where = f", in {', '.join(recipe.data)}" if recipe.data else ""
        for name, count in (("failures", int(fails.sum())), ("successes", int((~fails).sum()))):
            require(count >= LEAST, name, count, f"at least {LEAST}{where}")
        self.recipe, self.attempts = recipe, attempts
        features, seen = _padded(attempts)
        net = DetectorNet(features.shape[2], recipe.width, recipe.dropout, recipe.memory_dropout)
        every = features[seen > 0]
        net.mean.copy_(torch.from_numpy(every.mean(0)))
        net.std.copy_(torch.from_numpy(np.maximum(every.std(0), 1e-3)))
        self._x = net.standardised(torch.from_numpy(features))
        self._seen, self._fails = torch.from_numpy(seen), torch.from_numpy(fails.astype(np.float32))
        share = float(fails.mean())
        self._weight = torch.where(self._fails > 0, 0.5 / share, 0.5 / (1 - share))  # inverse frequency
        groups = [{"params": [p for p in net.parameters() if p.requires_grad], "multiple": 1.0,
                   "weight_decay": recipe.weight_decay}]  # fmt: skip
        super().__init__(recipe, net, out, len(attempts), self._loss, self._facts, groups)

    def _loss(self, chosen: NDArray[np.int64]) -> dict[str, Tensor]:
        index = torch.from_numpy(chosen)
        x, seen, fails = self._x[index], self._seen[index], self._fails[index]
        noisy, noisier = (x + noise * torch.randn_like(x) for noise in (self.recipe.noise, self.recipe.memory_noise))
        weight = seen / seen.sum(1, keepdim=True) * self._weight[index, None]
        label = fails[:, None].expand_as(seen)
        hidden = cell = x.new_zeros(len(x), self.recipe.width)
        told = []
        for t in range(x.shape[1]):
            logit, hidden, cell = self.net.step(noisier[:, t], hidden, cell)
            told.append(logit)
        well = seen * (1 - label)

        def entropy(logits: Tensor) -> Tensor:
            loss = functional.binary_cross_entropy_with_logits(logits, label, reduction="none")
            return (loss * weight).sum() / weight.sum()

        return {
            "mlp": entropy(self.net.one(noisy)),
            "lstm": entropy(torch.stack(told, 1)),
            "rnd": (self.net.surprise(x) * well).sum() / well.sum().clamp(min=1.0),
        }

    def _facts(self) -> dict[str, Any]:
        return {
            "recipe": asdict(self.recipe),
            "detector": {"features": self._x.shape[2], "width": self.recipe.width},
            "attempts": len(self.attempts),
            "failures": float(self._fails.mean()),
        }


def _padded(attempts: Sequence[Attempt]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features (N, looks, F) and whether there was such a look (N, looks)."""
    longest, size = max(len(attempt.looks) for attempt in attempts), attempts[0].looks[0].features.size
    features = np.zeros((len(attempts), longest, size), np.float32)
    seen = np.zeros((len(attempts), longest), np.float32)
    for i, attempt in enumerate(attempts):
        features[i, : len(attempt.looks)] = [look.features for look in attempt.looks]
        seen[i, : len(attempt.looks)] = 1.0
    return features, seen


def neighbours(
    attempts: Sequence[Attempt], seed: int
) -> tuple[NDArray[np.float16], NDArray[np.float32], NDArray[np.float32]]:
    """Looks (N, D) of attempts that went well, for ``Bank``; mean and std (D,) that they were standardised with."""
    every = np.stack([Bank.vector(look) for attempt in attempts if attempt.success for look in attempt.looks])
    mean, features = every.mean(0), attempts[0].looks[0].features.size
    std = np.maximum(every.std(0), 1e-3) / Bank.weights(features, every.shape[1])
    kept = np.random.default_rng(seed).permutation(len(every))[:BANK]
    return ((every[kept] - mean) / std).astype(np.float16), mean, std


def covariance(attempts: Sequence[Attempt]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean (F,) and precision (F, F) of the features of attempts that went well."""
    every = np.stack([look.features for attempt in attempts if attempt.success for look in attempt.looks])
    spread = np.cov(every.T)
    spread += 1e-3 * np.trace(spread) / len(spread) * np.eye(len(spread))  # features may be collinear
    return every.mean(0).astype(np.float32), np.linalg.inv(spread).astype(np.float32)
