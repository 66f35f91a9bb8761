"""The loss of supervised finetuning: chunks of examples, where things are, what each view alone tells of it."""

from dataclasses import dataclass

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from vla_mbpo.policy.network import FlowPolicy
from vla_mbpo.training.dataset import Augment, Demonstrations, Normalisation
from vla_mbpo.training.precision import CPU, reduced


@dataclass(frozen=True)
class Manner:
    """How demonstrations are shown. ``draws``: noise draws per observation; ``max_prefix``: rows of clean prefix."""

    draws: int = 2
    max_prefix: int = 7  # in half of the samples
    shift: int = 0
    brightness: float = 0.25
    proprio_noise: float = 0.03


class Supervised:
    """Demonstrations on a device, and a policy's loss on them. One thread. ``count``: of their observations."""

    def __init__(self, demos: Demonstrations, norm: Normalisation, manner: Manner, device: torch.device = CPU) -> None:
        """``norm``: of the policy that learns from them."""
        self._manner, self._device = manner, device
        self._augment = Augment(manner.shift, manner.brightness, manner.proprio_noise)
        arrays = demos.arrays
        self._pictures = [torch.from_numpy(arrays[view]).to(device) for view in ("head", "wrist")]
        chunk = (arrays["chunk"] - norm.action_mean) / norm.action_std
        proprio = (demos.proprio - norm.proprio_mean) / norm.proprio_std
        columns = (chunk, arrays["valid"], arrays["words"], proprio, demos.targets(), *demos.survey())
        chunks, valid, self._words, self._proprio, self._targets, *self._survey = (
            torch.from_numpy(column).to(device) for column in columns
        )
        self._placed = torch.from_numpy(demos.placed).to(device).float()
        self._chunks, self._valid, self.count = chunks, valid.float(), len(demos)

    def losses(self, net: FlowPolicy, index: NDArray) -> tuple[Tensor, Tensor]:
        """Flow-matching loss on the chunks of observations ``index``, and the auxiliary one.

        The latter counts observations of which somebody knew where things were; without any it is 0.
        """
        augment, picked = self._augment, torch.from_numpy(index).to(self._device)
        head, wrist = (
            augment.images(view[picked]).contiguous(memory_format=torch.channels_last) for view in self._pictures
        )
        with reduced(self._device):
            text, gist, pad = net.read(self._words[picked])
            views = net.look(head, wrist, gist)
            surveyed = net.survey(views)
            cache, mask, features = net.prefix(text, pad, views, augment.proprio(self._proprio[picked]))
            located = net.locate(features)
            flow = self.flow(net, cache, mask, self._chunks[picked], self._valid[picked])
        apart = functional.smooth_l1_loss(located.float(), self._targets[picked], reduction="none").mean(-1)
        target, weight = (array[picked] for array in self._survey)
        error = functional.smooth_l1_loss(surveyed.float(), target, reduction="none")
        return flow, _mean(apart, self._placed[picked]) + _mean(error, weight)

    def flow(self, net: FlowPolicy, cache: Tensor, mask: Tensor, chunk: Tensor, valid: Tensor) -> Tensor:
        """Flow-matching loss with per-row time; committed rows are clean and carry no loss (several draws a prefix)."""
        cache, mask, chunk, valid = (x.repeat_interleave(self._manner.draws, 0) for x in (cache, mask, chunk, valid))
        batch, horizon, _ = chunk.shape
        noise, device = torch.randn_like(chunk), chunk.device
        # Noise level from Beta(1.5, 1): more weight on the noisy end, as in pi0.
        level = torch.distributions.Beta(1.5, 1.0).sample((batch, 1)).clamp(0.001, 0.999).to(device)
        some = torch.rand(batch, 1, device=device) < 0.5
        prefix = torch.randint(0, self._manner.max_prefix + 1, (batch, 1), device=device) * some
        committed = torch.arange(horizon, device=device)[None] < prefix
        moment = torch.where(committed, 1.0, 1 - level)
        noisy = moment[..., None] * chunk + (1 - moment[..., None]) * noise
        velocity = net.velocity(cache, mask, noisy, moment).float()
        error = ((velocity - (chunk - noise)) ** 2).mean(-1)
        weight = valid * ~committed
        return (error * weight).sum() / weight.sum().clamp(min=1.0)


def _mean(value: Tensor, weight: Tensor) -> Tensor:
    """0 where nothing counts."""
    return (value * weight).sum() / weight.sum().clamp(min=1.0)
