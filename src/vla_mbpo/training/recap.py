"""Learning from advantages without a policy gradient: conditioned flow matching (RECAP, arXiv 2511.14759).

Every chunk is learned from, and told whether it is one of the better ones; on the robot the policy is told that it is
to be. Chunks are those that were executed from the logged looks, and some that the policy of the log would have tried
there. The advantage

    A(s, a) = sum of r over the chunk + V(after a) - V(s),    r = -1 per row,

is what the world model dreams: the rows that are left after the chunk, against the mean over that policy's chunks from
the same look. The best ``positive`` of each task are the better ones. Corrections always are; what led to a takeover or
an alarm, what was refused, and what the gate would refuse never are.

The condition is a vector added to what the rows are told of their flow time (``FlowPolicy.velocity``), zero at first.
The network itself is the policy under "better"; "worse" and "not said" are vectors beside it, trained with it and left
behind. So the run's network is exported as any other, and the robot knows nothing of it.

What differs from the paper: the value is the world model's and not that of a network trained on returns; the executed
chunk's advantage is dreamed, too, and not taken from what came next; nothing is sampled with guidance, which would take
a second velocity per step on the robot.
"""

import torch
from torch import Tensor, nn

from vla_mbpo.core.errors import require
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.policy.network import FlowPolicy
from vla_mbpo.training.collector import PART, Collector, cards
from vla_mbpo.training.corrections import corrections, undesirable
from vla_mbpo.training.dataset import Augment
from vla_mbpo.training.dream_recipe import PPO, RECAP, DreamRlRecipe
from vla_mbpo.training.logged import Log
from vla_mbpo.training.matching import Noised, mean
from vla_mbpo.training.pool import Pool

BETTER, UNSAID, WORSE = range(3)


class Recap(nn.Module):
    """What a run of RECAP learns from, and its loss. One thread.

    Attributes:
        said: (2, width) what rows are told under UNSAID and WORSE; trained with the policy.
        pool: all chunks; ``good``: the better ones.
        facts: number of chunks, and the share of the better ones.
    """

    def __init__(self, recipe: DreamRlRecipe, log: Log, collector: Collector, bundle: Bundle) -> None:
        """Dream the advantages; ``bundle``: of the policy that the log is of.

        Raises:
            ConfigError: ``positive``, ``dropped`` or ``group`` of the recipe is out of range.
        """
        super().__init__()
        require(0 < recipe.positive < 1, "positive", recipe.positive, "more than 0, less than 1")
        require(0 <= recipe.dropped <= 1, "dropped", recipe.dropped, "0 to 1")
        self._recipe, self._log, self._collector = recipe, log, collector
        self._bright = Augment(0, recipe.brightness, 0.0)
        self.said = nn.Parameter(torch.zeros(2, collector.start.config.width))
        self.pool = Pool.joined([*self._dreamed(), corrections(log), *undesirable(log, bundle)], log)
        share = float(self.pool.good.float().mean())
        self.facts = {"chunks": len(self.pool), "better": round(share, 4)}

    def losses(self, net: FlowPolicy, count: int) -> dict[str, Tensor]:
        """Flow-matching loss of ``count`` chunks, each told what it is, or, at random, nothing."""
        recipe = self._recipe
        batch = self.pool.draw(self._log.states, count)
        silent = torch.rand(count).to(batch.good.device) < recipe.dropped
        condition = torch.where(batch.good, BETTER, WORSE).masked_fill(silent, UNSAID)
        shown = tuple(view[batch.states.row] for view in self._log.pictures) if recipe.looks else ()
        cache, mask, _ = self._collector.prefix(net, batch.states, shown, self._bright)
        off = Noised.of(self._collector.flow, batch.states, batch.chunks).off(net, cache, mask, self.told(condition))
        return {"recap": recipe.policy_weight * mean(off, batch.rows)}

    def told(self, condition: Tensor) -> Tensor:
        """(B, width) of conditions (B,), as ``FlowPolicy.velocity`` takes it."""
        return torch.cat([torch.zeros_like(self.said[:1]), self.said])[condition]

    def _dreamed(self) -> list[Pool]:
        """Executed and tried chunks of each task."""
        log, found = self._log, []
        driven = torch.from_numpy(log.marks.own & ~log.marks.leading)  # the others are corrections, or undesirable
        for looks in log.starts:
            some = [self._advantages(part) for part in looks.split(PART)]
            chunks, gained = (torch.cat(column) for column in zip(*some, strict=True))
            rows = torch.ones(chunks.shape[:3])
            rows[:, 0] = driven[looks].float()
            counts = (rows.sum(-1) > 0).to(gained.device) & gained.isfinite()
            best = torch.quantile(gained[counts], 1 - self._recipe.positive) if counts.any() else torch.inf
            many = looks.repeat_interleave(chunks.shape[1])
            found.append(Pool.of(log, many, chunks.flatten(0, 1), rows.flatten(0, 1), (gained > best).flatten()))
        return found

    @torch.no_grad()
    def _advantages(self, looks: Tensor) -> tuple[Tensor, Tensor]:
        """Chunks (B, 1 + group, H, A) at looks, the executed one first, and rows (B, 1 + group) that each gains.

        Minus infinity: the gate would refuse it. What the ensemble does not agree about is taken off.
        """
        recipe, collector, log = self._recipe, self._collector, self._log
        states, group = log.states.at(looks), recipe.group
        wide = states.at(torch.arange(len(looks)).repeat_interleave(group))
        free = states.free[..., None] > 0
        with torch.random.fork_rng(devices=cards(free.device)):
            torch.manual_seed(recipe.seed * 1_000_003 + int(looks[0]))
            noise = torch.where(wide.free[..., None] > 0, torch.randn_like(wide.prefix), wide.prefix)
        velocity = collector.velocity(collector.start, states, (), group)
        tried = collector.flow.integrate(velocity, noise, wide.free).unflatten(0, (-1, group))
        executed = torch.where(free, log.chunks[looks.to(free.device)], states.prefix)
        chunks = torch.cat([executed[:, None], tried], 1)
        many = states.at(torch.arange(len(looks)).repeat_interleave(1 + group))
        common, _ = collector.world.common_tails(chunks.flatten(0, 1), many, recipe.executed, 1 + group)
        judged = collector.world.judge(states, common)
        to_go = judged.to_go.unflatten(1, (-1, 1 + group))
        gained = to_go[..., 1:].mean(-1, keepdim=True) - to_go
        value = gained.mean(0) - recipe.doubt * gained.std(0)
        return chunks, value.masked_fill(judged.unfit.unflatten(0, (-1, 1 + group)), -torch.inf)


def recap(recipe: DreamRlRecipe, log: Log, collector: Collector, bundle: Bundle) -> Recap | None:
    """None where the recipe's method is another. ConfigError: there is no such method."""
    require(recipe.method in (PPO, RECAP), "method", recipe.method, f"{PPO} or {RECAP}")
    return Recap(recipe, log, collector, bundle) if recipe.method == RECAP else None
