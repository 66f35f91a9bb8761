"""What the world model sees with (torch): frozen eyes of a trained policy and the frozen image autoencoder.

The eyes tell where things are to a fraction of a pixel, the latents what the whole view looks like.
"""

from typing import cast

import torch
from torch import Tensor, nn

from vla_mbpo.imagination.autoencoder import Autoencoder
from vla_mbpo.policy.network import Eye, FlowPolicy


class Perception(nn.Module):
    """Pictures and instruction -> keypoints and latents of both views. Nothing in it is trained."""

    def __init__(self, policy: FlowPolicy, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.words, self.places, self.reader = policy.words, policy.places, policy.reader
        self.eyes, self.autoencoder = policy.eyes, autoencoder
        self.requires_grad_(False)
        self.eval()

    def forward(self, head: Tensor, wrist: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (B, 3, s, s) in 0..255, word ids (B, L) -> eyes (B, 2, E), latents (B, 2, TOKENS, latent)."""
        latents = self.autoencoder.encode(torch.cat([head, wrist])).unflatten(0, (2, -1)).transpose(0, 1)
        return self.points(head, wrist, words), latents

    def points(self, head: Tensor, wrist: Tensor, words: Tensor) -> Tensor:
        """The first of ``forward`` alone."""
        pad = (words == 0).to(head.dtype) * -1e4
        text, _ = self.reader(self.words(words) + self.places, pad[:, None, None, :], None)
        present = (words != 0).to(text.dtype)[..., None]
        gist = (text * present).sum(1) / present.sum(1)
        seen = []
        for name, image in (("head", head), ("wrist", wrist)):
            seen.append(cast(Eye, self.eyes[name]).keypoints(image / 127.5 - 1.0, gist))
        return torch.stack(seen, 1)
