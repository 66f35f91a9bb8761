"""Supervised finetuning of the flow policy on demonstrations and on attempts that went well."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.paths import robot_dir
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.policy.network import FlowPolicy, PolicyConfig
from vla_mbpo.policy.vocabulary import Vocabulary
from vla_mbpo.sim.instructions import tasks_of
from vla_mbpo.training.dataset import Demonstrations
from vla_mbpo.training.demonstrations import RECIPE
from vla_mbpo.training.episodes import rollout_files
from vla_mbpo.training.examples import chosen
from vla_mbpo.training.loop import Loop, averaged
from vla_mbpo.training.supervised import Manner, Supervised


@dataclass(frozen=True)
class SftConfig:
    """Recipe of supervised finetuning. ``samples`` counts observations seen, each with ``draws`` noise draws."""

    demos: tuple[str, ...]  # folders of demonstrations, rollouts, recordings; datasets
    watched: tuple[str, ...] = ()  # folders of episodes that only show where things are
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
    robot: str = "sim_panda"  # whose tasks the vocabulary is of
    wrist: bool = True  # False: one camera, the wrist view is black
    seed: int = 0
    threads: int = 2
    device: str = "cpu"


class Trainer(Loop):
    """Supervised finetuning of one network; ``run`` trains and checkpoints under ``out``. One thread."""

    net: FlowPolicy

    def __init__(self, config: SftConfig, out: Path) -> None:
        torch.manual_seed(config.seed)
        torch.set_num_threads(config.threads)
        self.config: SftConfig = config
        self.vocabulary = Vocabulary.of([task.instruction for task in tasks_of(config.robot).values()])
        files = demonstrations(config.demos, config.per_task, config.robot)
        horizon = RobotSpec.load(robot_dir(config.robot)).horizon
        watched = chosen(rollout_files(config.watched, config.robot), watched=True)
        self.demos = Demonstrations(files, self.vocabulary, horizon, config.wrist, watched)
        self.norm = self.demos.normalisation()
        self.net = FlowPolicy(_sizes(self.demos, self.vocabulary))
        earlier: list[dict] = []
        if config.init:
            net, state = load_average(Path(config.init))
            self.net.load_state_dict(net.state_dict())
            earlier = state["rounds"]
        self.rounds = [*earlier, _round(config, self.demos)]
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        manner = Manner(config.draws, config.max_prefix, config.shift, config.brightness, config.proprio_noise)
        groups = _groups(self.net, config)
        super().__init__(config, self.net, out, len(self.demos), self._loss, self._facts, groups, config.device)
        self.lesson = Supervised(self.demos, self.norm, manner, self.device)

    def _loss(self, index: np.ndarray) -> dict[str, torch.Tensor]:
        flow, auxiliary = self.lesson.losses(self.net, index)
        return {"flow": flow, "auxiliary": self.config.auxiliary * auxiliary}

    def _facts(self) -> dict:
        return {
            "recipe": asdict(self.config), "rounds": self.rounds, "policy": self.net.config.to_dict(),
            "words": self.vocabulary.words, "observations": len(self.demos),
            "normalisation": {k: v.tolist() for k, v in asdict(self.norm).items()},
        }  # fmt: skip


def _sizes(demos: Demonstrations, vocabulary: Vocabulary) -> PolicyConfig:
    """Those that follow from the data."""
    _, horizon, action = demos.arrays["chunk"].shape
    return PolicyConfig(
        len(vocabulary.words), vocabulary.length, image_size=demos.arrays["head"].shape[1], action=action,
        proprio=demos.proprio.shape[1], horizon=horizon, things=demos.things,
    )  # fmt: skip


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


def demonstrations(folders: tuple[str, ...], per_task: int = 0, robot: str = "sim_panda") -> list[Path]:
    """Files of the examples in folders of any kind (training/examples.py): ``per_task`` of each task, or all."""
    return chosen(rollout_files(folders, robot), per_task)


def _round(config: SftConfig, demos: Demonstrations) -> dict:
    """What a manifest says of one training run."""
    recipes = {folder: Path(folder) / RECIPE for folder in config.demos}
    return {
        "sft": asdict(config),
        "demonstrations": demos.tasks,
        "observations": len(demos),
        "scenes": [min(demos.scenes), max(demos.scenes)],
        "recipes": {folder: json.loads(file.read_text()) for folder, file in recipes.items() if file.exists()},
    }


def load_average(run: Path) -> tuple[FlowPolicy, dict]:
    """The averaged network of a training run, in evaluation mode, and the run's state."""
    tensors, state = averaged(run)
    net = FlowPolicy(PolicyConfig.from_dict(state["policy"]))
    net.load_state_dict(tensors)
    return net.eval(), state


def rounds(folder: Path) -> list[dict]:
    """How the network of a training run, or of a policy's bundle, came to be: recipe after recipe."""
    if (folder / "manifest.json").is_file():
        return Bundle.load(folder).manifest["rounds"]
    return json.loads((folder / "state.json").read_text())["rounds"]


def load_policy(folder: Path) -> FlowPolicy:
    """The network of a training run, or of a policy's bundle (half precision), in evaluation mode.

    Raises:
        ConfigError: a file of the bundle is missing or its hash is wrong.
    """
    if not (folder / "manifest.json").is_file():
        return load_average(folder)[0]
    bundle = Bundle.load(folder)
    net = FlowPolicy(PolicyConfig.from_dict(bundle.manifest["policy"]))
    net.load_state_dict({k: v.float() for k, v in load_file(folder / "policy.safetensors").items()})
    return net.eval()
