"""Image autoencoder: a camera view <-> 16 latent tokens (torch; training and export only).

Trained once and then frozen: its latents are what the world model predicts.
"""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

TOKENS = 16  # per view, a 4 x 4 grid


@dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes. ``image_size`` is 16 times a whole number; ``latent`` the numbers per token."""

    image_size: int = 96
    latent: int = 32
    channels: tuple[int, int, int] = (64, 96, 160)

    def to_dict(self) -> dict:
        """As plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict) -> "AutoencoderConfig":
        """From what ``to_dict`` gave, also after a way through JSON."""
        return cls(**{**raw, "channels": tuple(raw["channels"])})


class _Residual(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(8, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, 1, 1),
            nn.GroupNorm(8, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, 1, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """X (B, C, H, W)."""
        return x + self.body(x)


class Autoencoder(nn.Module):
    """Encoder and decoder. Latents are standardised by ``mean`` and ``std``, set after training by ``standardise``."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        a, b, c = config.channels
        patch = config.image_size // 16
        self.encoder = nn.Sequential(
            nn.Conv2d(3, a, patch, patch), nn.SiLU(), nn.Conv2d(a, a, 3, 1, 1), nn.SiLU(),
            nn.Conv2d(a, b, 3, 2, 1), _Residual(b),
            nn.Conv2d(b, c, 3, 2, 1), _Residual(c),
            nn.Conv2d(c, config.latent, 1),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Conv2d(config.latent, c, 3, 1, 1), _Residual(c),
            nn.Conv2d(c, 4 * b, 1), nn.PixelShuffle(2), _Residual(b),
            nn.Conv2d(b, 4 * a, 1), nn.PixelShuffle(2), _Residual(a),
            nn.SiLU(), nn.Conv2d(a, 3 * patch**2, 3, 1, 1), nn.PixelShuffle(patch),
        )  # fmt: skip
        self.register_buffer("mean", torch.zeros(config.latent))
        self.register_buffer("std", torch.ones(config.latent))

    def encode(self, images: Tensor) -> Tensor:
        """Images (B, 3, s, s) in 0..255 -> standardised latents (B, TOKENS, latent)."""
        raw = self.encoder(images.to(self.mean.dtype) / 127.5 - 1.0)
        return (raw.flatten(2).transpose(1, 2) - self.mean) / self.std

    def decode(self, latents: Tensor) -> Tensor:
        """Standardised latents (B, TOKENS, latent) -> images (B, 3, s, s) in about [-1, 1]."""
        raw = latents * self.std + self.mean
        side = int(TOKENS**0.5)
        return self.decoder(raw.transpose(1, 2).unflatten(2, (side, side)))

    def standardise(self, latents: Tensor) -> None:
        """Make the latents of these images, (N, TOKENS, latent) from ``encode``, zero mean and unit variance."""
        flat = (latents * self.std + self.mean).flatten(0, 1)
        self.mean, self.std = flat.mean(0), flat.std(0).clamp(min=1e-3)
