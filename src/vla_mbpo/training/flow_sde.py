"""A flow policy as a distribution with a density: one step of its Euler integration is made random (Flow-SDE).

After pi_RL as VLA-MBPO uses it (arXiv 2603.20607, released code): at noise level t = 1 - time, with step d = 1 / steps,
sigma = a sqrt(t / (1 - t)), x_0 and x_1 what the velocity u implies of action and noise,

    mean = x_0 (1 - (t - d)) + x_1 ((t - d) - sigma^2 d / (2 t)),    std = sigma sqrt(d),

which for sigma = 0 is the plain Euler step. At t = 1 sigma uses the next level's 1 - t. Only for training: the robot
samples with the plain steps.

With ``modes`` the noise is smooth along the chunk: a few curves that rise from its first free row on, each with random
heights per action dimension, added to the plain step (arXiv 2603.20607 calls noise beside the integration Flow-Noise).
White noise is mostly undone by the steps that follow, or breaks the limits on jerk; a smooth curve is a motion to
somewhere else. The density is one of the heights alone: 8 numbers per mode instead of 128.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

TINY = 1e-9  # added to the squared length of a curve: where no row is free, there is none
Velocity = Callable[[Tensor, Tensor], Tensor]  # rows (B, H, A), time (B, H) -> velocity (B, H, A)


@dataclass(frozen=True)
class Chain:
    """The random step of a batch of samples, stored so that its density can be asked again.

    Attributes:
        before, after: (B, H, A) rows at both ends of the step.
        free: (B, H) 1 where a row is not committed; committed ones are clean and were not sampled.
        index: which of the steps was random.
    """

    before: Tensor
    after: Tensor
    free: Tensor
    index: int

    def at(self, chosen: Tensor) -> "Chain":
        """Some of the samples."""
        return Chain(self.before[chosen], self.after[chosen], self.free[chosen], self.index)


@dataclass(frozen=True)
class FlowSde:
    """``steps`` of the Euler integration, ``noise`` the factor a; ``cap``: largest std of the random step.

    ``modes``: number of smooth curves, 0: white noise; ``rise``: rows until the first of them has its full height.
    """

    steps: int = 5
    noise: float = 0.5
    cap: float = 1.0
    modes: int = 0
    rise: int = 8

    def std(self, index: int) -> float:
        """Standard deviation of step ``index``, in standardised action units."""
        return self._sigma(index) * math.sqrt(1.0 / self.steps)

    def _sigma(self, index: int) -> float:
        level, step = 1.0 - index / self.steps, 1.0 / self.steps
        sigma = self.noise * math.sqrt(level / (1.0 - level if index else step))
        return min(sigma, self.cap / math.sqrt(step))

    def mean(self, rows: Tensor, velocity: Tensor, index: int) -> Tensor:
        """Mean (B, H, A) of step ``index`` from ``rows`` with the policy's ``velocity`` there."""
        if self.modes:
            return rows + velocity / self.steps
        level, step, sigma = 1.0 - index / self.steps, 1.0 / self.steps, self._sigma(index)
        action, noise = rows + level * velocity, rows - (1.0 - level) * velocity
        after = level - step
        return action * (1.0 - after) + noise * (after - sigma**2 * step / (2.0 * level))

    def time(self, free: Tensor, index: int) -> Tensor:
        """Flow time (B, H) of the rows at step ``index``."""
        return torch.where(free > 0, torch.full_like(free, index / self.steps), torch.ones_like(free))

    def integrate(
        self, velocity: Velocity, rows: Tensor, free: Tensor, begin: int = 0, end: int | None = None
    ) -> Tensor:
        """The plain steps from ``begin`` to ``end``, as on the robot: ``rows`` (B, H, A) at step ``begin``.

        At step 0 rows are noise where ``free`` (B, H); elsewhere they are clean and stay as they are.
        """
        for i in range(begin, self.steps if end is None else end):
            moved = rows + velocity(rows, self.time(free, i)) / self.steps
            rows = torch.where(free[..., None] > 0, moved, rows)
        return rows

    def branch(self, velocity: Velocity, rows: Tensor, free: Tensor, index: int) -> Chain:
        """The random step ``index`` from ``rows`` (B, H, A)."""
        mean = self.mean(rows, velocity(rows, self.time(free, index)), index)
        noise = torch.randn_like(mean)
        if self.modes:
            noise = self.curves(free) @ torch.randn(len(mean), self.modes, mean.shape[2], device=mean.device)
        after = mean + self.std(index) * noise
        return Chain(rows, torch.where(free[..., None] > 0, after, rows), free, index)

    def step_mean(self, velocity: Velocity, chain: Chain) -> Tensor:
        """Mean (B, H, A) of the stored step under a policy."""
        return self.mean(chain.before, velocity(chain.before, self.time(chain.free, chain.index)), chain.index)

    def log_density(self, mean: Tensor, chain: Chain, rows: Tensor | None = None) -> Tensor:
        """(B,) of the stored step, over all dimensions of ``rows`` (B, H), by default those that are free."""
        std = self.std(chain.index)
        if self.modes:
            heights = self.heights(chain.free, (chain.after - mean) / std)
            return (-0.5 * heights.square() - math.log(std * math.sqrt(2.0 * math.pi))).sum((1, 2))
        each = -0.5 * ((chain.after - mean) / std).square() - math.log(std * math.sqrt(2.0 * math.pi))
        return (each * (chain.free if rows is None else rows)[..., None]).sum((1, 2))

    def heights(self, free: Tensor, rows: Tensor) -> Tensor:
        """(B, modes, A) of the curves whose sum is nearest to ``rows`` (B, H, A)."""
        curves = self.curves(free).double()
        gram = curves.mT @ curves + TINY * torch.eye(self.modes, device=free.device)
        return torch.linalg.solve(gram, curves.mT @ rows.double()).to(rows.dtype)

    def curves(self, free: Tensor) -> Tensor:
        """Smooth curves (B, H, modes) over the rows, 0 where they are not ``free`` (B, H).

        The first rises within ``rise`` rows and stays, the second comes back by then, the third rises half as fast.
        """
        place = torch.cumsum(free, 1) * (free > 0)
        part = (place / self.rise).clamp(max=1.0)
        rising = part.square() * (3.0 - 2.0 * part)
        slow = (place / (2 * self.rise)).clamp(max=1.0)
        found = [rising, (math.pi * part).sin().square(), slow.square() * (3.0 - 2.0 * slow)]
        return torch.stack(found[: self.modes], -1)

    def divergence(self, mean: Tensor, reference: Tensor, chain: Chain) -> Tensor:
        """(B,) Kullback-Leibler divergence of the step's two Gaussians over the free rows; they share their std.

        Also with ``modes`` over all rows, as if the noise were white: an anchor has to hold what noise does not reach.
        """
        apart = ((mean - reference).square() * chain.free[..., None]).sum((1, 2))
        return apart / (2.0 * self.std(chain.index) ** 2)
