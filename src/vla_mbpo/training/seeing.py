"""A policy's eyes learn to find what the world model's eyes find: in logged pictures, and in changed ones.

A log holds few scenes. The world model's keypoints can be asked for any picture and any instruction, so there are more
lessons than observations: pictures are shifted, made brighter or darker, partly covered by others, and asked about with
other instructions. Knowledge distillation (arXiv 1503.02531), keypoints instead of probabilities.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_mbpo.imagination.perception import Perception
from vla_mbpo.policy.network import FlowPolicy
from vla_mbpo.training.dataset import Augment

SHIFT = 10  # pixels
BRIGHTNESS = 0.25
COVERED = 0.5  # share of the pictures of which a rectangle comes from another one
LARGEST = 0.6  # of its sides, as a share of the picture's


class Seeing(nn.Module):
    """Linear read-outs of the policy's tokens of each view, which are to give the world model's keypoints there."""

    def __init__(self, perception: Perception, width: int, eyes: Tensor, words: Tensor) -> None:
        """``width`` of the policy's tokens; ``eyes`` (N, 2, E) keypoints of a log; ``words`` (T, L) to ask with."""
        super().__init__()
        self._teacher = (perception,)  # a tuple: it is not trained, and no part of this module's state
        self._words = words
        self._mean, self._std = eyes.float().mean(0), eyes.float().std(0).clamp(min=1e-3)
        self.tell = nn.ModuleList([nn.Linear(2 * width, eyes.shape[-1]) for _ in range(eyes.shape[1])])

    def loss(self, net: FlowPolicy, head: Tensor, wrist: Tensor) -> Tensor:
        """Of a batch of pictures (B, s, s, 3) uint8, changed at random."""
        change = Augment(SHIFT, BRIGHTNESS, 0.0)
        head, wrist = (covered(change.images(view)) for view in (head, wrist))
        words = self._words[torch.randint(0, len(self._words), (len(head),), device=head.device)]
        with torch.no_grad():
            wanted = (self._teacher[0].points(head, wrist, words) - self._mean) / self._std
            gist = net.read(words)[1]
        views = net.look(head, wrist, gist)
        told = torch.stack([tell(view.flatten(1)) for tell, view in zip(self.tell, views, strict=True)], 1)
        return functional.smooth_l1_loss(told, wanted)


def covered(pictures: Tensor) -> Tensor:
    """Pictures (B, 3, s, s), some with a rectangle of another one of the batch in the same place (CutMix)."""
    count, _, size, _ = pictures.shape
    near = torch.arange(size, device=pictures.device)
    begin = torch.rand(2, count, 1, device=pictures.device) * size
    length = torch.rand(2, count, 1, device=pictures.device) * LARGEST * size
    inside = (near >= begin) & (near < begin + length)
    some = torch.rand(count, device=pictures.device) < COVERED
    where = (inside[0][:, :, None] & inside[1][:, None, :])[:, None] & some[:, None, None, None]
    return torch.where(where, pictures[torch.randperm(count, device=pictures.device)], pictures)
