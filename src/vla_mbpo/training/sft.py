"""Supervised finetuning of the flow policy on demonstrations."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress
from safetensors.torch import load_file, save_file
from torch.nn import functional

from vla_mbpo.core.errors import require
from vla_mbpo.policy.network import FlowPolicy, PolicyConfig
from vla_mbpo.policy.vocabulary import Vocabulary
from vla_mbpo.sim.tasks import TASKS
from vla_mbpo.training.dataset import Augment, Demonstrations
from vla_mbpo.training.demonstrations import RECIPE

MAY_CHANGE = ("samples", "threads")  # between the parts of a resumed run


@dataclass(frozen=True)
class SftConfig:
    """Recipe of supervised finetuning. ``samples`` counts observations seen, each with ``draws`` noise draws."""

    demos: tuple[str, ...]
    init: str = ""  # run folder whose averaged network is the start
    per_task: int = 0  # demonstrations per task, 0: all
    samples: int = 360_000
    batch: int = 64
    draws: int = 2
    learning_rate: float = 6e-4
    eye_rate: float = 3.0  # learning rate of the eyes and surveyors, as a multiple
    weight_decay: float = 0.01
    warmup: int = 300
    ema: float = 0.998
    max_prefix: int = 7  # rows of clean prefix, in half of the samples
    auxiliary: float = 1.0  # weight of locating object and goal, and of surveying all things
    shift: int = 0
    brightness: float = 0.25
    proprio_noise: float = 0.03
    seed: int = 0
    threads: int = 2


class Trainer:
    """Holds network, optimiser and moving average; ``run`` trains and checkpoints under ``out``. One thread."""

    def __init__(self, config: SftConfig, out: Path) -> None:
        torch.manual_seed(config.seed)
        torch.set_num_threads(config.threads)
        self.config, self.out = config, out
        out.mkdir(parents=True, exist_ok=True)
        self.vocabulary = Vocabulary.of([task.instruction for task in TASKS.values()])
        files = _files(config)
        self.demos = Demonstrations(files, self.vocabulary, 16)
        self.norm = self.demos.normalisation()
        size = self.demos.arrays["head"].shape[1]
        self.net = FlowPolicy(PolicyConfig(len(self.vocabulary.words), self.vocabulary.length, image_size=size))
        earlier: list[dict] = []
        if config.init:
            net, state = load_average(Path(config.init))
            self.net.load_state_dict(net.state_dict())
            earlier = state["rounds"]
        self.rounds = [*earlier, _round(config, self.demos, files)]
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = torch.optim.AdamW(_groups(self.net, config), lr=config.learning_rate, betas=(0.9, 0.95))
        self.average = {k: v.detach().clone() for k, v in self.net.state_dict().items()}
        self.step = 0
        self.history: list[dict[str, float]] = []
        self._targets = torch.from_numpy(self.demos.targets())
        self._survey = tuple(torch.from_numpy(array) for array in self.demos.survey())
        self._proprio = torch.from_numpy((self.demos.proprio - self.norm.proprio_mean) / self.norm.proprio_std)

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        return self.config.samples // self.config.batch

    def run(self, resume: bool = False) -> None:
        """Train to the end. With ``resume`` go on from the last checkpoint."""
        if resume and (self.out / "state.json").exists():
            self._load()
        augment = Augment(self.config.shift, self.config.brightness, self.config.proprio_noise)
        order = np.random.default_rng(self.config.seed)
        for _ in range(self.step):
            order.integers(len(self.demos), size=self.config.batch)
        sums, since = np.zeros(2), time.time()
        with Progress() as bar:
            task = bar.add_task("sft", total=self.steps, completed=self.step)
            while self.step < self.steps:
                sums += self._update(order.integers(len(self.demos), size=self.config.batch), augment)
                self.step += 1
                bar.update(task, advance=1)
                if self.step % 50 == 0:
                    rate = 50 * self.config.batch / (time.time() - since)
                    self.history.append(
                        {"step": self.step, "flow": sums[0] / 50, "auxiliary": sums[1] / 50, "samples_per_s": rate}
                    )
                    bar.console.print(self.history[-1])
                    sums, since = np.zeros(2), time.time()
                if self.step % 500 == 0:
                    self._save()
        self._save()

    def _update(self, index: np.ndarray, augment: Augment) -> np.ndarray:
        config = self.config
        rate = config.learning_rate * min(1.0, (self.step + 1) / config.warmup)
        rate *= 0.5 * (1 + np.cos(np.pi * self.step / self.steps)) * 0.98 + 0.02
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["multiple"]
        flow, auxiliary = self._loss(index, augment)
        self.optimiser.zero_grad(set_to_none=True)
        (flow + config.auxiliary * auxiliary).backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimiser.step()
        keep = min(config.ema, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for key, value in self.net.state_dict().items():
                self.average[key].lerp_(value, 1 - keep) if value.is_floating_point() else None
        return np.array([float(flow.detach()), float(auxiliary.detach())])

    def _loss(self, index: np.ndarray, augment: Augment) -> tuple[torch.Tensor, torch.Tensor]:
        arrays = self.demos.arrays
        head, wrist = (augment.images(torch.from_numpy(arrays[key][index])) for key in ("head", "wrist"))
        chunk = torch.from_numpy((arrays["chunk"][index] - self.norm.action_mean) / self.norm.action_std)
        valid = torch.from_numpy(arrays["valid"][index]).float()
        words = torch.from_numpy(arrays["words"][index])
        with torch.autocast("cpu", torch.bfloat16):
            text, gist, pad = self.net.read(words)
            views = self.net.look(
                head.contiguous(memory_format=torch.channels_last),
                wrist.contiguous(memory_format=torch.channels_last),
                gist,
            )
            surveyed = self.net.survey(views)
            cache, mask, features = self.net.prefix(text, pad, views, augment.proprio(self._proprio[index]))
            located = self.net.locate(features)
            flow = self._flow(cache, mask, chunk, valid)
        auxiliary = functional.smooth_l1_loss(located.float(), self._targets[index])
        target, weight = (array[index] for array in self._survey)
        error = functional.smooth_l1_loss(surveyed.float(), target, reduction="none") * weight
        return flow, auxiliary + error.sum() / weight.sum()

    def _flow(self, cache, mask, chunk, valid) -> torch.Tensor:
        """Flow-matching loss with per-row time; committed rows are clean and carry no loss (several draws a prefix)."""
        n = self.config.draws
        cache, mask, chunk, valid = (x.repeat_interleave(n, 0) for x in (cache, mask, chunk, valid))
        batch, horizon, _ = chunk.shape
        noise = torch.randn_like(chunk)
        # Noise level from Beta(1.5, 1): more weight on the noisy end, as in pi0.
        level = torch.distributions.Beta(1.5, 1.0).sample((batch, 1)).clamp(0.001, 0.999)
        prefix = torch.randint(0, self.config.max_prefix + 1, (batch, 1)) * (torch.rand(batch, 1) < 0.5)
        committed = torch.arange(horizon)[None] < prefix
        moment = torch.where(committed, 1.0, 1 - level)
        noisy = moment[..., None] * chunk + (1 - moment[..., None]) * noise
        velocity = self.net.velocity(cache, mask, noisy, moment).float()
        error = ((velocity - (chunk - noise)) ** 2).mean(-1)
        weight = valid * ~committed
        return (error * weight).sum() / weight.sum().clamp(min=1.0)

    def _save(self) -> None:
        """Checkpoint; the JSON is renamed into place last, so a killed run leaves the previous one whole."""
        flat = {f"net.{k}": v for k, v in self.net.state_dict().items()}
        flat |= {f"average.{k}": v for k, v in self.average.items()}
        for i, state in self.optimiser.state_dict()["state"].items():
            flat |= {f"optimiser.{i}.{k}": torch.as_tensor(v).clone() for k, v in state.items()}
        name = f"checkpoint_{self.step}.safetensors"
        save_file({k: v.contiguous() for k, v in flat.items()}, self.out / "checkpoint.partial")
        (self.out / "checkpoint.partial").rename(self.out / name)
        state = {
            "step": self.step, "file": name, "rounds": self.rounds, "policy": self.net.config.to_dict(),
            "history": self.history, "words": self.vocabulary.words,
            "observations": len(self.demos), "normalisation": {k: v.tolist() for k, v in asdict(self.norm).items()},
        }  # fmt: skip
        partial = self.out / "state.partial.json"
        partial.write_text(json.dumps(state))
        partial.rename(self.out / "state.json")
        for old in self.out.glob("checkpoint_*.safetensors"):
            if old.name != name:
                old.unlink()

    def _load(self) -> None:
        state = json.loads((self.out / "state.json").read_text())
        for name, value in state["rounds"][-1]["sft"].items():
            mine = json.loads(json.dumps(getattr(self.config, name)))
            require(name in MAY_CHANGE or mine == value, f"sft.{name}", mine, f"{self.out} was begun with {value!r}")
        tensors = load_file(self.out / state["file"])
        self.step, self.history = state["step"], state["history"]
        self.net.load_state_dict({k[4:]: v for k, v in tensors.items() if k.startswith("net.")})
        self.average = {k[8:]: v for k, v in tensors.items() if k.startswith("average.")}
        saved: dict[int, dict] = {}
        for key, value in tensors.items():
            if key.startswith("optimiser."):
                _, i, name = key.split(".")
                saved.setdefault(int(i), {})[name] = value
        full = self.optimiser.state_dict()
        self.optimiser.load_state_dict({"state": saved, "param_groups": full["param_groups"]})


def _groups(net: FlowPolicy, config: SftConfig) -> list[dict]:
    """Parameter groups: eyes and the rest, each with and without weight decay."""
    groups = []
    for eyes in (False, True):
        for decay in (False, True):
            chosen = [
                parameter
                for name, parameter in net.named_parameters()
                if name.startswith(("eyes", "surveyors")) == eyes and (parameter.ndim > 1) == decay
            ]
            multiple = config.eye_rate if eyes else 1.0
            groups.append({"params": chosen, "weight_decay": config.weight_decay * decay, "multiple": multiple})
    return groups


def _files(config: SftConfig) -> list[Path]:
    """Episode files, the first ``per_task`` of each task."""
    files = [f for folder in config.demos for f in sorted(Path(folder).glob("*.npz")) if ".partial" not in f.name]
    if config.per_task:
        kept: dict[str, list[Path]] = {}
        for file in files:
            kept.setdefault(file.stem.rsplit("_", 1)[0], []).append(file)
        files = [f for group in kept.values() for f in group[: config.per_task]]
    return files


def _round(config: SftConfig, demos: Demonstrations, files: list[Path]) -> dict:
    """What a manifest says of one training run."""
    scenes = sorted(int(file.stem.rsplit("_", 1)[1]) for file in files)
    recipes = {folder: Path(folder) / RECIPE for folder in config.demos}
    return {
        "sft": asdict(config),
        "demonstrations": demos.tasks,
        "observations": len(demos),
        "scenes": [scenes[0], scenes[-1]],
        "recipes": {folder: json.loads(file.read_text()) for folder, file in recipes.items() if file.exists()},
    }


def load_average(run: Path) -> tuple[FlowPolicy, dict]:
    """The averaged network of a training run, in evaluation mode, and the run's state."""
    state = json.loads((run / "state.json").read_text())
    net = FlowPolicy(PolicyConfig.from_dict(state["policy"]))
    tensors = load_file(run / state["file"])
    net.load_state_dict({k[8:]: v for k, v in tensors.items() if k.startswith("average.")})
    return net.eval(), state
