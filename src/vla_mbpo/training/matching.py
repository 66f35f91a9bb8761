"""Flow matching of given chunks: how far a policy's velocity is off at noise that was drawn once."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vla_mbpo.policy.network import FlowPolicy
from vla_mbpo.training.dream_world import States
from vla_mbpo.training.flow_sde import FlowSde
from vla_mbpo.training.precision import reduced


@dataclass(frozen=True)
class Noised:
    """Chunks with noise, so that several networks can be asked about the same.

    Attributes:
        rows: (B, H, A) what a network is shown; committed rows are clean.
        moment: (B, H) their flow time.
        wanted: (B, H, A) the velocity that leads to the chunk.
    """

    rows: Tensor
    moment: Tensor
    wanted: Tensor

    @classmethod
    def of(cls, flow: FlowSde, states: States, chunks: Tensor) -> "Noised":
        """Chunks (B, H, A), one for each of the states; time is uniform. Draws from torch's generator."""
        moment = flow.time(states.free, 0) + states.free * torch.rand(len(states), 1, device=chunks.device)
        chunk = torch.where(states.free[..., None] > 0, chunks, states.prefix)
        noise = torch.randn_like(chunk)
        return cls(moment[..., None] * chunk + (1 - moment[..., None]) * noise, moment, chunk - noise)

    def off(self, net: FlowPolicy, cache: Tensor, mask: Tensor, said: Tensor | None = None) -> Tensor:
        """(B, H, A) the network's velocity less the wanted one; ``said``: as ``FlowPolicy.velocity`` takes it."""
        with reduced(self.rows.device):
            return net.velocity(cache, mask, self.rows, self.moment, said).float() - self.wanted

    def ends_off(self, off: Tensor) -> Tensor:
        """(B, H, A) how far the action is off that a velocity which is ``off`` so much leads straight to."""
        return (1 - self.moment[..., None]) * off


def mean(off: Tensor, rows: Tensor) -> Tensor:
    """Mean squared error of velocities that are ``off`` (B, H, A), over the rows (B, H) that count."""
    return (off.square().mean(-1) * rows).sum() / rows.sum().clamp(min=1.0)
