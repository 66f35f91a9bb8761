"""``vla-mbpo train dream-rl``: proximal policy optimisation of a flow policy in the world model, on logged rollouts.

From a logged observation the policy tries a group of chunks (Flow-SDE, one random step; training/flow_sde.py); the
world model says what each leads to: success discounted by what is left to do, which is reward and bootstrap in one, and
cost. A chunk's advantage is over the others of its observation (VLA-MBPO, arXiv 2603.20607, with a branch of one chunk
and the world model's own value; groups as in GRPO). Anchors: the closed-form divergence from the policy that the run
starts from, with a budget, and behaviour cloning of logged attempts that went well. Cost has a limit and a Lagrange
multiplier (SafeVLA, arXiv 2503.03480). What the policy sees with stays frozen.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vla_mbpo.core.errors import require
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.paths import bundle_dir, robot_dir
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.policy.network import FlowPolicy
from vla_mbpo.training.advantages import Multiplier, within_groups
from vla_mbpo.training.dream_world import DreamWorld, States
from vla_mbpo.training.flow_sde import Chain, FlowSde, Velocity
from vla_mbpo.training.loop import Loop
from vla_mbpo.training.rollout_data import Rollouts
from vla_mbpo.training.sft import load_policy

FROZEN = ("words", "places", "reader", "eyes", "locate", "surveyors")
LEAST_FAILURES = 0.1  # of the logged attempts
UNSET = -1.0  # the limit on cost, before the start's cost is known
TRIED = 64  # observations whose chunks are tried and judged at once


@dataclass(frozen=True)
class DreamRlRecipe:
    """``samples``, ``batch``: observations. ``policy``: the bundle to start from; ``world_model``: a run folder."""

    data: tuple[str, ...]
    policy: str = "sft_few"
    world_model: str = "models/training/world_model"
    robot: str = "sim_panda"
    group: int = 8  # chunks tried per observation
    states: int = 192  # observations per refill
    updates: int = 8  # per refill
    samples: int = 16_000
    batch: int = 48
    learning_rate: float = 5e-5
    warmup: int = 10
    ema: float = 0.95
    weight_decay: float = 0.0
    steps: int = 5  # of the flow
    noise: float = 0.5  # of its random step
    clip: float = 0.1
    kl: float = 0.02  # weight of the divergence from the start
    budget: float = 6.0  # of it, per chunk; above, only the anchors count
    cloning: float = 0.5  # weight of behaviour cloning
    doubt: float = 1.0  # what a standard deviation of the ensemble takes off the value
    cost_limit: float = 0.4  # mean cost per chunk, as a share of the start's
    multiplier: float = 1.0  # first Lagrange multiplier, ...
    multiplier_rate: float = 10.0  # ... and its step per refill and unit of cost per chunk
    least_spread: float = 0.002  # of a group's scores; below, it says nothing
    seed: int = 0
    threads: int = 2


@dataclass
class Refill:
    """Chunks that the policy tried, and what they are worth. Thrown away at the next refill."""

    states: States
    chain: Chain  # this and all that follows: group after group
    density: Tensor
    reference: Tensor  # mean of the random step under the start
    advantage: Tensor
    kept: Tensor


class Trainer(Loop):
    """One run of dream RL; ``run`` checkpoints under ``out``. One thread."""

    net: FlowPolicy

    def __init__(self, recipe: DreamRlRecipe, out: Path) -> None:
        """ConfigError where the log holds too few failures, or no attempts of the policy."""
        torch.manual_seed(recipe.seed)
        torch.set_num_threads(recipe.threads)
        self.recipe, self.bundle = recipe, Bundle.load(bundle_dir(recipe.policy))
        net = load_policy(self.bundle.path)
        self.start = load_policy(self.bundle.path).requires_grad_(False)
        self.world = DreamWorld(
            Path(recipe.world_model), self.bundle, self.start, RobotSpec.load(robot_dir(recipe.robot))
        )
        files = [f for folder in recipe.data for f in sorted(Path(folder).glob("*.npz")) if ".partial" not in f.name]
        self.logged, data = self.world.read(files)
        fails = float(np.mean([not fact["success"] for fact in data.facts]))
        require(fails >= LEAST_FAILURES, "failures", f"{fails:.2f}", f"{LEAST_FAILURES} of the logged attempts or more")
        self._starts = torch.from_numpy(_under_way(data))
        self._good, self._chunks = self._imitable(data)
        self.flow = FlowSde(recipe.steps, recipe.noise)
        self.multiplier = Multiplier(UNSET, recipe.multiplier_rate, recipe.multiplier)
        self._facts_of_log = {"attempts": len(data.facts), "failures": fails, "observations": len(self._starts)}
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(not name.startswith(FROZEN))
        trained = [p for p in net.parameters() if p.requires_grad]
        groups = [{"params": trained, "multiple": 1.0, "weight_decay": recipe.weight_decay}]
        self._refill: Refill | None = None
        self.refills: list[dict[str, float]] = []
        super().__init__(recipe, net, out, recipe.states, self._loss, self._facts, groups)

    def _imitable(self, data: Rollouts) -> tuple[Tensor, Tensor]:
        """Logged looks of attempts that went well, and the chunks (., H, A) that were executed from them."""
        looks = _under_way(data)
        well = np.array([fact["success"] for fact in data.facts])[data.episode[looks]]
        index = torch.from_numpy(looks[well & data.whole[looks, 0]])
        return index, self.world.standardised(data, index)

    def _loss(self, chosen: NDArray[np.int64]) -> dict[str, Tensor]:
        recipe = self.recipe
        if self._refill is None or self.step % recipe.updates == 0:
            self._refill = self._try()
        refill, drawn = self._refill, torch.from_numpy(chosen)
        index = (drawn[:, None] * recipe.group + torch.arange(recipe.group)).flatten()
        chain, weight = refill.chain.at(index), refill.kept[index].float()
        mean = self.flow.step_mean(self._velocity(self.net, refill.states.at(drawn), recipe.group), chain)
        ratio = (self.flow.log_density(mean, chain) - refill.density[index]).exp()
        apart = self.flow.divergence(mean, refill.reference[index], chain).mean()
        advantage = refill.advantage[index]
        bounded = torch.minimum(ratio * advantage, ratio.clamp(1 - recipe.clip, 1 + recipe.clip) * advantage)
        inside = float(apart.detach()) <= recipe.budget
        return {
            "policy": -inside * (bounded * weight).sum() / weight.sum().clamp(min=1.0),
            "kl": recipe.kl * apart,
            "cloning": recipe.cloning * self._cloning(2 * len(drawn)),
        }

    def _cloning(self, count: int) -> Tensor:
        """Flow-matching loss on logged chunks of attempts that went well."""
        pick = torch.randint(0, len(self._good), (count,))
        states, chunk = self.logged.at(self._good[pick]), self._chunks[pick]
        time = torch.rand(count, 1)
        moment = torch.where(states.free > 0, time, 1.0)
        noise = torch.randn_like(chunk)
        noisy = moment[..., None] * chunk + (1 - moment[..., None]) * noise
        velocity = self._velocity(self.net, states)
        with torch.autocast("cpu", torch.bfloat16):
            error = (velocity(noisy, moment).float() - (chunk - noise)).square().mean(-1)
        return (error * states.free).sum() / states.free.sum().clamp(min=1.0)

    @torch.no_grad()
    def _try(self) -> Refill:
        """Draw observations, try a group of chunks from each, and judge them."""
        recipe = self.recipe
        states = self.logged.at(self._starts[torch.randint(0, len(self._starts), (recipe.states,))])
        step = int(torch.randint(0, recipe.steps, (1,)))
        tried = [self._tried(states.at(part), step) for part in torch.arange(len(states)).split(TRIED)]
        before, after, free, density, reference, soon, cost = (torch.cat(column) for column in zip(*tried, strict=True))
        if self.multiplier.limit == UNSET:
            self.multiplier.limit = recipe.cost_limit * float(cost.mean())
        self.multiplier.update(float(cost.mean()))
        advantage, kept = within_groups(self.multiplier.combined(soon, cost), recipe.group, recipe.least_spread)
        found = {"soon": soon.mean(), "cost": cost.mean(), "kept": kept.float().mean()}
        self.refills.append({name: round(float(value), 4) for name, value in found.items()})
        self.refills[-1] |= {"step": self.step, "multiplier": round(self.multiplier.value, 3)}
        return Refill(states, Chain(before, after, free, step), density, reference, advantage, kept)

    def _tried(self, states: States, step: int) -> tuple[Tensor, ...]:
        """A group of chunks from each of some observations: chain, densities, value, cost."""
        group = self.recipe.group
        many = states.at(torch.arange(len(states)).repeat_interleave(group))
        rows = torch.where(many.free[..., None] > 0, torch.randn_like(many.prefix), many.prefix)
        velocity = self._velocity(self.net, states, group)
        with torch.autocast("cpu", torch.bfloat16):  # only drawn here; densities are those of the whole precision
            made, chain = self.flow.sample(lambda x, t: velocity(x, t).float(), rows, many.free, step)
        assert chain is not None
        density = self.flow.log_density(self.flow.step_mean(velocity, chain), chain)
        reference = self.flow.step_mean(self._velocity(self.start, states, group), chain)
        judged = self.world.judge(many, made)
        value = judged.soon - self.recipe.doubt * judged.doubt
        return chain.before, chain.after, chain.free, density, reference, value, judged.cost

    @staticmethod
    def _velocity(net: FlowPolicy, states: States, group: int = 1) -> Velocity:
        """The network's velocity at these observations, ``group`` samples of each side by side.

        No gradient goes through the prefix, as in the released code of VLA-MBPO.
        """
        with torch.no_grad():
            text, _, pad = net.read(states.words)
            views = states.views.float()
            cache, mask, _ = net.prefix(text, pad, (views[:, :2], views[:, 2:]), states.body)
            cache, mask = (x.repeat_interleave(group, 0) for x in (cache, mask))
        return lambda rows, time: net.velocity(cache, mask, rows, time)

    def _facts(self) -> dict[str, Any]:
        manifest = self.bundle.manifest
        return {
            "recipe": asdict(self.recipe),
            "policy": self.net.config.to_dict(),
            "words": list(self.bundle.vocabulary.words),
            "normalisation": manifest["normalisation"],
            "observations": self._facts_of_log["observations"],
            "log": self._facts_of_log,
            "refills": self.refills,
            "multiplier": [self.multiplier.value, self.multiplier.limit],
            "rounds": [*manifest["rounds"], {"dream_rl": asdict(self.recipe), "start": self.bundle.version}],
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.refills = state["refills"]
        self.multiplier.value, self.multiplier.limit = state["multiplier"]


def _under_way(data: Rollouts) -> NDArray[np.int64]:
    """Looks before the task was done."""
    done = np.array([fact["success_row"] for fact in data.facts])[data.episode]
    return np.flatnonzero((done < 0) | (data.at < done))
