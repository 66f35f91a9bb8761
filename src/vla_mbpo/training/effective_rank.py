"""How many independent directions of a chunk's actions the imagination listens to.

VAMPO (arXiv 2603.19370) reports the effective rank of d(action) / d(visual dynamics), of a policy whose input is what
the video predictor imagines. Here no policy reads imagined latents, so the same dependence is measured from its other
side: the Jacobian of the imagined latents with respect to the chunk's actions. A model that draws the same picture
whatever is done has few directions; ``readout`` asks the converse, which actions can be read from the imagined latents.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vla_mbpo.imagination.network import BINS, VIEWS, WorldModel
from vla_mbpo.training.denoising import evaluate

STEP = 4  # bins to either side of a difference quotient: 3 % of a dimension's range
RIDGE = 0.1  # of the readout, as a share of the mean variance of a latent


def effective_rank(matrix: NDArray[np.floating]) -> float:
    """exp(-sum p log p) with p = s / sum s, s the singular values of a matrix; 0 for a matrix of zeros."""
    values = np.linalg.svd(np.asarray(matrix, np.float64), compute_uv=False)
    total = values.sum()
    if total <= 0:
        return 0.0
    share = values[values > 0] / total
    return float(np.exp(-(share * np.log(share)).sum()))


@torch.no_grad()
def response(net: WorldModel, context: Sequence[Tensor], bins: Tensor) -> NDArray[np.float64]:
    """Jacobian (VIEWS * TOKENS * latent, H * A) of the conditional mean with respect to the actions of one look.

    By difference quotients over STEP bins to either side, for what the network is given are integers; one evaluation
    at t = 1, which sees no noise.

    Args:
        net: in evaluation mode.
        context: of ``observe``, batch 1.
        bins: (H, A) of the chunk.

    Returns:
        Change of standardised latents for the whole range of a dimension.
    """
    flat = bins.flatten()
    moves = torch.cat([torch.diag(torch.full_like(flat, STEP)), torch.diag(torch.full_like(flat, -STEP))])
    tried = (flat + moves).clamp(0, BINS - 1)
    x = context[2].new_zeros(len(tried), VIEWS, context[2].shape[-2], net.config.latent)
    images = evaluate(net, context, tried.unflatten(1, bins.shape), x, torch.ones_like(x[..., 0, 0]))[0][:, 0]
    up, down = images.flatten(1).double().numpy().reshape(2, len(flat), -1)
    apart = (tried[: len(flat)] - tried[len(flat) :]).diagonal().numpy() / BINS
    return ((up - down) / apart[:, None]).T


def readout(latents: NDArray[np.floating], actions: NDArray[np.floating]) -> NDArray[np.float64]:
    """Ridge regression (latents, actions) of actions (N, A) from imagined latents (N, L), both less their means.

    It is linear, so it is its own Jacobian, and has no random start that would count as rank.
    """
    x, y = (np.asarray(v, np.float64) - np.mean(v, 0, dtype=np.float64) for v in (latents, actions))
    square = x.T @ x
    return np.linalg.solve(square + RIDGE * np.trace(square) / len(square) * np.eye(len(square)), x.T @ y)
