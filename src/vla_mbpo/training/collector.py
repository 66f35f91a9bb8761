"""Dream RL's trying and judging of chunks at a refill: in the trainer's own process, or by several workers.

A worker gets start policy, world model and judge once, and at each refill the policy's weights and a part of the
observations; it gives columns of numbers back. A part draws its noise from its own seed, so that what comes out does
not depend on how many workers there are, or on which of them did it.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from vla_mbpo.policy.network import FlowPolicy
from vla_mbpo.spread import Crew, Place, crew
from vla_mbpo.training.dataset import Augment
from vla_mbpo.training.dream_log import DreamLog
from vla_mbpo.training.dream_recipe import DreamRlRecipe
from vla_mbpo.training.dream_world import DreamWorld, Judged, States
from vla_mbpo.training.flow_sde import Chain, FlowSde, Velocity
from vla_mbpo.training.precision import reduced

UNFIT = 3.0  # rows that a chunk which the gate would refuse is worse than the worst of its group
PLAIN = Augment(0, 0.0, 0.0)
PART = 32  # observations whose chunks are tried and judged at once; of the 192 of a refill two workers get three each


@dataclass(frozen=True)
class Part:
    """Some observations of a refill, what is needed to try chunks there.

    Attributes:
        states: B of them.
        pictures: head and wrist view, each (B, S, S, 3) uint8; none where the policy's eyes have seen the log.
        step: of the flow, the random one.
        seed: of the noise.
    """

    states: States
    pictures: tuple[Tensor, ...]
    step: int
    seed: int


@dataclass(frozen=True)
class Columns:
    """What was tried, group after group (B * group, ...).

    Attributes:
        chain: the random step.
        density: of it, under the policy that tried it.
        made: (., H, A) the chunks.
        driven: (., H) rows that count for the density.
        saved: rows [control steps] that a chunk saves over the mean of its group.
        cost: probability of a cost event within the chunk.
        unfit: whether the gate would refuse it.
        usual: (B,) cost of the start's own chunks, one from each observation.
    """

    chain: Chain
    density: Tensor
    made: Tensor
    driven: Tensor
    saved: Tensor
    cost: Tensor
    unfit: Tensor
    usual: Tensor


def joined(parts: list[Columns]) -> Columns:
    """One after the other."""
    chains = [part.chain for part in parts]
    before, after, free = (torch.cat([getattr(c, name) for c in chains]) for name in ("before", "after", "free"))
    names = ("density", "made", "driven", "saved", "cost", "unfit", "usual")
    rest = (torch.cat([getattr(part, name) for part in parts]) for name in names)
    return Columns(Chain(before, after, free, chains[0].index), *rest)


class Collector:
    """Start policy, flow and judge of a run. One thread."""

    def __init__(self, recipe: DreamRlRecipe, start: FlowPolicy, world: DreamWorld) -> None:
        self.recipe, self.start, self.world = recipe, start, world
        self.flow = FlowSde(recipe.steps, recipe.noise, modes=recipe.modes, rise=recipe.executed)

    @torch.no_grad()
    def tried(self, net: FlowPolicy, part: Part) -> Columns:
        """A group of chunks of the policy from each observation, and what they are worth."""
        # What the caller draws next is not this part's business.
        with torch.random.fork_rng(devices=cards(part.states.words.device)):
            torch.manual_seed(part.seed)
            return self._tried(net, part)

    def _tried(self, net: FlowPolicy, part: Part) -> Columns:
        group, flow, states, step = self.recipe.group, self.flow, part.states, part.step
        one, many = (self.velocity(net, states, part.pictures, copies) for copies in (1, group))
        noise = torch.where(states.free[..., None] > 0, torch.randn_like(states.prefix), states.prefix)
        wide = states.at(torch.arange(len(states)).repeat_interleave(group))
        # Only drawn here; densities are those of the whole precision.
        with reduced(noise.device):
            before = flow.integrate(_whole(one), noise, states.free, end=step).repeat_interleave(group, 0)
            chain = flow.branch(_whole(many), before, wide.free, step)
            made = flow.integrate(_whole(many), chain.after, wide.free, begin=step + 1)
        chunks, driven = self.world.common_tails(made, wide, self.recipe.executed, group)
        density = flow.log_density(flow.step_mean(many, chain), chain, driven)
        judged = self._judged(net, states, wide, chunks)
        usual = self.plain(self.start, states, ()).cost
        saved = self._saved(judged)
        return Columns(chain, density, made, driven, saved, judged.cost, judged.unfit, usual)

    def _saved(self, judged: Judged) -> Tensor:
        """(B,) rows that a chunk saves over the mean of its group, less what the ensemble does not agree about."""
        sets = judged.to_go.unflatten(1, (-1, self.recipe.group))
        saved = sets.mean(2, keepdim=True) - sets
        value = saved.mean(0) - self.recipe.doubt * saved.std(0)
        worst = value.min(1, keepdim=True).values - UNFIT
        return torch.where(judged.unfit.unflatten(0, (-1, self.recipe.group)), worst, value).flatten()

    def _judged(self, net: FlowPolicy, states: States, wide: States, chunks: Tensor) -> Judged:
        """What becomes of a group of chunks from each of ``states``; ``wide``: the same, once for each chunk."""
        group = len(chunks) // len(states)
        judged = self.world.judge(states, chunks)
        return self._followed(net, wide, chunks, judged, self.recipe.chunks - 1, group)

    def _followed(
        self, net: FlowPolicy, states: States, chunks: Tensor, judged: Judged, more: int, group: int
    ) -> Judged:
        """As ``judged``, after ``more`` chunks of the policy, plainly sampled from what the world model imagines.

        A branch's noise is that of its group: what tells branches apart is their first chunk, which alone is credited.
        Groups whose branches are all over are not imagined any further.
        """
        going = judged.going(group)
        if not more or not len(going):
            return judged
        here, pictures = self.world.ahead(
            states.at(going), chunks[going], self.recipe.flow_steps, group, bool(self.recipe.interleaved)
        )
        noise = torch.randn_like(here.prefix[::group]).repeat_interleave(group, 0)
        with reduced(noise.device):
            following = self.flow.integrate(_whole(self.velocity(net, here, pictures)), noise, here.free)
        found = self.world.judge(here, following)
        later = self._followed(net, here, following, found, more - 1, group)
        return judged.then(later, chunks.shape[1], going)

    @torch.no_grad()
    def plain(
        self, net: FlowPolicy, states: States, pictures: tuple[Tensor, ...], make: torch.Generator | None = None
    ) -> Judged:
        """What a policy's plainly sampled chunks lead to, one from each observation."""
        noise = torch.randn(states.prefix.shape, generator=make).to(states.prefix.device)
        rows = torch.where(states.free[..., None] > 0, noise, states.prefix)
        chunks = self.flow.integrate(self.velocity(net, states, pictures), rows, states.free)
        return self._judged(net, states, states, chunks)

    @torch.no_grad()
    def dreamt(
        self, net: FlowPolicy, states: States, pictures: tuple[Tensor, ...], seen: tuple[Tensor, ...], chunks: int
    ) -> DreamLog:
        """Branches of a policy's plainly sampled chunks, to be looked at; ``seen``: what the cameras showed."""
        kept, make = DreamLog(), torch.Generator().manual_seed(0)
        kept.add(seen)
        for _ in range(chunks):
            noise = torch.randn(states.prefix.shape, generator=make).to(states.prefix.device)
            rows = torch.where(states.free[..., None] > 0, noise, states.prefix)
            made = self.flow.integrate(self.velocity(net, states, pictures), rows, states.free)
            judged = self.world.judge(states, made)
            states, pictures = self.world.ahead(
                states, made, self.recipe.flow_steps, interleaved=bool(self.recipe.interleaved)
            )
            kept.add(pictures, judged)
        return kept

    def velocity(self, net: FlowPolicy, states: States, pictures: tuple[Tensor, ...], group: int = 1) -> Velocity:
        """The network's velocity at these observations, ``group`` samples of each side by side."""
        cache, mask, _ = self.prefix(net, states, pictures)
        cache, mask = (x.repeat_interleave(group, 0) for x in (cache, mask))
        return lambda rows, time: net.velocity(cache, mask, rows, time)

    def prefix(
        self, net: FlowPolicy, states: States, pictures: tuple[Tensor, ...], change: Augment = PLAIN
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Keys and values, mask and features; what the eyes of the start gave is at hand."""
        with torch.no_grad():
            text, gist, pad = net.read(states.words)
        if net is self.start or not self.recipe.looks:
            views = states.views.float()
            return net.prefix(text, pad, (views[:, :2], views[:, 2:]), states.body)
        head, wrist = (change.images(view) for view in pictures)
        return net.prefix(text, pad, net.look(head, wrist, gist), states.body)


class Hands:
    """Try the parts of a refill: by a crew within ``hired``, in this process outside of it, or with one worker."""

    def __init__(self, collector: Collector, place: Place) -> None:
        self._collector, self._place = collector, place
        self._crew: Crew | None = None

    @contextmanager
    def hired(self) -> Iterator[None]:
        """Workers for the block; none where the trainer's own process is enough."""
        if self._place.workers == 1 and self._place.ray is None:
            yield
            return
        with crew(self._place, prepare, self._collector) as self._crew:
            try:
                yield
            finally:
                self._crew = None

    def columns(self, net: FlowPolicy, parts: list[Part]) -> list[Columns]:
        """Of each part, in order, under the weights that ``net`` has now."""
        if self._crew is None:
            return [self._collector.tried(net, part) for part in parts]
        return by_crew(self._crew, net, parts)


def by_crew(workers: Crew, net: FlowPolicy, parts: list[Part]) -> list[Columns]:
    """Columns of each part, in order; the workers' state is what ``prepare`` makes."""
    weights = {name: value.detach() for name, value in net.state_dict().items()}
    found = dict(workers.each(try_part, enumerate(parts), weights))
    return [found[number] for number in range(len(parts))]


def prepare(collector: Collector) -> tuple[Collector, FlowPolicy]:
    """A worker's state: the collector, and a network for the weights that come. One thread: workers share a machine."""
    torch.set_num_threads(1)
    return collector, copy.deepcopy(collector.start)


def try_part(
    state: tuple[Collector, FlowPolicy], weights: dict[str, Tensor], job: tuple[int, Part]
) -> tuple[int, Columns]:
    """A worker's job: the columns of a part, with its number."""
    collector, net = state
    net.load_state_dict(weights)
    return job[0], collector.tried(net, job[1])


def cards(device: torch.device) -> list[torch.device]:
    """Of the devices whose noise is drawn, those that torch.random.fork_rng has to be told of."""
    return [] if device.type == "cpu" else [device]


def _whole(velocity: Velocity) -> Velocity:
    """In whole precision, also under autocast."""
    return lambda rows, time: velocity(rows, time).float()
