"""The world model's denoiser as a distribution with a density: the first Euler step is random, the later ones are not.

After VAMPO's Euler hybrid sampler (arXiv 2603.19370, released code). There the ancestral step from noise level sigma to
sigma' splits sigma' into what stays of the old noise and what is drawn anew,

    s_up^2 = sigma'^2 (sigma^2 - sigma'^2) / sigma^2.

The flow x_t = (1 - t) x_0 + t e is that with sigma = t / (1 - t), infinite at t = 1, where s_up becomes all of sigma'.
So, from t = 1 to s = 1 - 1 / steps, with a share ``noise`` of the new level drawn anew,

    mean = (1 - s) x_0 + sqrt(s^2 - std^2) e,    std = noise s,

e the latent that all members of a group share. Whatever ``noise`` is, x_s is as noisy as the network knows it; without
noise it is the plain Euler step s e + (1 - s) x_0. The network's input at t = 1 is zero, so x_0 is its conditional mean
and the same for all of a group: one evaluation gives the density of all members. (The Flow-SDE of training/flow_sde.py
would give level s more noise than s.)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vla_mbpo.core.errors import require
from vla_mbpo.imagination.network import WorldModel

HEAD, WRIST = 0, 1


@dataclass(frozen=True)
class HybridSampler:
    """``steps`` Euler steps per view, the first of them random; ``noise``: see the module. ConfigError out of range."""

    steps: int = 4
    noise: float = 1.0

    def __post_init__(self) -> None:
        require(self.steps >= 2, "steps", self.steps, "2 or more: after the only step nothing is left to denoise")
        require(0.0 < self.noise <= 1.0, "noise", self.noise, "above 0, at most 1")

    @property
    def level(self) -> float:
        """Noise level s after the first step."""
        return 1.0 - 1.0 / self.steps

    @property
    def std(self) -> float:
        """Standard deviation of the first step, in standardised latent units."""
        return self.noise * self.level

    def mean(self, clean: Tensor, start: Tensor) -> Tensor:
        """Mean of the first step from ``start``, noise at t = 1, with the network's x_0 ``clean``; all of one shape."""
        return (1.0 - self.level) * clean + math.sqrt(self.level**2 - self.std**2) * start

    def draw(self, mean: Tensor, members: int) -> Tensor:
        """First steps (B, members, TOKENS, latent) from their mean (B, TOKENS, latent)."""
        wide = mean[:, None].expand(-1, members, -1, -1)
        return wide + self.std * torch.randn_like(wide)

    def log_density(self, mean: Tensor, after: Tensor) -> Tensor:
        """(B, G) of steps ``after`` (B, G, TOKENS, latent) with mean (B, TOKENS, latent).

        Summed over the latent, as a density is. VAMPO's code takes the mean, which shrinks the logarithm of a ratio by
        the number of elements, so that clipping hardly ever binds.
        """
        each = -0.5 * ((after - mean[:, None]) / self.std).square() - math.log(self.std * math.sqrt(2.0 * math.pi))
        return each.sum((-1, -2))

    def divergence(self, mean: Tensor, other: Tensor) -> Tensor:
        """(B,) Kullback-Leibler divergence of two first steps; they share their std."""
        return (mean - other).square().sum((-1, -2)) / (2.0 * self.std**2)


def evaluate(
    net: WorldModel, context: Sequence[Tensor], bins: Tensor, x: Tensor, time: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """``imagine`` of one chunk: ``bins`` (B, H, A), ``x`` (B, VIEWS, TOKENS, latent) at levels ``time`` (B, VIEWS)."""
    return net.imagine(context, bins[:, None], torch.ones_like(time[:, :1]), x[:, None], time[:, None])


def denoise(
    net: WorldModel, context: Sequence[Tensor], bins: Tensor, x: Tensor, view: int, steps: int, begin: int = 0
) -> Tensor:
    """Euler steps ``begin`` to ``steps`` of one view of ``x`` (B, VIEWS, TOKENS, latent), as imagination/dream.py does.

    The head view is denoised with the wrist view unknown, the wrist view with the head view as it is in ``x``.
    """
    for step in range(begin, steps):
        before, after = 1.0 - step / steps, 1.0 - (step + 1) / steps
        time = x.new_tensor([before, 1.0] if view == HEAD else [0.0, before]).expand(len(x), -1)
        clean = evaluate(net, context, bins, x, time)[0][:, 0, view].to(x.dtype)
        moved = (after / before) * x[:, view] + (1.0 - after / before) * clean  # along v = (x_t - x_0) / t
        x = torch.stack([moved, x[:, WRIST]] if view == HEAD else [x[:, HEAD], moved], 1)
    return x


def imagined(net: WorldModel, context: Sequence[Tensor], bins: Tensor, noise: Tensor, steps: int) -> Tensor:
    """Both views (B, VIEWS, TOKENS, latent) relative to the observation's, head first, from ``noise`` of that shape."""
    head = denoise(net, context, bins, noise, HEAD, steps)
    return denoise(net, context, bins, head, WRIST, steps)
