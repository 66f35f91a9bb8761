"""``vla-mbpo train world-model``: the unified world model on rollouts (imagination/network.py)."""

import copy
import hashlib
import os
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from vla_mbpo.core.errors import require
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.imagination.actions import ActionBins
from vla_mbpo.imagination.network import WorldModel, WorldModelConfig
from vla_mbpo.imagination.perception import Perception
from vla_mbpo.paths import robot_dir
from vla_mbpo.policy.vocabulary import Vocabulary
from vla_mbpo.sim.instructions import tasks_of
from vla_mbpo.training.autoencoder import load_autoencoder, prominence
from vla_mbpo.training.calibration import VALUE, calibrate, started_from
from vla_mbpo.training.episodes import check_scenes, rollout_files
from vla_mbpo.training.loop import CALIBRATION, Loop, averaged, device_of
from vla_mbpo.training.precision import reduced
from vla_mbpo.training.rollout_data import Branches, Rollouts
from vla_mbpo.training.sft import load_policy
from vla_mbpo.training.tried import Tried, compared, losses

HELD_OUT = 10  # one scene in so many, by its seed, is for validation: rollouts and branches alike
CONTRAST = 2.0  # of pixels that differ from their surroundings
MAX_WEIGHT = 4.0  # of the velocity's 1 / t^2
LABELS = "words bins follower seen outcome labelled whole cost costed placed".split()  # of Rollouts, by look


@dataclass(frozen=True)
class WorldModelRecipe:
    """``samples`` counts observations seen. ``autoencoder``: a run folder; ``eyes``: a policy's run folder or bundle.

    A run that starts from another one (``init``) has to see with the same autoencoder and eyes.
    """

    data: tuple[str, ...]
    autoencoder: str
    eyes: str
    interleaved: bool = True
    robot: str = "sim_panda"
    branches: tuple[str, ...] = ()  # folders of `vla-mbpo train rollouts --branches`
    init: str = ""  # run folder whose averaged network is the start
    samples: int = 300_000
    batch: int = 32
    learning_rate: float = 5e-4
    warmup: int = 300
    ema: float = 0.998
    fast: float = 0.5  # share of samples in which nothing of the images is known, as in the fast mode
    chained: float = 0.2  # share in which the head view is clean and the wrist view is not
    imagined: float = 0.1  # share in which both views are given as the network itself imagines them, for what they mean
    member: float = 0.7  # share of the attempts that each member of the ensemble learns from
    blind: float = 0.5  # share of samples without the second chunk's actions
    noise: float = 0.03  # on proprioception and, in standard deviations too, ...
    eye_noise: float = 0.02  # ... on keypoints, about half a pixel ...
    latent_noise: float = 0.2  # ... and on the latents seen: else attempts are known by heart by their looks
    weight_decay: float = 0.05
    images: float = 1.0  # weights of the loss terms: of imagined latents, ...
    pixels: float = 1.0  # ... and of what they decode to; far from real ones latents may decode to anything
    decoded: float = 0.1  # share of a batch that is decoded for that: it costs as much as the rest
    things: float = 0.5
    outcome: float = 1.0
    cost: float = 1.0
    branched: float = 0.5  # branched looks per step beside the batch, as a share of it
    rank: float = 1.0  # weight of telling which of the candidates of a look is the best ...
    apart: float = 0.0  # ... and how far apart they are
    held: float = 1.0  # weight of the squared change of logits that nothing here has labels of, from those of ``init``
    seed: int = 0
    threads: int = 2
    device: str = "cpu"


class Trainer(Loop):
    """Trains one world model; ``run`` checkpoints under ``out``. What the frozen perception sees is kept there too."""

    net: WorldModel

    def __init__(self, config: WorldModelRecipe, out: Path) -> None:
        """ConfigError if there are no rollouts."""
        torch.manual_seed(config.seed)
        torch.set_num_threads(config.threads)
        self.recipe = config
        self.vocabulary = Vocabulary.of([task.instruction for task in tasks_of(config.robot).values()])
        spec = RobotSpec.load(robot_dir(config.robot))
        before = _start(config)
        self.trained_on = seen_before(before[1] if before else None) | set(map(_place, config.data + config.branches))
        files, bins = rollout_files(config.data, config.robot), _bins(before[1]) if before else None
        self.rollouts = Rollouts(files, spec, self.vocabulary, bins)
        check_scenes(self.rollouts.facts)
        seeds = [fact["seed"] for fact in self.rollouts.facts]
        held = _some_held_out("data", seeds)[self.rollouts.episode]
        device = device_of(config.device)
        self.perception, data = load_perception(config).to(device), self.rollouts
        eyes, latents = _seen(self.perception, data, out)
        self.mean, self.std = data.proprio.mean(0), np.maximum(data.proprio.std(0), 1e-3)
        if before:  # what its numbers mean to the network
            said = before[1]["normalisation"]
            self.mean, self.std = (np.array(said[f"proprio_{name}"], np.float32) for name in ("mean", "std"))
        self.eyes, self.latents = (torch.from_numpy(seen).to(device) for seen in (eyes, latents))
        self._eye_spread = self.eyes.float().std(0)
        self.proprio = torch.from_numpy((data.proprio - self.mean) / self.std).to(device)
        self.things = torch.from_numpy(data.things()).to(device)
        self._pictures = [torch.from_numpy(view).to(device) for view in data.pictures]
        self._labels = {name: torch.from_numpy(getattr(data, name)).to(device) for name in LABELS}
        self.train, self.validation = np.flatnonzero(~held), np.flatnonzero(held)
        self.calibration = np.flatnonzero(to_calibrate(seeds)[data.episode])
        self.tried: Tried | None = None
        if config.branches:
            self.tried = self._tried(spec, out)
            held = _some_held_out("branches", self.tried.branches.seed)
            self.tried_train, self.tried_validation = np.flatnonzero(~held), np.flatnonzero(held)
        sizes = {"eye": eyes.shape[-1], "proprio": data.proprio.shape[1], "action": data.bins.shape[-1]}
        model = WorldModelConfig(
            len(self.vocabulary.words), self.vocabulary.length, latent=latents.shape[-1], horizon=spec.horizon,
            interleaved=config.interleaved, **sizes,
        )  # fmt: skip
        net = WorldModel(model)
        self._members = _members(model.ensemble, np.array(seeds)[data.episode], config).to(device)
        if self.tried is not None:
            self._tried_members = _members(model.ensemble, self.tried.branches.seed, config).to(device)
        if before:
            net.load_state_dict(before[0])
        self.unsaid = ~self._labelled().to(device)
        self._before = self._holding(net).to(device) if before and self.unsaid.any() else None
        groups = [{"params": list(net.parameters()), "multiple": 1.0, "weight_decay": config.weight_decay}]
        super().__init__(config, net, out, len(self.train), self._loss, self._facts, groups, config.device)

    def run(self, resume: bool = False) -> None:
        """Train to the end, then calibrate the averaged network."""
        super().run(resume)
        if not self.ranks.leads:
            return
        net = WorldModel(self.net.config).to(self.device)
        net.load_state_dict(self.average)
        calibrate(self, net.eval())

    def _tried(self, spec: RobotSpec, out: Path) -> Tried:
        """Branches, as the perception sees them."""
        files = rollout_files(self.recipe.branches, self.recipe.robot)
        branches = Branches(files, spec, self.vocabulary, self.rollouts.action_bins)
        check_scenes([{"source": "branches", "seed": int(seed)} for seed in np.unique(branches.seed)])
        return Tried(branches, *_seen(self.perception, branches, out), self.mean, self.std)

    def _holding(self, start: WorldModel) -> WorldModel:
        """A copy of the network of ``init``, which holds heads without labels. ConfigError: without its constants."""
        init, found = self.recipe.init, started_from(self.recipe.init)
        require(found is not None, "--init", init, f"a run with {CALIBRATION}, since some heads have no labels here")
        return copy.deepcopy(start).requires_grad_(False).eval()

    def _labelled(self) -> Tensor:
        """(4,) which outcomes something here has labels of: without an expert, none of them is the time to go."""
        found = np.asarray(self.rollouts.labelled[self.train].any((0, 1)))
        if self.tried is not None:
            found[VALUE] |= self.tried.branches.finished[self.tried_train].any()
        return torch.from_numpy(found)

    def inputs(self, index: Tensor) -> tuple[Tensor, ...]:
        """Words, eyes, latents and proprioception of these looks, as ``WorldModel.observe`` takes them."""
        return self._labels["words"][index], self.eyes[index].float(), self.latents[index].float(), self.proprio[index]

    def futures(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Bins (B, S, H, A), latents and proprioception at each step's end relative to the look's."""
        after = self._labels["follower"][index]
        first = torch.cat([index[:, None], after[:, :-1]], 1)
        latents = self.latents[after].float() - self.latents[index].float()[:, None]
        moved = self.proprio[after] - self.proprio[index][:, None]
        return self._labels["bins"][first].long(), latents, moved

    def _loss(self, chosen: NDArray[np.int64]) -> dict[str, Tensor]:
        index, config = torch.from_numpy(self.train[chosen]).to(self.device), self.recipe
        said = {name: values[index] for name, values in self._labels.items()}
        words, eyes, now, proprio = self.inputs(index)
        bins, target, moved = self.futures(index)
        seen = said["seen"].float()
        known = torch.ones_like(seen)
        sighted = torch.rand(len(index), device=self.device) >= config.blind
        known[:, 1] = seen[:, 0] * said["whole"][:, 1].float() * sighted
        time, own = self._levels(len(index))
        t = time[..., None, None]
        noisy = (1 - t) * target + t * torch.randn_like(target)
        with reduced(self.device):
            blurred = self._blurred(eyes, now, proprio)
            *context, here = self.net.observe(words, *blurred)
            if own.any():
                noisy[own] = self._imagined([x[own] for x in context], bins[own], known[own], noisy[own])
            images, body, outcome, cost, there = self.net.imagine(context, bins, known, noisy, time)
            held = self._held(outcome, (words, *blurred), (bins, known, noisy, time))
        weight = time.clamp(min=MAX_WEIGHT**-0.5) ** -2 * seen[..., None] * ~own[:, None, None]
        error = (images.float() - target).square().mean((-1, -2))
        things, after = self.things[index], self.things[said["follower"]]
        placed = said["placed"].float()
        apart_here = functional.smooth_l1_loss(here.float(), things, reduction="none").mean(-1)
        apart = functional.smooth_l1_loss(there.float(), after, reduction="none").mean(-1)
        keep, costed, member = said["labelled"].float(), said["costed"].float()[..., None], self._members[:, index]
        further = held | ({} if self.tried is None else self._branch_loss(self.tried))
        few = slice(max(1, round(config.decoded * config.batch)))
        pixels = self._pixel_error(images[few, 0] + now[few], said["follower"][few, 0])
        return further | {
            "images": config.images * _mean(error, weight),
            "pixels": config.pixels * _mean(pixels, (seen[:, 0] * ~own)[few]),
            "body": _mean(functional.smooth_l1_loss(body.float(), moved, reduction="none").mean(-1), seen),
            "outcome": config.outcome * _judged(outcome.float(), said["outcome"], keep, member).sum(),
            "cost": config.cost * _judged(cost.float()[..., None], said["cost"][..., None], costed, member).sum(),
            "here": config.things * _mean(apart_here, placed),
            "there": config.things * _mean(apart, seen * placed[:, None]),
        }

    def _held(self, outcome: Tensor, seen: tuple[Tensor, ...], asked: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """How far logits without labels are from what ``init`` says of the same; nothing where all have some."""
        if self._before is None:
            return {}
        with torch.no_grad():
            said = self._before.imagine(self._before.observe(*seen)[:3], *asked)[2]
        return {"held": self.recipe.held * (outcome - said).float().square()[..., self.unsaid].mean()}

    def _pixel_error(self, latents: Tensor, after: Tensor) -> Tensor:
        """Mean error (B,) of decoded latents (B, VIEWS, TOKENS, latent) against the pictures of looks ``after``."""
        real = torch.stack([view[after] for view in self._pictures], 1)
        real = real.flatten(0, 1).permute(0, 3, 1, 2).float() / 127.5 - 1.0
        with reduced(self.device):
            decoded = self.perception.autoencoder.decode(latents.flatten(0, 1))
        error = (decoded.float() - real).abs() * prominence(real, CONTRAST)
        return error.mean((1, 2, 3)).unflatten(0, (len(after), -1)).mean(1)

    def _branch_loss(self, tried: Tried) -> dict[str, Tensor]:
        """Each candidate's time to go and cost, and which of a look's candidates is the better one."""
        config = self.recipe
        count = max(1, round(config.branched * config.batch))
        index = self.tried_train[torch.randint(0, len(self.tried_train), (count,)).numpy()]
        (words, eyes, latents, proprio), bins, to_go, cost, finished = tried.batch(index, self.device)
        with reduced(self.device):
            soon, hit = compared(self.net, (words, *self._blurred(eyes, latents, proprio)), bins)
        member = self._tried_members[:, torch.from_numpy(index).to(self.device)]
        found = losses(soon, hit, to_go, cost, finished, member)
        weights = {"to_go": config.outcome, "rank": config.rank, "apart": config.apart, "tried_cost": config.cost}
        return {name: weights[name] * value for name, value in found.items()}

    def _blurred(self, eyes: Tensor, latents: Tensor, proprio: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs with noise: else attempts are known by heart by their looks."""
        config = self.recipe
        return (
            eyes + config.eye_noise * self._eye_spread * torch.randn_like(eyes),
            latents + config.latent_noise * torch.randn_like(latents),
            proprio + config.noise * torch.randn_like(proprio),
        )

    def _levels(self, batch: int) -> tuple[Tensor, Tensor]:
        """Noise level of each view and step (B, S, VIEWS), and (B,) for which samples both views are imagined."""
        config = self.recipe
        level = torch.sigmoid(torch.randn(batch, self.net.config.steps, 2, device=self.device))
        kind = torch.rand(batch, device=self.device)
        fast, chained = kind < config.fast, (kind >= config.fast) & (kind < config.fast + config.chained)
        own = kind >= 1.0 - config.imagined
        level[chained, :, :1] = 0.0
        level[fast], level[own] = 1.0, 0.0
        return level, own

    def _imagined(self, context: list[Tensor], bins: Tensor, known: Tensor, like: Tensor) -> Tensor:
        """What the network imagines in the fast mode: dreams read success and cost off such images."""
        with torch.no_grad():
            nothing = torch.zeros_like(like)
            images = self.net.imagine(context, bins, known, nothing, torch.ones_like(like[..., 0, 0]))[0]
        return images.to(like.dtype)

    def _facts(self) -> dict[str, Any]:
        bins = self.rollouts.action_bins
        facts = self.rollouts.facts
        return {
            "recipe": asdict(self.recipe),
            "trained_on": sorted(self.trained_on),
            "world_model": self.net.config.to_dict(),
            "words": self.vocabulary.words,
            "normalisation": {"proprio_mean": self.mean.tolist(), "proprio_std": self.std.tolist()},
            "action_bins": {"low": bins.low.tolist(), "high": bins.high.tolist()},
            "rollouts": len(facts),
            "policies": sorted({fact["policy"] for fact in facts} - {""}),
            "observations": len(self.rollouts),
            "failures": float(1 - self.rollouts.outcome[self.train][:, 0, 2].mean()),
        }


def _mean(value: Tensor, weight: Tensor) -> Tensor:
    return (value * weight).sum() / weight.sum().clamp(min=1.0)


def _judged(logits: Tensor, labels: Tensor, keep: Tensor, member: Tensor) -> Tensor:
    """Cross-entropy (O,) of an ensemble's logits (E, B, S, O) where ``keep``, each member on its own samples (E, B)."""
    loss = functional.binary_cross_entropy_with_logits(logits, labels.expand_as(logits), reduction="none")
    weight = member[..., None, None] * keep
    return (loss * weight).sum((0, 1, 2)) / weight.sum((0, 1, 2)).clamp(min=1.0)


def _members(count: int, group: NDArray[np.int64], config: WorldModelRecipe) -> Tensor:
    """(E, N) whether a member learns from a sample: from all of a scene (``group``: seeds) or none, else all agree."""
    draws = [np.random.default_rng([config.seed, int(g)]).random(count) < config.member for g in np.unique(group)]
    return torch.from_numpy(np.array(draws)[np.unique(group, return_inverse=True)[1]].T.astype(np.float32))


def load_perception(config: WorldModelRecipe) -> Perception:
    """The frozen perception that the recipe names."""
    for name, files in (("autoencoder", ("state.json",)), ("eyes", ("state.json", "manifest.json"))):
        folder = Path(getattr(config, name))
        found = any((folder / file).is_file() for file in files)
        require(found, name, str(folder), f"a folder with {' or '.join(files)}")
    return Perception(load_policy(Path(config.eyes)), load_autoencoder(Path(config.autoencoder)))


def load_world_model(run: Path) -> tuple[WorldModel, dict[str, Any]]:
    """The averaged network of a training run, in evaluation mode, and the run's state."""
    tensors, state = averaged(run)
    net = WorldModel(WorldModelConfig(**state["world_model"]))
    net.load_state_dict(tensors)
    return net.eval(), state


def perceive(perception: Perception, rollouts: Rollouts | Branches, batch: int = 128) -> tuple[NDArray, NDArray]:
    """Eyes (N, 2, E) and latents (N, 2, TOKENS, latent) of all looks, float16."""
    eyes, latents, device = [], [], perception.places.device
    head, wrist = rollouts.pictures
    with torch.no_grad(), reduced(device):
        for begin in range(0, len(rollouts), batch):
            part = slice(begin, begin + batch)
            views = (torch.from_numpy(v[part]).to(device).permute(0, 3, 1, 2).float() for v in (head, wrist))
            seen = perception(*views, torch.from_numpy(rollouts.words[part]).to(device))
            eyes.append(seen[0].to(torch.float16).cpu().numpy())
            latents.append(seen[1].to(torch.float16).cpu().numpy())
    return np.concatenate(eyes), np.ascontiguousarray(np.concatenate(latents))


def _seen(perception: Perception, looks: Rollouts | Branches, out: Path) -> tuple[NDArray, NDArray]:
    """``perceive``, kept in ``out`` for the next start with the same perception and the same pictures."""
    digest = hashlib.sha256()
    for value in perception.state_dict().values():
        digest.update(value.cpu().numpy().tobytes())
    digest.update(looks.proprio.tobytes())
    file = out / f"perception_{digest.hexdigest()[:16]}.safetensors"
    if file.exists():
        found = load_file(file)
        return found["eyes"].numpy(), found["latents"].numpy()
    eyes, latents = perceive(perception, looks)
    out.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}.partial")  # several ranks may be at it
    save_file({"eyes": torch.from_numpy(eyes), "latents": torch.from_numpy(latents)}, partial)
    partial.rename(file)
    return eyes, latents


def _start(config: WorldModelRecipe) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Network and state of the run to start from. ConfigError if that one saw with other eyes."""
    if not config.init:
        return None
    tensors, state = averaged(Path(config.init))
    for name in ("autoencoder", "eyes"):
        saw = state["recipe"][name]
        require(saw == getattr(config, name), name, getattr(config, name), f"{saw}, as {config.init} was trained with")
    return tensors, state


def _bins(state: dict[str, Any]) -> ActionBins:
    low, high = (np.array(state["action_bins"][name]) for name in ("low", "high"))
    return ActionBins(low, high)


def held_out(seeds: Sequence[int] | NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which scenes are for validation."""
    return np.array([zlib.crc32(str(seed).encode()) % HELD_OUT == 0 for seed in seeds])


def _some_held_out(field: str, seeds: Sequence[int] | NDArray[np.int64]) -> NDArray[np.bool_]:
    """``held_out``. ConfigError about ``field``: nothing to validate with, or nothing else."""
    held = held_out(seeds)
    alone, least = int(held.sum()), f"some of both: one scene in {HELD_OUT} is to validate in"
    require(0 < alone < len(held), field, f"{alone} of {len(held)} to validate with", least)
    return held


def to_calibrate(seeds: Sequence[int] | NDArray[np.int64]) -> NDArray[np.bool_]:
    """Half of those: probabilities are calibrated in them, and in the others checked (training/logged.py)."""
    return np.array([zlib.crc32(str(seed).encode()) % (2 * HELD_OUT) == 0 for seed in seeds])


def seen_before(state: dict[str, Any] | None) -> set[str]:
    """Folders that a run, by its ``state``, and those that it began from were trained on. Older runs name their own."""
    return set() if state is None else {_place(folder) for folder in state.get("trained_on", state["recipe"]["data"])}


def _place(folder: str) -> str:
    return str(Path(folder).resolve())
