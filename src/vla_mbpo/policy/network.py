"""The flow-matching vision-language-action network (torch; training and export only).

Prefix tokens (instruction words, two keypoint tokens per camera, proprioception) attend to one another; suffix tokens
(one per chunk row) attend to everything, so the prefix's keys and values are computed once per observation and shared
by all candidates and flow steps (pi0, arXiv 2410.24164). Each row has its own flow time: committed rows enter clean
at time 1 (training-time real-time chunking, after arXiv 2506.07339).
"""

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


@dataclass(frozen=True)
class PolicyConfig:
    """Sizes of the network.

    ``action`` counts joints plus gripper; ``proprio`` joints, velocities and opening; ``things`` the objects on the
    table whose positions the views are trained to tell.
    """

    words: int
    text_length: int
    image_size: int = 96
    action: int = 8
    proprio: int = 15
    horizon: int = 16
    width: int = 256
    layers: int = 4
    heads: int = 8
    channels: tuple[int, int, int] = (32, 48, 64)
    keypoints: int = 32
    auxiliary: int = 12
    things: int = 8

    def to_dict(self) -> dict:
        """As plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict) -> "PolicyConfig":
        """From what ``to_dict`` gave, also after a way through JSON."""
        return cls(**{**raw, "channels": tuple(raw["channels"])})


class Film(nn.Module):
    """Scale and shift of feature maps by the instruction (FiLM, arXiv 1709.07871)."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.affine = nn.Linear(width, 2 * channels)
        nn.init.normal_(self.affine.weight, std=0.02)
        nn.init.zeros_(self.affine.bias)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """X (B, C, H, W), text (B, width)."""
        scale, shift = self.affine(text)[:, :, None, None].chunk(2, dim=1)
        return x * (1 + scale) + shift


class Eye(nn.Module):
    """One camera view -> two tokens of spatial-softmax keypoints with their values.

    Heat maps are standardised over the image before the softmax and start with a temperature that makes them peaked:
    raw ones start flat, every keypoint then sits in the middle and its gradient vanishes (seen in training).
    """

    grid: Tensor

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        c1, c2, c3 = config.channels
        self.stem = nn.Conv2d(3, c1, 5, 2, 2)
        self.convs = nn.ModuleList([nn.Conv2d(c1, c2, 3, 2, 1), nn.Conv2d(c2, c3, 3, 1, 1)])
        self.norms = nn.ModuleList([nn.GroupNorm(8, c) for c in (c2, c3)])
        self.films = nn.ModuleList([Film(config.width, c) for c in (c2, c3)])
        self.heat = nn.Conv2d(c3, config.keypoints, 1)
        self.sharpness = nn.Parameter(torch.full((config.keypoints, 1), math.log(4.0)))
        side = config.image_size // 4
        line = torch.linspace(-1, 1, side)
        self.register_buffer("grid", torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).reshape(-1, 2))
        self.out = nn.Sequential(
            nn.Linear(4 * config.keypoints, config.width), nn.GELU(), nn.Linear(config.width, 2 * config.width)
        )
        self.pool = nn.Linear(c3, config.keypoints)

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """Image (B, 3, s, s) in [-1, 1] -> tokens (B, 2, width)."""
        return self.out(self.keypoints(image, text)).unflatten(1, (2, -1))

    def keypoints(self, image: Tensor, text: Tensor) -> Tensor:
        """Where each keypoint is, how sure that is, and context: (B, 4 * keypoints)."""
        x = F.relu(self.stem(image))
        for conv, norm, film in zip(self.convs, self.norms, self.films, strict=True):
            x = F.relu(film(norm(conv(x)), text))
        context = self.pool(x.mean((2, 3)).to(text.dtype))
        heat = self.heat(x).flatten(2)
        with torch.autocast(heat.device.type, enabled=False):  # bf16 would round a keypoint by a third of a pixel
            heat = heat.float()
            level = heat.mean(-1, keepdim=True)
            spread = (heat - level).pow(2).mean(-1, keepdim=True).add(1e-5).sqrt()
            weight = torch.softmax((heat - level) / spread * self.sharpness.exp(), dim=-1)
            points = weight @ self.grid
            values = (weight * heat).sum(-1)
        return torch.cat([points.flatten(1), values, context.float()], dim=1)


class Block(nn.Module):
    """Pre-norm transformer block whose keys and values may be extended by cached ones."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(
        self, x: Tensor, mask: Tensor | None, cached: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """X (B, T, width); mask (B, 1, 1, S) additive; cached keys and values (B, heads, P, d)."""
        split = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = split[0], split[1], split[2]
        fresh = (k, v)
        if cached is not None:
            k, v = torch.cat([cached[0], k], 2), torch.cat([cached[1], v], 2)
        attention = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + (0 if mask is None else mask), -1)
        x = x + self.proj((attention @ v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x)), fresh


class FlowPolicy(nn.Module):
    """The whole network. ``encode`` once per observation, ``velocity`` once per flow step."""

    frequencies: Tensor

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.config = config
        w = config.width
        self.words = nn.Embedding(config.words + 1, w, padding_idx=0)
        self.places = nn.Parameter(torch.randn(config.text_length, w) * 0.02)
        self.reader = Block(w, config.heads)
        self.eyes = nn.ModuleDict({"head": Eye(config), "wrist": Eye(config)})
        self.body = nn.Sequential(nn.Linear(config.proprio, w), nn.GELU(), nn.Linear(w, w))
        self.kinds = nn.Parameter(torch.randn(5, w) * 0.02)
        self.blocks = nn.ModuleList([Block(w, config.heads) for _ in range(config.layers)])
        self.norm = nn.LayerNorm(w)
        self.enter = nn.Linear(config.action, w)
        self.rows = nn.Parameter(torch.randn(config.horizon, w) * 0.02)
        self.time = nn.Sequential(nn.Linear(64, w), nn.GELU(), nn.Linear(w, w))
        self.leave = nn.Linear(w, config.action)
        self.locate = nn.Sequential(nn.Linear(w, w), nn.GELU(), nn.Linear(w, config.auxiliary))
        self.surveyors = nn.ModuleList(
            [nn.Sequential(nn.Linear(2 * w, w), nn.GELU(), nn.Linear(w, 2 * config.things)) for _ in self.eyes]
        )
        self.register_buffer("frequencies", torch.exp(torch.linspace(0, math.log(1000.0), 32)))
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def read(self, words: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Word ids (B, L) -> text tokens (B, L, width), their mean (B, width), additive mask of the padding (B, L)."""
        pad = (words == 0).to(self.places.dtype) * -1e4
        text, _ = self.reader(self.words(words) + self.places, pad[:, None, None, :], None)
        present = (words != 0).to(text.dtype)[..., None]
        return text, (text * present).sum(1) / present.sum(1), pad

    def look(self, head: Tensor, wrist: Tensor, gist: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, s, s) in 0..255 -> tokens of each view (B, 2, width)."""
        views = (("head", head), ("wrist", wrist))
        tokens = [self.eyes[name](image.to(self.places.dtype) / 127.5 - 1.0, gist) for name, image in views]
        return tokens[0], tokens[1]

    def survey(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """Where all things on the table are, from each view alone (B, 2, 2 * things): a training signal only.

        Without it the network reads the object's position off the arm, which is on its way there, and never learns to
        see it (seen in training: no better than chance on first frames).
        """
        return torch.stack([self.surveyors[i](view.flatten(1)) for i, view in enumerate(views)], 1)

    def encode(self, head: Tensor, wrist: Tensor, words: Tensor, proprio: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Prefix of an observation.

        Args:
            head, wrist: (B, 3, s, s) uint8 or float in 0..255.
            words: (B, L) ids.
            proprio: (B, P) standardised.

        Returns:
            keys and values (B, layers, 2, heads, T, d), attention mask (B, T) additive, features (B, width).
        """
        text, gist, pad = self.read(words)
        return self.prefix(text, pad, self.look(head, wrist, gist), proprio)

    def prefix(
        self, text: Tensor, pad: Tensor, views: tuple[Tensor, Tensor], proprio: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The rest of ``encode`` after ``read`` and ``look``."""
        kinds = self.kinds
        seen = [views[0] + kinds[0], views[1] + kinds[1]]
        x = torch.cat([text + kinds[2], *seen, (self.body(proprio) + kinds[3])[:, None]], dim=1)
        mask = torch.cat([pad, torch.zeros_like(proprio[:, :5])], dim=1)
        caches = []
        for block in self.blocks:
            x, fresh = block(x, mask[:, None, None, :], None)
            caches.append(torch.stack(fresh, 1))
        features = self.norm(x[:, -5:]).mean(1)
        return torch.stack(caches, 1), mask, features

    def velocity(self, cache: Tensor, mask: Tensor, rows: Tensor, time: Tensor, said: Tensor | None = None) -> Tensor:
        """Flow velocity (B, H, A) of noisy ``rows`` (B, H, A) at per-row ``time`` (B, H): 0 noise, 1 data.

        ``cache`` and ``mask`` as from ``encode``, with batch 1 or B. ``said`` (B, width): what else the rows are told
        in training (training/recap.py); None on the robot.
        """
        angles = time[..., None] * self.frequencies
        clock = self.time(torch.cat([angles.sin(), angles.cos()], -1).to(rows.dtype))
        x = self.enter(rows) + self.rows + clock + self.kinds[4]
        if said is not None:
            x = x + said[:, None]
        wide = torch.cat([mask, torch.zeros_like(mask[:, :1]).expand(-1, rows.shape[1])], 1)[:, None, None, :]
        batch = rows.shape[0]
        for i, block in enumerate(self.blocks):
            k, v = cache[:, i, 0].expand(batch, -1, -1, -1), cache[:, i, 1].expand(batch, -1, -1, -1)
            x, _ = block(x, wide, (k, v))
        return self.leave(self.norm(x))
