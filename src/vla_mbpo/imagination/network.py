"""The unified world model (torch; training and export only).

One transformer over two sorts of tokens. Context, once per observation: instruction, keypoints and latents of both
views, proprioception. Then, for each chunk step: action tokens | head latents | wrist latents | queries for
proprioception, success and cost. Attention is block-causal in this order: the wrist view sees the head view of its own
step, never the reverse (interleaved view decoding, VLA-MBPO, arXiv 2603.20607).

Image latents by rectified flow, x_t = (1 - t) x_0 + t noise, with a noise level t per view and step (diffusion forcing,
arXiv 2407.01392). The network predicts x_0; the velocity is (x_t - x_0) / t. At t = 1 its input is zero instead of
noise, which says as little, so one evaluation gives the conditional mean: the fast mode.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from vla_mbpo.imagination.autoencoder import TOKENS
from vla_mbpo.policy.network import Block

VIEWS = 2  # head, wrist
QUERIES = 3  # proprioception, success, cost
# Done by the end of the step; success discounted by its time; success at any time; discounted by the time that somebody
# who can do the task would take from there.
OUTCOMES = 4
BINS = 256
DROPOUT = 0.1  # in the ensemble's heads while training


@dataclass(frozen=True)
class WorldModelConfig:
    """Sizes of the network.

    ``eye`` counts a view's keypoint numbers; ``proprio`` joints, velocities, opening, tool position; ``action`` joints,
    opening and tool displacement of a row. ``interleaved``: whether the wrist view sees the head view of its step.
    """

    words: int
    text_length: int
    latent: int = 32
    eye: int = 128
    proprio: int = 18
    action: int = 11
    horizon: int = 16
    steps: int = 2
    width: int = 256
    layers: int = 6
    heads: int = 8
    rows_per_token: int = 2
    ensemble: int = 5
    auxiliary: int = 12
    interleaved: bool = True

    def to_dict(self) -> dict:
        """As plain JSON values."""
        return asdict(self)


class Ensemble(nn.Module):
    """Small heads over one shared trunk, each with its own start; their disagreement is the uncertainty."""

    def __init__(self, members: int, width: int, out: int, hidden: int = 64) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(members, width, hidden) / math.sqrt(width))
        self.bias = nn.Parameter(torch.randn(members, 1, hidden) * 0.1)
        self.second = nn.Parameter(torch.randn(members, hidden, out) / math.sqrt(hidden))
        self.level = nn.Parameter(torch.zeros(members, 1, out))

    def forward(self, x: Tensor) -> Tensor:
        """X (B, S, width) -> logits (members, B, S, out)."""
        members, width, hidden = self.first.shape
        first = self.first.transpose(0, 1).reshape(width, members * hidden)  # plain products: these can be made int8
        inner = F.gelu((x @ first).unflatten(-1, (members, hidden)) + self.bias[:, 0])
        inner = F.dropout(inner, DROPOUT, self.training)
        return ((inner[..., None] * self.second).sum(-2) + self.level[:, 0]).movedim(-2, 0)


class WorldModel(nn.Module):
    """The whole network. ``observe`` once per observation, ``imagine`` once per flow step, for all candidates."""

    frequencies: Tensor
    mask: Tensor

    def __init__(self, config: WorldModelConfig) -> None:
        super().__init__()
        self.config = config
        w, c = config.width, config
        self.words = nn.Embedding(c.words + 1, w, padding_idx=0)
        self.places = nn.Parameter(torch.randn(c.text_length, w) * 0.02)
        self.eyes = nn.ModuleList([nn.Sequential(nn.LayerNorm(c.eye), nn.Linear(c.eye, 2 * w)) for _ in range(VIEWS)])
        self.see = nn.Linear(c.latent, w)
        self.grid = nn.Parameter(torch.randn(VIEWS, TOKENS, w) * 0.02)
        self.body = nn.Sequential(nn.Linear(c.proprio, w), nn.GELU(), nn.Linear(w, w))
        self.kinds = nn.Parameter(torch.randn(3, w) * 0.02)  # text, eyes, body
        self.act = nn.Linear(c.rows_per_token * c.action * 9, w)
        self.unknown = nn.Parameter(torch.randn(w) * 0.02)
        self.rows = nn.Parameter(torch.randn(c.horizon // c.rows_per_token, w) * 0.02)
        self.enter = nn.Linear(c.latent, w)
        self.time = nn.Sequential(nn.Linear(64, w), nn.GELU(), nn.Linear(w, w))
        self.next_grid = nn.Parameter(torch.randn(VIEWS, TOKENS, w) * 0.02)
        self.beside = nn.Linear(c.latent, w)
        self.pose, self.posed = nn.Linear(c.proprio, w), nn.Linear(w, w)
        self.steer = nn.Linear(c.horizon // c.rows_per_token * w, w)
        self.queries = nn.Parameter(torch.randn(QUERIES, w) * 0.02)
        self.moments = nn.Parameter(torch.randn(c.steps, w) * 0.02)
        self.blocks = nn.ModuleList([Block(w, c.heads) for _ in range(c.layers)])
        self.norm = nn.LayerNorm(w)
        self.leave = nn.Linear(w, c.latent)
        self.moved = nn.Linear(w, c.proprio)
        self.outcome = Ensemble(c.ensemble, w, OUTCOMES)
        self.cost = Ensemble(c.ensemble, w, 1)
        self.locate = nn.ModuleList(
            [nn.Sequential(nn.Linear(w, w), nn.GELU(), nn.Linear(w, c.auxiliary)) for _ in "01"]
        )
        self.register_buffer("frequencies", torch.exp(torch.linspace(0, math.log(1000.0), 32)))
        self.register_buffer("mask", block_causal(c), persistent=False)
        for layer in (self.leave, self.moved, self.beside, self.posed, self.steer):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def observe(
        self, words: Tensor, eyes: Tensor, latents: Tensor, proprio: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Context of an observation.

        Args:
            words: (B, L) ids, 0 is padding.
            eyes: (B, VIEWS, E) keypoints of each view.
            latents: (B, VIEWS, TOKENS, latent) standardised.
            proprio: (B, P) standardised.

        Returns:
            keys and values (B, layers, 2, heads, T, d), additive mask (B, T), what each imagined token has beside it:
            the observation at its own place and the arm's pose (B, VIEWS, TOKENS, width), where things are (B,
            auxiliary).
        """
        pad = (words == 0).to(proprio.dtype) * -1e4
        text = self.words(words) + self.places + self.kinds[0]
        points = torch.cat([eye(eyes[:, i]).unflatten(1, (2, -1)) for i, eye in enumerate(self.eyes)], 1)
        seen = (self.see(latents) + self.grid).flatten(1, 2)
        body = self.body(proprio) + self.kinds[2]
        x = torch.cat([text, points + self.kinds[1], seen, body[:, None]], 1)
        mask = torch.cat([pad, torch.zeros_like(x[:, text.shape[1] :, 0])], 1)
        caches = []
        for block in self.blocks:
            x, fresh = block(x, mask[:, None, None, :], None)
            caches.append(torch.stack(fresh, 1))
        beside = self.beside(latents) + self.posed(F.gelu(self.pose(proprio)))[:, None, None]
        return torch.stack(caches, 1), mask, beside, self.locate[0](self.norm(x[:, -1]))

    def imagine(
        self, context: Sequence[Tensor], bins: Tensor, known: Tensor, noisy: Tensor, time: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """What chunks lead to.

        Args:
            context: the first three of ``observe``, with batch 1 or B.
            bins: (B, S, H, A) integers in 0..BINS-1, S <= steps.
            known: (B, S) 1 where the step's actions are given, 0 where they are not known yet.
            noisy: (B, S, VIEWS, TOKENS, latent) x_t relative to the latents of the observation.
            time: (B, S, VIEWS) noise level t: 1 nothing known, 0 clean.

        Returns:
            x_0 (as ``noisy``), proprioception relative to the observation's (B, S, P), logits of the outcomes
            (ensemble, B, S, OUTCOMES) and of a cost event within the step (ensemble, B, S), where things will be
            (B, S, auxiliary).
        """
        cache, mask, beside = context
        batch, steps = bins.shape[:2]
        x = self._tokens(beside, bins, known, noisy, time).flatten(1, 2)
        size = x.shape[1]
        own = self.mask[:size, :size].expand(batch, 1, size, size)
        past = mask[:, None, None, :].expand(batch, 1, size, mask.shape[1])
        wide = torch.cat([past, own], -1)
        for i, block in enumerate(self.blocks):
            k, v = cache[:, i, 0].expand(batch, -1, -1, -1), cache[:, i, 1].expand(batch, -1, -1, -1)
            x, _ = block(x, wide, (k, v))
        x = self.norm(x).unflatten(1, (steps, -1))
        images = self.leave(x[:, :, -QUERIES - VIEWS * TOKENS : -QUERIES]).unflatten(2, (VIEWS, TOKENS))
        body, success, cost = x[:, :, -3], x[:, :, -2], x[:, :, -1]
        return images, self.moved(body), self.outcome(success), self.cost(cost)[..., 0], self.locate[1](success)

    def _tokens(self, beside: Tensor, bins: Tensor, known: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        """Tokens (B, S, T, width) of the steps.

        A view's tokens get the observation at their own place, pose and actions as inputs too. By attention
        alone they had not learned in 120,000 samples to imagine more than the observation once more, where a linear
        regression explained 40 % of what changes.
        """
        c = self.config
        batch, steps = bins.shape[:2]
        value = (bins.to(noisy.dtype) + 0.5) * (2.0 / BINS) - 1.0
        angles = value[..., None] * (math.pi * 2.0 ** torch.arange(4, device=bins.device, dtype=noisy.dtype))
        features = torch.cat([value[..., None], angles.sin(), angles.cos()], -1)
        actions = self.act(features.reshape(batch, steps, c.horizon // c.rows_per_token, -1))
        known = known[:, :, None, None].to(noisy.dtype)
        actions = known * actions + (1 - known) * self.unknown + self.rows
        level = time[..., None] * self.frequencies
        clock = self.time(torch.cat([level.sin(), level.cos()], -1).to(noisy.dtype))[..., None, :]
        noisy = noisy * (time < 1.0)[..., None, None].to(noisy.dtype)
        way = self.steer(actions.flatten(2))[:, :, None, None]
        views = (self.enter(noisy) + clock + self.next_grid + beside[:, None] + way).flatten(2, 3)
        asked = self.queries.expand(batch, steps, -1, -1)
        return torch.cat([actions, views, asked], 2) + self.moments[:steps, None]


def block_causal(config: WorldModelConfig) -> Tensor:
    """Additive mask (T, T) over the tokens of all steps; see the module."""
    blocks = [config.horizon // config.rows_per_token, TOKENS, TOKENS, QUERIES]
    block = torch.cat([torch.full((n,), i) for i, n in enumerate(blocks)])
    order = torch.cat([block + step * len(blocks) for step in range(config.steps)])
    seen = order[None, :] <= order[:, None]
    if not config.interleaved:
        wrist, head = order[:, None] % len(blocks) == 2, order[None, :] % len(blocks) == 1
        same = order[:, None] // len(blocks) == order[None, :] // len(blocks)
        seen = seen & ~(wrist & head & same)
    return torch.where(seen, 0.0, -1e4)
