"""What holds a policy and teaches it to see, without asking the world model about chunks.

Behaviour cloning of logged attempts that went well, and of the demonstrations that the policy began with; where object
and goal are, where the world model sees them; the keypoints that the world model's eyes find (training/seeing.py); what
people taught (training/corrections.py).
"""

from dataclasses import fields

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.policy.network import FlowPolicy
from vla_mbpo.training.collector import Collector
from vla_mbpo.training.corrections import People
from vla_mbpo.training.dataset import Augment, Demonstrations, Normalisation
from vla_mbpo.training.dream_recipe import PPO, DreamRlRecipe
from vla_mbpo.training.dream_world import States
from vla_mbpo.training.logged import Log, evenly
from vla_mbpo.training.matching import Noised, mean
from vla_mbpo.training.seeing import Seeing
from vla_mbpo.training.sft import demonstrations
from vla_mbpo.training.supervised import Manner, Supervised


class Anchors:
    """Losses of a run. One thread.

    Attributes:
        seeing: read-outs that learn with the policy.
        people: losses of what people taught (training/corrections.py).
        taught: the demonstrations, where the recipe names some.
    """

    def __init__(self, recipe: DreamRlRecipe, log: Log, collector: Collector, bundle: Bundle) -> None:
        """``bundle``: of the policy that the log is of."""
        self._recipe, self._log, self._collector = recipe, log, collector
        self._located = collector.world.located(log.states)
        self._bright = Augment(0, recipe.brightness, 0.0)
        width, words = collector.start.config.width, torch.unique(log.states.words, dim=0)
        self.seeing = Seeing(collector.world.perception, width, log.states.eyes, words)
        self.seeing.requires_grad_(bool(recipe.eyes))
        self.people = People(recipe, log, collector, bundle)
        self.taught = _taught(recipe, bundle, log.chunks.shape[1], log.chunks.device)

    def losses(self, net: FlowPolicy, count: int) -> dict[str, Tensor]:
        """Named and weighted, each of about ``count`` observations."""
        recipe, log = self._recipe, self._log
        good, every = evenly(log.good, count), evenly(log.starts, count)
        states = log.states.at(torch.cat([good, every]))
        shown = tuple(view[states.row] for view in log.pictures) if recipe.looks else ()
        cache, mask, features = self._collector.prefix(net, states, shown, self._bright)
        located = functional.smooth_l1_loss(net.locate(features), self._located[states.row])
        mine = log.chunks[good.to(log.chunks.device)]
        cloned = self.cloning(net, log.states.at(good), mine, cache[:count], mask[:count])
        weight = recipe.cloning * (recipe.method == PPO)  # else the same chunks are there with their advantages
        losses = {"cloning": weight * cloned, "locating": recipe.locating * bool(recipe.eyes) * located}
        if recipe.eyes and recipe.seeing:
            drawn = evenly(log.starts, recipe.seen).to(log.chunks.device)
            losses["seeing"] = recipe.seeing * self.seeing.loss(net, *(view[drawn] for view in log.pictures))
        if self.taught is not None:
            some = torch.randint(0, self.taught.count, (count,)).numpy()
            losses["demonstrated"] = recipe.demonstrated * torch.stack(self.taught.losses(net, some)).sum()
        return losses | self.people.losses(net, count)

    def cloning(self, net: FlowPolicy, states: States, chunks: Tensor, cache: Tensor, mask: Tensor) -> Tensor:
        """Flow-matching loss on chunks (B, H, A), one for each of the states."""
        off = Noised.of(self._collector.flow, states, chunks).off(net, cache, mask)
        return mean(off, states.free)


def _taught(recipe: DreamRlRecipe, bundle: Bundle, horizon: int, device: torch.device) -> Supervised | None:
    if not recipe.demos:
        return None
    demos = Demonstrations(demonstrations(recipe.demos, recipe.per_task, recipe.robot), bundle.vocabulary, horizon)
    said = bundle.manifest["normalisation"]
    norm = Normalisation(**{field.name: np.array(said[field.name], np.float32) for field in fields(Normalisation)})
    return Supervised(demos, norm, Manner(draws=1), device)
