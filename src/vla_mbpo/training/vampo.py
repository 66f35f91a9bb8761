"""``vla-mbpo train vampo``: the world model's denoiser is post-trained so that dreams match the logged future.

VAMPO (arXiv 2603.19370): the denoiser is the policy, its first step the random action (training/denoising.py). From a
logged look a group of dreams is denoised that differ in that step only; the reward of each view is its latents' mean
absolute error and cosine against what was logged; advantages are over the group; PPO's pessimistic clip. (VAMPO's
released loss takes the minimum of the two losses, which is the optimistic one.) The wrist view of a group is given one
plainly denoised head view, so that its reward is for its own step.

Anchors: the closed-form divergence of the first step from the start's, and outcome and cost logits of the fast mode,
which stay where they were; the flow's own supervised loss, off by default. The heads are frozen, and so are the blocks
that all tokens share, unless ``blocks`` is 1.
"""

import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from vla_mbpo.core.errors import require
from vla_mbpo.imagination.network import VIEWS, WorldModel
from vla_mbpo.training import world_model
from vla_mbpo.training.denoising import HEAD, WRIST, HybridSampler, denoise, evaluate, imagined
from vla_mbpo.training.kept import plain
from vla_mbpo.training.loop import MAY_CHANGE, averaged
from vla_mbpo.training.precision import CPU, reduced
from vla_mbpo.training.world_model import MAX_WEIGHT, WorldModelRecipe

IMAGES = ("enter", "leave", "time", "next_grid", "beside", "steer")  # parameters that only imagined images use
SHARED = ("blocks", "norm")
FURTHEST = 2.0  # standard deviations that an advantage counts at most (VAMPO)
RATIO = 5.0  # largest logarithm of a ratio of densities
FIXED = 96  # validation looks that the run is judged by as it goes, every EVERY refills
EVERY = 10
TRIED = 16  # looks whose dreams are denoised at once


@dataclass(frozen=True)
class VampoRecipe:
    """``samples``, ``batch``: looks. ``world_model``: the run folder to start from."""

    data: tuple[str, ...]
    world_model: str = "models/training/world_model"
    group: int = 8  # dreams of a look
    states: int = 32  # looks per refill
    updates: int = 4  # per refill
    samples: int = 3_200
    batch: int = 16
    learning_rate: float = 3e-5
    warmup: int = 10
    ema: float = 0.95
    steps: int = 4  # of the flow, per view
    noise: float = 1.0  # share of the noise after the first step that is drawn anew
    clip: float = 0.2
    policy_weight: float = 1.0
    kl: float = 0.1  # weight of the divergence from the start [nat per view]
    supervised: float = 0.0  # weight of the flow's own loss; with policy_weight 0: plain finetuning
    heads: float = 1.0  # weight of the squared change of the fast mode's logits
    blocks: int = 0  # 1: the shared blocks are trained, too
    seed: int = 0
    threads: int = 2


@dataclass(frozen=True)
class Refill:
    """Dreams of some looks, and what they are worth. Thrown away at the next refill; R looks, G members.

    Attributes:
        index: (R,) looks.
        start: (R, VIEWS, TOKENS, latent) noise at t = 1, of all members.
        head: (R, TOKENS, latent) the plainly denoised head view that the wrist view is given.
        after: (R, VIEWS, G, TOKENS, latent) where the random step led.
        density, advantage: (R, VIEWS, G).
        reference: (R, VIEWS, TOKENS, latent) mean of the random step under the start; logits: (R, .) its fast mode's.
    """

    index: Tensor
    start: Tensor
    head: Tensor
    after: Tensor
    density: Tensor
    advantage: Tensor
    reference: Tensor
    logits: Tensor


class Trainer(world_model.Trainer):
    """Post-trains one world model; what ``run`` leaves under ``out`` is a world-model run."""

    checkpoint_steps = 40

    def __init__(self, recipe: VampoRecipe, out: Path) -> None:
        """ConfigError without rollouts, or where refills and checkpoints would not meet."""
        even = self.checkpoint_steps % recipe.updates == 0
        require(even, "updates", recipe.updates, f"a divisor of {self.checkpoint_steps}, steps between checkpoints")
        self.vampo, self.sampler = recipe, HybridSampler(recipe.steps, recipe.noise)
        super().__init__(_as_world_model(recipe), out)
        self.net.eval()  # no dropout in the heads: their logits are compared with the start's
        self.start = copy.deepcopy(self.net).requires_grad_(False)
        trained = IMAGES + SHARED * recipe.blocks
        for name, parameter in self.net.named_parameters():
            parameter.requires_grad_(name.split(".")[0] in trained)
        follows = self.rollouts.seen[:, 0]
        self._starts, held = (torch.from_numpy(x[follows[x]]) for x in (self.train, self.validation))
        require(len(held) > 0 and len(self._starts) > 0, "data", recipe.data, "more rollouts: some scenes are held out")
        self._fixed = held[torch.randperm(len(held), generator=torch.Generator().manual_seed(0))[:FIXED]]
        self._population = recipe.states
        self._refill: Refill | None = None
        self.refills: list[dict[str, float]] = []

    def _loss(self, chosen: NDArray[np.int64]) -> dict[str, Tensor]:
        recipe = self.vampo
        if self._refill is None or self.step % recipe.updates == 0:
            self._refill = self._dream()
        refill, drawn = self._refill, torch.from_numpy(chosen)
        index = refill.index[drawn]
        mean, logits = self._first_step(self.net, index, refill.start[drawn], refill.head[drawn])
        ratio = (self._density(mean, refill.after[drawn]) - refill.density[drawn]).clamp(-RATIO, RATIO).exp()
        apart = self.sampler.divergence(mean.flatten(0, 1), refill.reference[drawn].flatten(0, 1)).mean()
        supervised = {"supervised": recipe.supervised * self._supervised(index)} if recipe.supervised else {}
        return supervised | {
            "policy": recipe.policy_weight * pessimistic(ratio, refill.advantage[drawn], recipe.clip).mean(),
            "kl": recipe.kl * apart,
            "heads": recipe.heads * (logits - refill.logits[drawn]).square().mean(),
        }

    def _first_step(self, net: WorldModel, index: Tensor, start: Tensor, head: Tensor) -> tuple[Tensor, Tensor]:
        """Mean of both views' random step (B, VIEWS, TOKENS, latent); the fast mode's logits (B, .) on the way."""
        context = net.observe(*self.inputs(index))[:3]
        bins, count = self.futures(index)[0][:, 0], len(index)
        nothing = torch.zeros_like(start)
        x = torch.cat([nothing, torch.stack([head, nothing[:, WRIST]], 1)])
        time = torch.cat([start.new_ones(count, VIEWS), start.new_tensor([0.0, 1.0]).expand(count, -1)])
        images, _, outcome, cost, _ = evaluate(net, [torch.cat([c, c]) for c in context], bins.repeat(2, 1, 1), x, time)
        clean = torch.stack([images[:count, 0, HEAD], images[count:, 0, WRIST]], 1)
        logits = torch.cat([outcome[:, :count, 0], cost[:, :count]], -1)
        return self.sampler.mean(clean, start), logits.movedim(0, 1).flatten(1)

    def _density(self, mean: Tensor, after: Tensor) -> Tensor:
        """(B, VIEWS, G)."""
        return self.sampler.log_density(mean.flatten(0, 1), after.flatten(0, 1)).unflatten(0, (-1, VIEWS))

    def _supervised(self, index: Tensor) -> Tensor:
        """The world model's own loss on imagined latents of one chunk, noise levels drawn as there."""
        bins, target, _ = self.futures(index)
        bins, target = bins[:, 0], target[:, 0]
        time = torch.sigmoid(torch.randn(len(index), VIEWS))
        t = time[..., None, None]
        with reduced(CPU):
            context = self.net.observe(*self.inputs(index))[:3]
            images = evaluate(self.net, context, bins, (1 - t) * target + t * torch.randn_like(target), time)[0][:, 0]
        error = (images.float() - target).square().mean((-1, -2))
        return (error * time.clamp(min=MAX_WEIGHT**-0.5) ** -2).mean()

    @torch.no_grad()
    def _dream(self) -> Refill:
        """Draw looks, dream a group from each, and reward them."""
        recipe = self.vampo
        torch.manual_seed(1_000_003 * recipe.seed + self.step)  # so that a resumed run draws what it would have drawn
        index = self._starts[torch.randint(0, len(self._starts), (recipe.states,))]
        start = torch.randn(recipe.states, *self.latents.shape[1:])
        parts = [self._dreams(index[part], start[part]) for part in torch.arange(recipe.states).split(TRIED)]
        head, after, density, reward, reference, logits = (torch.cat(column) for column in zip(*parts, strict=True))
        found = {f"{name}_spread": float(reward[:, v].std(1).mean()) for v, name in enumerate(("head", "wrist"))}
        self._note(found)
        return Refill(index, start, head, after, density, group_advantages(reward), reference, logits)

    def _dreams(self, index: Tensor, start: Tensor) -> tuple[Tensor, ...]:
        """A group of dreams from each of some looks: head, after, density, reward (B, VIEWS, G), reference, logits."""
        group, steps = self.vampo.group, self.vampo.steps
        bins, target, _ = self.futures(index)
        bins, now = bins[:, 0], self.latents[index].float()
        context = self.net.observe(*self.inputs(index))[:3]
        with reduced(CPU):  # only drawn here; densities are those of the whole precision
            head = denoise(self.net, context, bins, start, HEAD, steps)[:, HEAD]
        mean, _ = self._first_step(self.net, index, start, head)
        reference, logits = self._first_step(self.start, index, start, head)
        after = self.sampler.draw(mean.flatten(0, 1), group).unflatten(0, (-1, VIEWS))
        wide, actions = [c.repeat_interleave(group, 0) for c in context], bins.repeat_interleave(group, 0)
        seen = []
        for view in (HEAD, WRIST):
            own, given = after[:, view].flatten(0, 1), head.repeat_interleave(group, 0)
            x = torch.stack([own, torch.zeros_like(own)] if view == HEAD else [given, own], 1)
            with reduced(CPU):
                seen.append(
                    denoise(self.net, wide, actions, x, view, steps, begin=1)[:, view].unflatten(0, (-1, group))
                )
        reward = latent_reward(torch.stack(seen, 1) + now[:, :, None], (target[:, 0] + now)[:, :, None])
        return head, after, self._density(mean, after), reward, reference, logits

    def _note(self, found: dict[str, float]) -> None:
        """One more line of ``refills``; every EVERY refills also what the average does at fixed validation looks."""
        found["step"] = self.step
        if self.step // self.vampo.updates % EVERY == 0:
            found |= self._at_fixed()
        self.refills.append({name: round(value, 5) for name, value in found.items()})
        print(self.refills[-1], flush=True)

    @torch.no_grad()
    def _at_fixed(self) -> dict[str, float]:
        """Gain of plain dreams of the average over the start's, same looks, same noise; drift of the fast mode."""
        now = WorldModel(self.net.config).eval()
        now.load_state_dict(self.average)
        make, index = torch.Generator().manual_seed(0), self._fixed
        noise = torch.randn(len(index), *self.latents.shape[1:], generator=make)
        (bins, target, _), here = self.futures(index), self.latents[index].float()
        rewards, logits = [], []
        with reduced(CPU):
            for net in (now, self.start):
                context = net.observe(*self.inputs(index))[:3]
                seen = imagined(net, context, bins[:, 0], noise, self.vampo.steps)
                rewards.append(latent_reward(seen + here, target[:, 0] + here).mean(0))
                logits.append(self._first_step(net, index, noise, seen[:, HEAD])[1].float())
        gain = rewards[0] - rewards[1]
        drift = (logits[0] - logits[1]).square().mean().sqrt()
        return {"head_gain": float(gain[HEAD]), "wrist_gain": float(gain[WRIST]), "logit_drift": float(drift)}

    def _facts(self) -> dict[str, Any]:
        return super()._facts() | {"vampo": asdict(self.vampo), "refills": self.refills}

    def _restore(self, state: dict[str, Any]) -> None:
        mine = json_values(self.vampo)
        for name, value in state["vampo"].items():
            text = f"{self.out} was begun with {value!r}"
            require(name in MAY_CHANGE or mine[name] == value, f"vampo.{name}", mine[name], text)
        self.refills = state["refills"]


def latent_reward(seen: Tensor, real: Tensor) -> Tensor:
    """VAMPO's reward of latents (..., TOKENS, latent): cosine less mean absolute error, over a view's latents."""
    seen, real = seen.flatten(-2), real.flatten(-2)
    return functional.cosine_similarity(seen, real, dim=-1) - (seen - real).abs().mean(-1)


def group_advantages(reward: Tensor) -> Tensor:
    """How much better than its group, (..., G), in the group's standard deviations, FURTHEST at most (VAMPO)."""
    away = reward - reward.mean(-1, keepdim=True)
    return (away / (reward.std(-1, keepdim=True) + 1e-8)).clamp(-FURTHEST, FURTHEST)


def pessimistic(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """PPO's loss of each sample: the larger one of the plain and the clipped loss."""
    return torch.maximum(-ratio * advantage, -ratio.clamp(1.0 - clip, 1.0 + clip) * advantage)


def json_values(recipe: VampoRecipe) -> dict[str, Any]:
    """The recipe as it comes back from state.json."""
    return asdict(replace(recipe, data=())) | {"data": list(recipe.data)}


def _as_world_model(recipe: VampoRecipe) -> WorldModelRecipe:
    """The world model's recipe that goes on from the start: same perception, same ranges, this run's data and steps."""
    _, state = averaged(Path(recipe.world_model))
    branched = tuple(folder for folder in recipe.data if _branched(Path(folder)))
    names = ("data", "samples", "batch", "learning_rate", "warmup", "ema", "seed", "threads")
    mine = {name: getattr(recipe, name) for name in names}
    theirs = {name: tuple(v) if isinstance(v, list) else v for name, v in state["recipe"].items()}
    changed = {"init": recipe.world_model, "branches": branched, "weight_decay": 0.0, "device": "cpu"}
    return WorldModelRecipe(**(theirs | mine | changed))


def _branched(folder: Path) -> bool:
    """Whether a folder's rollouts were branched."""
    for file in plain(folder)[:1]:
        with np.load(file) as episode:
            return "hits" in episode
    return False
