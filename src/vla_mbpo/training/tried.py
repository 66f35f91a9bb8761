"""What the world model learns from branches (training/branches.py): which candidate of a set is the better one."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from vla_mbpo.imagination.network import WorldModel
from vla_mbpo.training.rollout_data import HALF_TIME, Branches

SHARPNESS = 8.0  # of the candidate that is to be preferred, per factor of e in discounted time to go
FURTHEST = 0.5  # HALF_TIMEs; how much farther away the candidates are that spoil a task does not matter
NEAR = 0.1  # HALF_TIMEs; differences below count by their square
SHORTEST = 0.02  # discounted time to go from which on it does not matter how long


@dataclass(frozen=True)
class Tried:
    """Branches, what the frozen perception sees of them, and the standardisation of the rollouts' proprioception."""

    branches: Branches
    eyes: NDArray[np.float16]
    latents: NDArray[np.float16]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]

    def batch(
        self, index: NDArray[np.int64], device: torch.device
    ) -> tuple[tuple[Tensor, ...], Tensor, Tensor, Tensor, Tensor]:
        """Inputs of ``WorldModel.observe``, bins (N, B, H, A), to_go and cost (N, B), whether to_go is known (N,)."""
        data = self.branches
        eyes, latents = (torch.from_numpy(array[index]).float() for array in (self.eyes, self.latents))
        body = torch.from_numpy((data.proprio[index] - self.mean) / self.std)
        labels = (torch.from_numpy(array[index]).to(device) for array in (data.to_go, data.cost, data.finished))
        to_go, cost, finished = labels
        bins = torch.from_numpy(data.bins[index].astype(np.int64))
        seen = (torch.from_numpy(data.words[index]), eyes, latents, body)
        return tuple(x.to(device) for x in seen), bins.to(device), to_go, cost, finished.float()


def compared(net: WorldModel, seen: tuple[Tensor, ...], bins: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (E, N, B) of the discounted time to go after each candidate, and of a cost event within it (fast mode)."""
    many = bins.shape[1]
    context = [x.repeat_interleave(many, 0) for x in net.observe(*seen)[:3]]
    first = bins.flatten(0, 1)[:, None]
    nothing = seen[2].new_zeros(len(first), 1, 2, *seen[2].shape[2:])
    known, level = nothing.new_ones(len(first), 1), nothing.new_ones(nothing.shape[:3])
    _, _, outcome, hit, _ = net.imagine(context, first, known, nothing, level)
    return tuple(x.float().unflatten(1, (-1, many)) for x in (outcome[:, :, 0, 3], hit[:, :, 0]))


def losses(
    soon: Tensor, hit: Tensor, to_go: Tensor, cost: Tensor, finished: Tensor, member: Tensor
) -> dict[str, Tensor]:
    """Of ``compared``: each candidate's own labels, and which one of a look is to be preferred.

    ``member`` (E, N): whether a member of the ensemble learns from a look; ``finished`` (N,): whether ``to_go`` is.
    """
    timed = member * finished

    def mean(loss: Tensor, weight: Tensor) -> Tensor:
        return (loss * weight[..., None]).sum() / (weight.sum() * loss.shape[-1]).clamp(min=1.0)

    def entropy(logits: Tensor, label: Tensor, weight: Tensor) -> Tensor:
        loss = functional.binary_cross_entropy_with_logits(logits, label.expand_as(logits), reduction="none")
        return mean(loss, weight)

    wanted = torch.softmax(SHARPNESS * torch.log(to_go.clamp(min=SHORTEST)), -1).expand_as(soon)
    chosen = torch.log_softmax(SHARPNESS * functional.logsigmoid(soon), -1)
    told, known = (between(value) for value in (functional.logsigmoid(soon), torch.log(to_go.clamp(min=SHORTEST))))
    known = known.clamp(-FURTHEST, FURTHEST).expand_as(told)
    away = functional.smooth_l1_loss(told, known, reduction="none", beta=NEAR)
    return {
        "apart": mean(away.flatten(-2), timed),
        "to_go": entropy(soon, to_go, timed),
        "rank": mean(-(wanted * chosen).sum(-1, keepdim=True), timed),
        "tried_cost": entropy(hit, cost, member),
    }


def between(soon: Tensor) -> Tensor:
    """(..., B, B) rows from one candidate's logarithm of discounted time to go (..., B) to another's, in HALF_TIMEs."""
    return (soon[..., None] - soon[..., None, :]) / math.log(2.0)


def gain(soon: NDArray[np.float64], hit: NDArray[np.float64], tried: Branches, index: NDArray[np.int64]) -> dict:
    """What choosing by the model would have brought at looks ``index``, by ``compared``; without the expert's chunk.

    Returns:
        looks; rows [row periods] to go less than after a random candidate, by the model's choice and by the best, at
        the ``finished`` looks (None: there are none); cost events per chunk of a random candidate, of the one that the
        model takes for the safest, and of the safest.
    """
    value, risk = (1 / (1 + np.exp(-x)) for x in (soon, hit))
    timed, each = tried.finished[index], np.arange(len(index))
    pick, safe = value.mean(0)[timed, :-1].argmax(1), risk.mean(0)[:, :-1].argmin(1)
    to_go = np.maximum(tried.to_go[index][timed, :-1], SHORTEST)
    rows, cost = -HALF_TIME * np.log2(to_go), tried.cost[index][:, :-1]

    def saved(after: NDArray[np.float64]) -> float | None:
        return round(float((rows.mean(1) - after).mean()), 3) if timed.any() else None

    return {
        "looks": len(index),
        "finished": int(timed.sum()),
        "rows_saved": saved(rows[each[: len(pick)], pick]),
        "rows_saved_at_best": saved(rows.min(1)),
        "cost_random": round(float(cost.mean()), 4),
        "cost_safest_chosen": round(float(cost[each, safe].mean()), 4),
        "cost_safest": round(float(cost.min(1).mean()), 4),
    }
