"""What the world model learns from branches (training/branches.py): which candidate of a set is the better one."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from vla_mbpo.imagination.network import WorldModel
from vla_mbpo.training.rollout_data import HALF_TIME, Branches

SHARPNESS = 8.0  # of the candidate that is to be preferred, per factor of e in discounted time to go
SHORTEST = 0.02  # discounted time to go from which on it does not matter how long


@dataclass(frozen=True)
class Tried:
    """Branches, what the frozen perception sees of them, and the standardisation of the rollouts' proprioception."""

    branches: Branches
    eyes: NDArray[np.float16]
    latents: NDArray[np.float16]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]

    def batch(self, index: NDArray[np.int64]) -> tuple[tuple[Tensor, ...], Tensor, Tensor, Tensor]:
        """Inputs of ``WorldModel.observe``, bins (N, B, H, A), to_go and cost (N, B)."""
        data = self.branches
        eyes, latents = (torch.from_numpy(array[index]).float() for array in (self.eyes, self.latents))
        body = torch.from_numpy((data.proprio[index] - self.mean) / self.std)
        to_go, cost = (torch.from_numpy(array[index]) for array in (data.to_go, data.cost))
        bins = torch.from_numpy(data.bins[index].astype(np.int64))
        return (torch.from_numpy(data.words[index]), eyes, latents, body), bins, to_go, cost


def compared(net: WorldModel, seen: tuple[Tensor, ...], bins: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (E, N, B) of the discounted time to go after each candidate, and of a cost event within it (fast mode)."""
    many = bins.shape[1]
    context = [x.repeat_interleave(many, 0) for x in net.observe(*seen)[:3]]
    first = bins.flatten(0, 1)[:, None]
    nothing = torch.zeros(len(first), 1, 2, *seen[2].shape[2:])
    _, _, outcome, hit, _ = net.imagine(
        context, first, torch.ones(len(first), 1), nothing, torch.ones(nothing.shape[:3])
    )
    return tuple(x.float().unflatten(1, (-1, many)) for x in (outcome[:, :, 0, 3], hit[:, :, 0]))


def losses(soon: Tensor, hit: Tensor, to_go: Tensor, cost: Tensor, member: Tensor) -> dict[str, Tensor]:
    """Of ``compared``: each candidate's own labels, and which one of a look is to be preferred.

    ``member`` (E, N): whether a member of the ensemble learns from a look.
    """

    def mean(loss: Tensor) -> Tensor:
        return (loss * member[..., None]).sum() / (member.sum() * loss.shape[-1]).clamp(min=1.0)

    def entropy(logits: Tensor, label: Tensor) -> Tensor:
        return mean(functional.binary_cross_entropy_with_logits(logits, label.expand_as(logits), reduction="none"))

    wanted = torch.softmax(SHARPNESS * torch.log(to_go.clamp(min=SHORTEST)), -1).expand_as(soon)
    chosen = torch.log_softmax(SHARPNESS * functional.logsigmoid(soon), -1)
    return {
        "to_go": entropy(soon, to_go),
        "rank": mean(-(wanted * chosen).sum(-1, keepdim=True)),
        "tried_cost": entropy(hit, cost),
    }


def gain(soon: NDArray[np.float64], hit: NDArray[np.float64], tried: Branches, index: NDArray[np.int64]) -> dict:
    """What choosing by the model would have brought at looks ``index``, by ``compared``; without the expert's chunk.

    Returns:
        looks; rows [row periods] to go less than after a random candidate, by the model's choice and by the best; cost
        events per chunk of a random candidate, of the one that the model takes for the safest, and of the safest.
    """
    value, risk = (1 / (1 + np.exp(-x)) for x in (soon, hit))
    pick, safe = value.mean(0)[:, :-1].argmax(1), risk.mean(0)[:, :-1].argmin(1)
    to_go = np.maximum(tried.to_go[index][:, :-1], SHORTEST)
    rows, cost, each = -HALF_TIME * np.log2(to_go), tried.cost[index][:, :-1], np.arange(len(index))
    return {
        "looks": len(index),
        "rows_saved": round(float((rows.mean(1) - rows[each, pick]).mean()), 3),
        "rows_saved_at_best": round(float((rows.mean(1) - rows.min(1)).mean()), 3),
        "cost_random": round(float(cost.mean()), 4),
        "cost_safest_chosen": round(float(cost[each, safe].mean()), 4),
        "cost_safest": round(float(cost.min(1).mean()), 4),
    }
