"""What people taught a policy while it ran: their takeovers are corrections, what led to them was undesirable.

Rows that a person steered are cloned where they steered them (HG-DAgger, arXiv 1810.02890), only those of attempts that
went well. What the policy drove before a takeover or an alarm, and candidates that were refused, are undesirable; the
policy's own successes and the corrections are desirable (training/desirable.py). Half of a batch are the policy's own,
a quarter corrections, a quarter undesirable (arXiv 2506.07127). A log without any of it costs nothing, not even a draw.
"""

import numpy as np
import torch
from torch import Tensor

from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.policy.network import FlowPolicy
from vla_mbpo.training import desirable
from vla_mbpo.training.collector import Collector
from vla_mbpo.training.dataset import Augment
from vla_mbpo.training.dream_recipe import DreamRlRecipe
from vla_mbpo.training.logged import Log
from vla_mbpo.training.matching import Noised, mean
from vla_mbpo.training.pool import Batch, Pool


def corrections(log: Log) -> Pool:
    """What people steered."""
    look = torch.from_numpy(np.flatnonzero(log.marks.corrected.any(1)))
    rows = torch.from_numpy(log.marks.corrected)[look]
    return Pool.of(log, look, log.chunks[look.to(log.chunks.device)], rows, good=True, fresh=True)


def undesirable(log: Log, bundle: Bundle) -> list[Pool]:
    """What led to takeovers and alarms, and what was refused; ``bundle``: of the policy that the log is of."""
    marks, said = log.marks, bundle.manifest["normalisation"]
    look = torch.from_numpy(np.flatnonzero(marks.leading.any(1)))
    driven = Pool.of(log, look, log.chunks[look.to(log.chunks.device)], torch.from_numpy(marks.leading)[look])
    centre, std = (np.array(said[name], np.float32) for name in ("action_mean", "action_std"))
    plan = torch.from_numpy((marks.plan - centre) / std)
    refused = Pool.of(log, torch.from_numpy(marks.look), plan, torch.ones(plan.shape[:2]))
    return [driven, refused]


class People:
    """Losses of what people taught. One thread.

    Attributes:
        corrected: chunks that people steered.
        undesired: chunks of each kind that there is.
    """

    def __init__(self, recipe: DreamRlRecipe, log: Log, collector: Collector, bundle: Bundle) -> None:
        """``bundle``: of the policy that the log is of."""
        self._recipe, self._log, self._collector = recipe, log, collector
        self._bright = Augment(0, recipe.brightness, 0.0)
        self.corrected = corrections(log)
        self.undesired = [pool for pool in undesirable(log, bundle) if len(pool)]
        well = torch.cat(log.good)
        chunks = log.chunks[well.to(log.chunks.device)]
        self._well = Pool.of(log, well, chunks, torch.ones(chunks.shape[:2]), good=True)

    def losses(self, net: FlowPolicy, count: int) -> dict[str, Tensor]:
        """Named and weighted, of about ``count`` chunks; none where nobody said anything, or all weights are 0."""
        recipe, few = self._recipe, max(1, count // 4)
        preferred = bool(recipe.preferred) and len(self.undesired) > 0
        theirs = few * bool(len(self.corrected) and (recipe.corrected or preferred))
        sizes = [(self.corrected, theirs), (self._well, 2 * few * preferred)]
        # Each kind alike: there may be many candidates refused, and few takeovers.
        sizes += [(pool, max(1, few // len(self.undesired)) * preferred) for pool in self.undesired]
        drawn = [pool.draw(self._log.states, size) for pool, size in sizes if size]
        if not drawn:
            return {}
        batch, losses = Batch.joined(drawn), {}
        shown = tuple(view[batch.states.row] for view in self._log.pictures) if recipe.looks else ()
        seen = self._collector.prefix(net, batch.states, shown, self._bright)[:2]
        noised = Noised.of(self._collector.flow, batch.states, batch.chunks)
        off = noised.off(net, *seen)
        if theirs and recipe.corrected:
            losses["corrected"] = recipe.corrected * mean(off[:theirs], batch.rows[:theirs])
        if preferred:
            losses["preferred"] = recipe.preferred * self._preferred(net, seen, batch, noised, off)
        return losses

    def _preferred(
        self, net: FlowPolicy, seen: tuple[Tensor, ...], batch: Batch, noised: Noised, off: Tensor
    ) -> Tensor:
        """Loss of training/desirable.py; ``seen``: keys, values and mask of the policy that learns, ``off`` its own."""
        rows, start = batch.rows, self._collector.start
        # Chunks of other observations, for what the policy has become likelier to do anywhere.
        others = Noised.of(self._collector.flow, batch.states, batch.chunks.roll(1, 0))
        with torch.no_grad():
            before = self._collector.prefix(start, batch.states, ())[:2]
            level = log_ratio(others.off(net, seen[0], seen[1]), others.off(start, *before), rows).mean()
            reference = noised.off(start, *before)
        wrong = (noised.ends_off(off.detach()).abs().mean(-1) * rows).sum(1) / rows.sum(1).clamp(min=1.0)
        weight = desirable.weights(wrong, batch.good) * (rows.sum(1) > 0)
        return desirable.losses(log_ratio(off, reference, rows), level, batch.good, weight)


def log_ratio(off: Tensor, reference: Tensor, rows: Tensor) -> Tensor:
    """(B,) logarithm of how much likelier chunks are under a policy that is ``off`` (B, H, A) than under another."""
    return 0.5 * ((reference.square() - off.square()) * rows[..., None]).sum((1, 2))
