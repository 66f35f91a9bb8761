"""What all training runs share: optimiser steps on a schedule, a moving average, history, checkpoints that resume."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.training.ranks import Ranks

CALIBRATION = "calibration.json"  # of a world model's probabilities, beside its checkpoint
MAY_CHANGE = ("samples", "threads", "device")  # between the parts of a resumed run
REPORT, CHECKPOINT = 50, 500  # steps


class Recipe(Protocol):
    """What every training configuration holds, a dataclass. ``samples`` counts observations seen."""

    @property
    def samples(self) -> int: ...  # noqa: D102
    @property
    def batch(self) -> int: ...  # noqa: D102
    @property
    def learning_rate(self) -> float: ...  # noqa: D102
    @property
    def warmup(self) -> int: ...  # noqa: D102
    @property
    def ema(self) -> float: ...  # noqa: D102
    @property
    def seed(self) -> int: ...  # noqa: D102


def device_of(name: str) -> torch.device:
    """Where to train. ConfigError if torch has no such device here."""
    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ConfigError("device", name, "cpu; or cuda, with a card and a torch that was built for it") from error


class Loop:
    """A training run under ``out``. One thread.

    Under torchrun each process has a share of every batch (training/ranks.py), and the first one writes and prints: the
    recipe, its ``batch`` included, is of all together, and its steps are those of one process with that batch.

    Attributes:
        ranks: the processes that train together.
        net, average: the network and the moving average of its state, on ``device``.
        step: optimiser steps so far.
        history: losses and speed every REPORT steps.
    """

    checkpoint_steps = CHECKPOINT

    def __init__(
        self,
        config: Recipe,
        net: nn.Module,
        out: Path,
        population: int,
        losses: Callable[[NDArray[np.int64]], dict[str, Tensor]],
        facts: Callable[[], dict[str, Any]],
        groups: list[dict[str, Any]] | None = None,
        device: str = "cpu",
        helpers: nn.Module | None = None,
    ) -> None:
        """Prepare; nothing is read or written yet.

        Args:
            config: recipe.
            net: network to train.
            out: folder for checkpoints.
            population: number of samples that ``losses`` knows.
            losses: named loss terms for the samples of these indices; their sum is minimised.
            facts: what state.json holds beside the run itself; ``facts()["recipe"]`` is compared on resuming.
            groups: parameter groups of AdamW, each with ``multiple`` of the learning rate; None: one group.
            device: of torch, where the network is trained.
            helpers: what is trained with the network, in ``groups`` too, and no part of what comes out.
        """
        self.config, self.net, self.out, self.device = config, net, out, device_of(device)
        self.ranks = Ranks.join()
        self.ranks.check(config.batch)
        net.to(self.device)
        self._helpers = (helpers or nn.Module()).to(self.device)
        self._population, self._losses, self._facts = population, losses, facts
        groups = groups or [{"params": list(net.parameters()), "multiple": 1.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95))
        self.average = {k: v.detach().clone() for k, v in net.state_dict().items()}
        self.step = 0
        self.history: list[dict[str, float]] = []

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        return self.config.samples // self.config.batch

    def run(self, resume: bool = False) -> None:
        """Train to the end. With ``resume`` go on from the last checkpoint."""
        self.out.mkdir(parents=True, exist_ok=True)
        if resume and (self.out / "state.json").exists():
            self._load()
        self.ranks.same(self.net, self.step)
        self._part()
        order, batch = np.random.default_rng(self.config.seed), self.config.batch
        for _ in range(self.step):
            order.integers(self._population, size=batch)
        sums: dict[str, Tensor] = {}
        since, first = time.time(), self.step
        with Progress(disable=not self.ranks.leads) as bar:
            task = bar.add_task(self.out.name, total=self.steps, completed=self.step)
            while self.step < self.steps:
                index = self.ranks.share(order.integers(self._population, size=batch))
                for name, value in self._update(index).items():
                    sums[name] = sums[name] + value if name in sums else value
                self.step += 1
                bar.update(task, advance=1)
                if self.step % REPORT == 0:
                    count = self.step - first  # REPORT, or fewer after a resume
                    means = {name: float(value) / count for name, value in sums.items()}
                    rate = count * batch / (time.time() - since)
                    self.history.append({"step": self.step, **means, "samples_per_s": rate})
                    if self.ranks.leads:
                        bar.console.print(self.history[-1])
                    sums, since, first = {}, time.time(), self.step
                if self.step % self.checkpoint_steps == 0:
                    self.save()
                    self._part()
        self.save()

    def _part(self) -> None:
        """Of several ranks each draws its own noise; anew from each checkpoint on, which only has the first one's."""
        if self.ranks.count > 1:
            said = np.random.SeedSequence([self.config.seed, self.ranks.number, self.step])
            torch.manual_seed(int(said.generate_state(1, np.uint64)[0]))

    def _update(self, index: NDArray[np.int64]) -> dict[str, Tensor]:
        config = self.config
        rate = config.learning_rate * min(1.0, (self.step + 1) / config.warmup)
        rate *= 0.5 * (1 + np.cos(np.pi * self.step / self.steps)) * 0.98 + 0.02
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["multiple"]
        losses = self._losses(index)
        self.optimiser.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        learning = [*self.net.parameters(), *self._helpers.parameters()]
        self.ranks.average(learning)
        norm = torch.nn.utils.clip_grad_norm_(learning, 1.0)
        found = self.ranks.means({name: value.detach() for name, value in losses.items()})
        self._require_finite(found | {"gradient": norm})
        self.optimiser.step()
        keep = min(config.ema, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for key, value in self.net.state_dict().items():
                self.average[key].lerp_(value, 1 - keep) if value.is_floating_point() else None
        return found

    def _require_finite(self, found: dict[str, Tensor]) -> None:
        """ConfigError before a step from which neither the weights nor the last checkpoint would come back.

        ``found`` is the same on all ranks: they end together.
        """
        values = {name: float(value) for name, value in found.items()}
        said = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        valid = f"finite numbers; the last checkpoint in {self.out} is as it was"
        require(all(map(math.isfinite, values.values())), f"loss at step {self.step + 1}", said, valid)

    def save(self) -> None:
        """Checkpoint; the JSON is renamed into place last, so a killed run leaves the previous one whole."""
        if not self.ranks.leads:
            return
        flat = {f"net.{k}": v for k, v in self.net.state_dict().items()}
        flat |= {f"average.{k}": v for k, v in self.average.items()}
        flat |= {f"helpers.{k}": v for k, v in self._helpers.state_dict().items()}
        for i, state in self.optimiser.state_dict()["state"].items():
            flat |= {f"optimiser.{i}.{k}": torch.as_tensor(v).clone() for k, v in state.items()}
        flat["rng"] = torch.get_rng_state()
        if self.device.type == "cuda":
            flat["rng_cuda"] = torch.cuda.get_rng_state(self.device)
        name = f"checkpoint_{self.step}.safetensors"
        save_file({k: v.cpu().contiguous() for k, v in flat.items()}, self.out / "checkpoint.partial")
        (self.out / "checkpoint.partial").rename(self.out / name)
        about = {"step": self.step, "file": name, "history": self.history, "population": self._population}
        state = about | self._facts()
        partial = self.out / "state.partial.json"
        partial.write_text(json.dumps(state))
        partial.rename(self.out / "state.json")
        for old in self.out.glob("checkpoint_*.safetensors"):
            if old.name != name:
                old.unlink()

    def _load(self) -> None:
        state = json.loads((self.out / "state.json").read_text())
        mine = json.loads(json.dumps(self._facts()["recipe"]))
        for name, value in state["recipe"].items():
            text = f"{self.out} was begun with {value!r}"
            require(name in MAY_CHANGE or mine[name] == value, f"recipe.{name}", mine[name], text)
        before = state.get("population", self._population)  # a recorder may have gone on
        require(
            before == self._population, "data", f"{self._population} observations", f"{before}, as {self.out} began"
        )
        tensors = load_file(self.out / state["file"])
        self.step, self.history = state["step"], state["history"]
        self.net.load_state_dict({k[4:]: v for k, v in tensors.items() if k.startswith("net.")})
        self._helpers.load_state_dict({k[8:]: v for k, v in tensors.items() if k.startswith("helpers.")})
        self.average = {k[8:]: v.to(self.device) for k, v in tensors.items() if k.startswith("average.")}
        saved: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimiser."):
                _, i, name = key.split(".")
                saved.setdefault(int(i), {})[name] = value
        full = self.optimiser.state_dict()
        self.optimiser.load_state_dict({"state": saved, "param_groups": full["param_groups"]})
        if "rng" in tensors:  # so that a resumed run draws what it would have drawn
            torch.set_rng_state(tensors["rng"])
        if "rng_cuda" in tensors and self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["rng_cuda"], self.device)
        self._restore(state)

    def _restore(self, state: dict[str, Any]) -> None:
        """What else a resumed run goes on with, from what ``facts`` gave."""


def averaged(run: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The moving average of a training run's network, and the run's state. ConfigError: there is none."""
    state = json.loads((run / "state.json").read_text())
    tensors = load_file(run / state["file"])
    found = {k[8:]: v for k, v in tensors.items() if k.startswith("average.")}
    require(bool(found), str(run / state["file"]), f"{len(tensors)} tensors", "some that are named average.…")
    return found, state


def slim(run: Path, out: Path) -> None:
    """A run folder that only holds the averaged network, in half precision: to load or start from, not to resume.

    What it was trained on is named from the working directory, where it lies below that; what it is calibrated by goes
    along.
    """
    tensors, state = averaged(run)
    out.mkdir(parents=True, exist_ok=True)
    small = {f"average.{k}": v.half() if v.is_floating_point() else v for k, v in tensors.items()}
    save_file({k: v.contiguous() for k, v in small.items()}, out / "average.safetensors")
    (out / "average.safetensors").chmod(0o644)
    state["file"] = "average.safetensors"
    if "trained_on" in state:
        state["trained_on"] = [_from_here(Path(folder)) for folder in state["trained_on"]]
    if (run / CALIBRATION).is_file():
        (out / CALIBRATION).write_bytes((run / CALIBRATION).read_bytes())
    (out / "state.json").write_text(json.dumps(state) + "\n")


def _from_here(folder: Path) -> str:
    return str(folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder)
