"""Learning from what was desirable and what was not, without pairs of both: action preference optimisation (APO).

arXiv 2506.07127 and its released code (GeWu-Lab/Action-Preference-Optimization, f16f05f, MIT; read, not copied): the
value of KTO (arXiv 2402.01306) with weights by how far the policy's action is from the logged one,

    r = log pi(a|s) - log pi_start(a|s),    z = mean of r over actions of other observations, within BASELINE,
    loss = lambda_D (1 - sigmoid(b (r - z)))    desirable,    lambda_U (1 - sigmoid(b (z - r)))    undesirable,
    w_i = l_i / sum of l over the samples of the same kind,    lambda_D = 1 - exp(-w),    lambda_U = exp(-w).

What differs here: the policy is a flow and has no density at hand, so log pi is minus half the squared error of its
velocity at one draw of noise and time, the same draw for both policies (Diffusion-KTO, arXiv 2404.04465); l is the L1
error of the action that this velocity leads to. The release sums: with n samples of each kind lambda_D are 1 in all
and lambda_U nearly n. Here both kinds count the same, whatever their numbers; lambda says how much within its kind.
Beyond FURTHEST in the sigmoid there is no gradient: an undesirable chunk is left, not fled from for ever.
"""

import torch
from torch import Tensor

SHARPNESS = 0.1  # b, as released
BASELINE = 5.0  # as released
FURTHEST = 4.0  # there a sigmoid's slope is 0.018 of 0.25
LEAST = 1e-4  # added to errors, as released


def weights(error: Tensor, desirable: Tensor) -> Tensor:
    """Lambda (B,) of samples by their L1 ``error`` (B,); ``desirable`` (B,) bool. Carries no gradient."""
    found = torch.zeros_like(error)
    for kind in (True, False):
        mine = desirable == kind
        share = (error[mine].detach() + LEAST) / (error[mine].detach() + LEAST).sum()
        found[mine] = 1 - torch.exp(-share) if kind else torch.exp(-share)
    return found


def losses(ratio: Tensor, baseline: Tensor, desirable: Tensor, weight: Tensor) -> Tensor:
    """Loss of a batch, 0 to 1.

    Args:
        ratio: (B,) r.
        baseline: z, a mean without a gradient.
        desirable: (B,) bool.
        weight: (B,) lambda; a sample of weight 0 does not count.
    """
    sign = torch.where(desirable, 1.0, -1.0)
    gain = (SHARPNESS * sign * (ratio - baseline.detach().clamp(-BASELINE, BASELINE))).clamp(max=FURTHEST)
    each = 1 - gain.sigmoid()
    kinds = [each[mine] * weight[mine] / weight[mine].sum().clamp(min=1e-8) for mine in (desirable, ~desirable)]
    present = [kind.sum() for kind in kinds if len(kind)]
    return torch.stack(present).mean()
