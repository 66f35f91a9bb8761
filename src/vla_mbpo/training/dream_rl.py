"""``vla-mbpo train dream-rl``: proximal policy optimisation of a flow policy in the world model, on logged rollouts.

From a logged observation the policy tries a group of chunks that part at one random step of the flow
(training/flow_sde.py); the world model says what each leads to: the time that is left to do, which is reward and
bootstrap in one, and cost. A branch may go on for further ``chunks`` through imagined pictures; the first is credited.
A chunk's advantage is over the others of its observation (VLA-MBPO, arXiv 2603.20607, with the world model's own value
at a branch's end; groups as in GRPO). Anchors: the closed-form divergence from the
policy that the run starts from, with a budget, and behaviour cloning of logged attempts that went well. Cost has a
limit and a Lagrange multiplier (SafeVLA, arXiv 2503.03480). The policy's eyes learn, too, with the world model's help:
what it does not see, no reward teaches it to reach for.

Guards against what the world model cannot judge: chunks that the gate would refuse count as the worst of their group;
rows that the next chunk replaces are the same for all of a group and carry no credit.
"""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vla_mbpo.core.errors import require
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.paths import bundle_dir, robot_dir
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.policy.network import FlowPolicy
from vla_mbpo.spread import Place
from vla_mbpo.training.advantages import Multiplier, within_groups
from vla_mbpo.training.anchors import Anchors
from vla_mbpo.training.calibration import constants
from vla_mbpo.training.collector import PART, Collector, Columns, Hands, Part, cards, joined
from vla_mbpo.training.dream_recipe import DreamRlRecipe
from vla_mbpo.training.dream_world import DreamWorld, Judged, States
from vla_mbpo.training.episodes import rollout_files
from vla_mbpo.training.flow_sde import Chain
from vla_mbpo.training.logged import Log, evenly
from vla_mbpo.training.loop import Loop, device_of
from vla_mbpo.training.recap import recap
from vla_mbpo.training.sft import load_policy, rounds

FROZEN = ("words", "places", "reader", "surveyors")
EYES = ("eyes", "locate")
FURTHEST = 3.0  # standard deviations that an advantage counts at most
RATIO = 5.0  # largest logarithm of a ratio of densities
FIXED = 128  # observations that the run is judged by as it goes, every EVERY refills
EVERY = 5
KEPT, FAR = 6, 4  # dreams that are kept each time, to be looked at, and their chunks
HEADS = 10.0  # learning rate of what is only there for training, as a multiple
CHECKPOINT = 40  # steps, about: whole refills
HERE = Place(1)  # chunks are tried in the trainer's own process


@dataclass
class Refill:
    """Chunks that the policy tried, and what they are worth. Thrown away at the next refill."""

    states: States
    tried: Columns
    reference: Tensor  # mean of each chunk's random step under the policy that the divergence is from
    advantage: Tensor  # of each chunk


class Trainer(Loop):
    """One run of dream RL; ``run`` checkpoints under ``out``. One thread."""

    net: FlowPolicy

    def __init__(self, recipe: DreamRlRecipe, out: Path, place: Place = HERE) -> None:
        """ConfigError where the log holds too few failures, or no attempts of the policy. ``place``: of collecting."""
        require(recipe.chunks > 0, "chunks", recipe.chunks, "1 or more")
        require(recipe.flow_steps > 0, "flow_steps", recipe.flow_steps, "1 or more")
        require(recipe.updates > 0, "updates", recipe.updates, "1 or more")
        require(0 < recipe.gap <= 1, "gap", recipe.gap, "above 0, at most 1")
        require(recipe.before >= 0, "before", recipe.before, "0 or more [s]")
        torch.manual_seed(recipe.seed)
        torch.set_num_threads(recipe.threads)
        device = device_of(recipe.device)
        alone = place.workers == 1 and place.ray is None
        require(alone or device.type == "cpu", "workers", place.workers, "1 with --device cuda")
        self.recipe, self.bundle = recipe, Bundle.load(bundle_dir(recipe.policy))
        begin = Path(recipe.init) if recipe.init else self.bundle.path
        net, self._rounds = load_policy(begin), rounds(begin)
        self.start = load_policy(self.bundle.path).requires_grad_(False).to(device)
        spec, calibration = RobotSpec.load(robot_dir(recipe.robot)), constants(recipe.vetting)
        world = DreamWorld(Path(recipe.world_model), calibration, self.bundle, self.start, spec, device, recipe.value)
        files = rollout_files(recipe.data, recipe.robot)
        before = round(recipe.before * 1e9 / spec.row_period)
        self.log = Log.read(files, recipe.data, world, self.bundle.version, recipe.gap, before)
        self.collector = Collector(recipe, self.start, world)
        self._hands, self.flow = Hands(self.collector, place), self.collector.flow
        self.multiplier = Multiplier(
            recipe.cost_limit, recipe.multiplier_rate, recipe.multiplier, recipe.multiplier_most
        )
        self.anchors = Anchors(recipe, self.log, self.collector, self.bundle)
        self.reference = load_policy(begin).requires_grad_(False)
        helpers = nn.ModuleList([self.anchors.seeing, self.reference])  # kept with the run, no part of the policy
        self.recap = recap(recipe, self.log, self.collector, self.bundle)
        if self.recap is not None:
            helpers.append(self.recap)
            self.log.facts["recap"] = self.recap.facts
        self._refill: Refill | None = None
        self._theirs: Judged | None = None
        self.refills: list[dict[str, float]] = []
        # What was tried is not kept: a resumed run has to begin with a refill.
        self.checkpoint_steps = recipe.updates * max(1, round(CHECKPOINT / recipe.updates))
        groups = self._groups(net)
        super().__init__(recipe, net, out, recipe.states, self._loss, self._facts, groups, recipe.device, helpers)
        if self.ranks.leads:
            print(self.log.facts, flush=True)

    def _groups(self, net: FlowPolicy) -> list[dict[str, Any]]:
        """Parameter groups: eyes, the rest of the policy, and what is only there for training."""
        recipe = self.recipe
        frozen = FROZEN if recipe.eyes else (*FROZEN, *EYES)
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(not name.startswith(frozen))
        trained = {name: p for name, p in net.named_parameters() if p.requires_grad}
        groups: list[dict[str, Any]] = [
            {"params": [p for name, p in trained.items() if name.startswith("eyes") == eyes], "multiple": multiple,
             "weight_decay": recipe.weight_decay} for eyes, multiple in ((False, 1.0), (True, recipe.eyes))
        ]  # fmt: skip
        helping = [*self.anchors.seeing.parameters(), *(self.recap.parameters() if self.recap is not None else ())]
        return [*groups, {"params": helping, "multiple": HEADS, "weight_decay": 0.0}]

    def run(self, resume: bool = False) -> None:
        """As ``Loop``; the workers that collect are there as long as it runs."""
        with self._hands.hired():
            super().run(resume)

    def _loss(self, chosen: NDArray[np.int64]) -> dict[str, Tensor]:
        recipe = self.recipe
        if self.step < recipe.anchored or self.recap is not None or not (recipe.policy_weight or recipe.imitation):
            if self.step % (EVERY * recipe.updates) == 0:
                self._note({})
            losses = self.anchors.losses(self.net, len(chosen))
            if self.recap is not None and self.step >= recipe.anchored:
                losses |= self.recap.losses(self.net, len(chosen))
            return losses
        if recipe.anchored and self.step == recipe.anchored:
            self.reference.load_state_dict(self.average)
        if self._refill is None or self.step % recipe.updates == 0:
            self._refill = self._try()
        refill, drawn = self._refill, torch.from_numpy(chosen)
        index = (drawn[:, None] * recipe.group + torch.arange(recipe.group)).flatten().to(self.device)
        tried, advantage = refill.tried, refill.advantage[index]
        chain = tried.chain.at(index)
        states = refill.states.at(drawn)
        cache, mask, _ = self.collector.prefix(self.net, states, self._shown(states))
        keys, pad = (x.repeat_interleave(recipe.group, 0) for x in (cache, mask))
        mean = self.flow.step_mean(lambda rows, time: self.net.velocity(keys, pad, rows, time), chain)
        density = self.flow.log_density(mean, chain, tried.driven[index])
        ratio = (density - tried.density[index]).clamp(-RATIO, RATIO).exp()
        bounded = torch.minimum(ratio * advantage, ratio.clamp(1 - recipe.clip, 1 + recipe.clip) * advantage)
        kept = (advantage != 0).float()
        # All steps of the flow as if their std were the first one's: else a budget would be another one at each.
        share = (self.flow.std(chain.index) / self.flow.std(0)) ** 2
        apart = share * self.flow.divergence(mean, refill.reference[index], chain).mean()
        inside = float(apart.detach()) <= recipe.budget
        return {
            "policy": -inside * recipe.policy_weight * (bounded * kept).sum() / kept.sum().clamp(min=1.0),
            "kl": recipe.kl * apart,
            "imitation": recipe.imitation * self._imitation(refill, drawn, cache, mask),
            **self.anchors.losses(self.net, len(drawn)),
        }

    def _imitation(self, refill: Refill, drawn: Tensor, cache: Tensor, mask: Tensor) -> Tensor:
        """Flow-matching loss on the best chunk of each group, where there is a best one."""
        sets = refill.advantage.unflatten(0, (-1, self.recipe.group))[drawn.to(self.device)]
        best, place = sets.max(1)
        chosen = (best > 0).nonzero()[:, 0]
        if not self.recipe.imitation or not len(chosen):
            return best.new_zeros(())
        made = refill.tried.made.unflatten(0, (-1, self.recipe.group))[drawn.to(self.device)[chosen], place[chosen]]
        return self.anchors.cloning(self.net, refill.states.at(drawn[chosen.cpu()]), made, cache[chosen], mask[chosen])

    @torch.no_grad()
    def _try(self) -> Refill:
        """Draw observations, try a group of chunks from each, and judge them."""
        recipe = self.recipe
        torch.manual_seed(1_000_003 * recipe.seed + self.step)  # so that a resumed run draws what it would have drawn
        states = self.log.states.at(evenly(self.log.starts, recipe.states))
        step = int(torch.randint(0, recipe.branchings, (1,)))
        began = time.monotonic()
        tried = self._collected(states, step)
        share = float(tried.cost.mean() / tried.usual.mean().clamp(min=1e-6))
        self.multiplier.update(share)
        pairs = [within_groups(value, recipe.group, least) for value, least in
                 ((tried.saved, recipe.least_rows), (tried.cost, recipe.least_cost))]  # fmt: skip
        better, costlier = (advantage.clamp(-FURTHEST, FURTHEST) for advantage, _ in pairs)
        advantage = self.multiplier.combined(better, costlier)
        advantage = advantage - recipe.centred * self._everywhere(advantage, tried.chain)
        found = {"cost": tried.cost, "unfit": tried.unfit.float(), "kept": (advantage != 0).float()}
        means = {name: float(value.mean()) for name, value in found.items()}
        if self.ranks.count > 1:  # they drew the same observations; from here on each has its own noise
            torch.manual_seed(1_000_003 * recipe.seed + self.step + 500_009 * (1 + self.ranks.number))
        self._note({"cost_share": share, "seconds": time.monotonic() - began} | means)
        return Refill(states, tried, self._referred(states, tried), advantage)

    def _everywhere(self, advantage: Tensor, chain: Chain) -> Tensor:
        """What of advantages is linear in the noise: a motion that is better everywhere corrects nothing."""
        kept, found = advantage != 0, torch.zeros_like(advantage)
        if not (self.recipe.centred and self.recipe.modes and kept.any()):
            return found
        means = chain.after.unflatten(0, (-1, self.recipe.group))
        noise = self.flow.heights(chain.free, (means - means.mean(1, keepdim=True)).flatten(0, 1)).flatten(1)[kept]
        found[kept] = (noise @ torch.linalg.lstsq(noise, advantage[kept, None]).solution)[:, 0]
        return found

    def _referred(self, states: States, tried: Columns) -> Tensor:
        """Mean of each chunk's random step under the policy that the divergence is from."""
        group, means = self.recipe.group, []
        for index in torch.arange(len(states)).split(PART):
            some, wide = states.at(index), (index[:, None] * group + torch.arange(group)).flatten()
            velocity = self.collector.velocity(self.reference, some, self._shown(some), group)
            means.append(self.flow.step_mean(velocity, tried.chain.at(wide.to(self.device))))
        return torch.cat(means)

    def _collected(self, states: States, step: int) -> Columns:
        """Chunks tried from the observations, part by part; the flow's ``step`` is the random one."""
        parts = []
        for number, index in enumerate(torch.arange(len(states)).split(PART)):
            some, seed = states.at(index), self.recipe.seed * 1_000_003 + self.step
            parts.append(Part(some, self._shown(some), step, seed * 1_000 + number))
        mine = parts[self.ranks.number :: self.ranks.count]
        return joined(self.ranks.gathered(self._hands.columns(self.net, mine)))

    def _shown(self, states: States) -> tuple[Tensor, ...]:
        """Pictures of observations, (B, S, S, 3) uint8 each; none where the policy's eyes have seen them."""
        return tuple(view[states.row] for view in self.log.pictures) if self.recipe.looks else ()

    def _note(self, found: dict[str, float]) -> None:
        """One more line of ``refills``; every EVERY refills also what the average does at fixed observations."""
        found |= {"step": self.step, "multiplier": self.multiplier.value}
        if self.step // self.recipe.updates % EVERY == 0:
            now = FlowPolicy(self.net.config).eval().to(self.device)
            now.load_state_dict(self.average)
            ours, theirs = self._at_fixed(now), self._theirs or self._at_fixed(self.start)
            self._theirs = theirs
            found["rows_saved"] = float((theirs.to_go - ours.to_go).mean())
            found["success"], found["success_of_start"] = float(ours.success.mean()), float(theirs.success.mean())
            found["cost_change"] = float((ours.cost - theirs.cost).mean())
            found["unfit_change"] = float((ours.unfit.float() - theirs.unfit.float()).mean())
            self._keep_dreams(now)
        self.refills.append({name: round(value, 4) for name, value in found.items()})
        if self.ranks.leads:
            print(self.refills[-1], flush=True)

    def _at_fixed(self, net: FlowPolicy) -> Judged:
        """Plainly sampled chunks of a policy, always from the same observations and the same noise."""
        make = torch.Generator().manual_seed(0)
        states = self._fixed(FIXED, make)
        with torch.random.fork_rng(devices=cards(self.device)):  # chunks after the first draw what ``make`` does not
            torch.manual_seed(0)
            return self.collector.plain(net, states, self._shown(states), make)

    def _fixed(self, count: int, make: torch.Generator) -> States:
        every = torch.cat(self.log.starts)
        return self.log.states.at(every[torch.randint(0, len(every), (count,), generator=make)])

    def _keep_dreams(self, net: FlowPolicy) -> None:
        """What the policy's own chunks look like in the world model, under ``dreams`` in the run's folder."""
        if not self.ranks.leads:
            return
        states = self._fixed(KEPT, torch.Generator().manual_seed(0))
        seen = tuple(view[states.row] for view in self.log.pictures)
        with torch.random.fork_rng(devices=cards(self.device)):
            dreams = self.collector.dreamt(net, states, self._shown(states), seen, max(FAR, self.recipe.chunks))
        dreams.write(self.out / "dreams" / f"{self.step:06}.npz", states)

    def _facts(self) -> dict[str, Any]:
        manifest = self.bundle.manifest
        return {
            "recipe": asdict(self.recipe),
            "policy": self.net.config.to_dict(),
            "words": list(self.bundle.vocabulary.words),
            "normalisation": manifest["normalisation"],
            "observations": self.log.facts["observations"],
            "log": self.log.facts,
            "refills": self.refills,
            "multiplier": [self.multiplier.value, self.multiplier.limit],
            "rounds": [*self._rounds, {"dream_rl": asdict(self.recipe), "start": self.bundle.version}],
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.refills = state["refills"]
        self.multiplier.value, self.multiplier.limit = state["multiplier"]
