"""Credit of chunks in short dreams: generalised advantages with masks and bootstrap, and a limit on cost."""

from dataclasses import dataclass

import torch
from torch import Tensor


def per_chunk(gamma: float, rows: int) -> float:
    """Discount of a chunk from the discount of a control step (row). The only place where one becomes the other."""
    return gamma**rows


def generalised(
    reward: Tensor, value: Tensor, last: Tensor, done: Tensor, gamma: float, trace: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Generalised advantages (arXiv 1506.02438) of branches (B, n).

    Args:
        reward: (B, n) of each chunk.
        value: (B, n) of the state before each chunk.
        last: (B,) value of the state after the last chunk.
        done: (B, n) 1 where a chunk ended the attempt; what comes after it does not count.
        gamma: per chunk.
        trace: lambda.

    Returns:
        advantage, return (B, n); mask (B, n), 0 after the end.
    """
    after = torch.cat([value[:, 1:], last[:, None]], 1)
    alive = torch.cumprod(torch.cat([torch.ones_like(done[:, :1]), 1.0 - done[:, :-1]], 1), 1)
    delta = reward + gamma * after * (1.0 - done) - value
    advantage, running = torch.zeros_like(reward), torch.zeros_like(last)
    for t in reversed(range(reward.shape[1])):
        running = delta[:, t] + gamma * trace * (1.0 - done[:, t]) * running
        advantage[:, t] = running
    return advantage * alive, (advantage + value) * alive, alive


def within_groups(value: Tensor, group: int, least: float) -> tuple[Tensor, Tensor]:
    """How much better a sample is than the others of its state, in standard deviations of all groups together.

    Args:
        value: (states * group,) samples of a state side by side.
        group: samples of a state.
        least: standard deviation below which a group says nothing (group filtering).

    Returns:
        advantage, and whether the sample's group says something, both as ``value``.
    """
    sets = value.unflatten(0, (-1, group))
    away, spread = sets - sets.mean(1, keepdim=True), sets.std(1, keepdim=True)
    kept = (spread > least).expand_as(sets)
    scale = away[kept].square().mean().sqrt() if kept.any() else away.new_ones(())
    return (away / scale.clamp(min=1e-8) * kept).flatten(), kept.flatten()


@dataclass
class Multiplier:
    """Lagrange multiplier of a limit on the mean cost, by dual ascent (SafeVLA, arXiv 2503.03480).

    ``most``: where the limit cannot be reached, it would grow without end, and only cost would count.
    """

    limit: float
    rate: float
    value: float = 0.0
    most: float = float("inf")

    def update(self, cost: float) -> None:
        """After ``cost`` was measured."""
        self.value = min(self.most, max(0.0, self.value + self.rate * (cost - self.limit)))

    def combined(self, reward: Tensor, cost: Tensor) -> Tensor:
        """Advantage of both: (A_r - m A_c) / (1 + m)."""
        return (reward - self.value * cost) / (1.0 + self.value)
