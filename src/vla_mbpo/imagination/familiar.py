"""How unlike everything in training a view is (torch; an ONNX graph on the robot).

Mahalanobis distance of a view's latents, in the subspace in which training varies, and what is left outside of it. The
ensemble does not notice pictures of another kind: its members share what they see with.
"""

import torch
from torch import Tensor, nn

AXES = 64  # principal axes of a view's latents


class Familiar(nn.Module):
    """Latents (B, VIEWS, TOKENS, latent) -> strangeness (B, VIEWS): about 1 for what training is like."""

    mean: Tensor
    axes: Tensor
    project: Tensor
    rest: Tensor

    def __init__(self, views: int, size: int) -> None:
        super().__init__()
        shape = views, size, min(AXES, size)
        self.register_buffer("mean", torch.zeros(views, 1, size))
        self.register_buffer("project", torch.zeros(shape))
        self.register_buffer("axes", torch.zeros(shape))  # the same, whitened
        self.register_buffer("rest", torch.ones(views))

    @classmethod
    def fit(cls, latents: Tensor) -> "Familiar":
        """From looks of the training rollouts (N, VIEWS, TOKENS, latent)."""
        flat = latents.float().flatten(2).transpose(0, 1)
        made = cls(flat.shape[0], flat.shape[2])
        for view in range(len(flat)):
            x = flat[view]
            mean = x.mean(0)
            centred = x - mean
            values, vectors = torch.linalg.eigh(centred.T @ centred / len(x))
            k = made.axes.shape[2]
            values, vectors = values[-k:].clamp(min=1e-4), vectors[:, -k:]
            left = (centred.square().sum(1) - (centred @ vectors).square().sum(1)).mean()
            made.mean[view, 0], made.project[view] = mean, vectors
            made.axes[view], made.rest[view] = vectors / values.sqrt(), left.clamp(min=1e-4)
        return made

    def forward(self, latents: Tensor) -> Tensor:
        """See the class."""
        centred = latents.flatten(2).transpose(0, 1) - self.mean
        along = (centred @ self.axes).square().mean(-1)
        left = centred.square().sum(-1) - (centred @ self.project).square().sum(-1)
        return (0.5 * (along + left / self.rest[:, None])).transpose(0, 1)
