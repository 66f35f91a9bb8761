"""Episodes for training: what the simulator rolled out and what the live stack recorded, as files of one format.

A folder may hold rollouts (training/tape.py), recorded attempts (record/), or both; it may be one recorded attempt, or
a dataset of such (training/datasets.py). Of each complete attempt a rollout is made once, inside its folder, and again
when the recording has changed.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.paths import robot_dir
from vla_mbpo.record.episode import ATTEMPT, COMPLETE, LABELS
from vla_mbpo.record.labels import OUTCOMES
from vla_mbpo.record.repair import read_labels
from vla_mbpo.sim.instructions import TASK_FILE, tasks_of
from vla_mbpo.sim.tasks import TASKS, TEST_SEED_BASE, TRAIN_SEEDS, Task, task_of
from vla_mbpo.training.datasets import is_dataset, rollouts_in
from vla_mbpo.training.kept import MAKING, made_of, plain, write

FORMAT = 1  # of episode.json
NEEDED = "kind state reasons outcome instruction interventions topics bag".split()


@dataclass(frozen=True)
class Episodes:
    """What was found: rollout files, and why the other recordings are not among them, by folder."""

    files: tuple[Path, ...]
    passed_over: dict[str, str]

    def lines(self) -> list[str]:
        """One for each recording that is passed over."""
        return [f"{folder}: passed over: {reason}" for folder, reason in self.passed_over.items()]


def rollout_files(folders: Iterable[str | Path], robot: str = "sim_panda") -> list[Path]:
    """All rollouts in some folders; says which recordings are passed over. See ``find``."""
    found = find(folders, robot)
    for line in found.lines():
        print(line, flush=True)
    return list(found.files)


def find(folders: Iterable[str | Path], robot: str = "sim_panda") -> Episodes:
    """All rollouts in some folders, those of recorded attempts of this robot too.

    Raises:
        ConfigError: there is no such folder, recordings or a dataset cannot be read here at all, or nothing can be
            written into their folders.
    """
    files: list[Path] = []
    passed: dict[str, str] = {}
    spec, tasks = RobotSpec.load(robot_dir(robot)), tasks_of(robot)
    for folder in map(Path, folders):
        require(folder.is_dir(), "data", str(folder), "a folder")
        if is_dataset(folder):
            files += rollouts_in(folder, spec)
            continue
        alone = (folder / LABELS).is_file()
        files += [] if alone else plain(folder)
        for episode in [folder] if alone else sorted(path.parent for path in folder.glob(f"*/{LABELS}")):
            made = _rollout(episode, spec, tasks)
            if isinstance(made, Path):
                files.append(made)
            else:
                passed[str(episode)] = made
    return Episodes(tuple(files), passed)


def _rollout(episode: Path, spec: RobotSpec, tasks: Mapping[str, Task]) -> Path | str:
    """The rollout of a recording, made if need be, or why there is none."""
    try:
        labels = read_labels(episode)
        wanted = _key(episode, labels, spec, check(labels, tasks))
    except (ConfigError, OSError) as error:
        return str(error)
    file = episode / f"{episode.resolve().name}.npz"
    if made_of(file) == wanted:
        return file
    try:
        from vla_mbpo.training.live import attempt
    except ModuleNotFoundError as error:
        what = f"recordings that were read once where ROS 2 is installed: {error.name} is not here"
        raise ConfigError("data", str(episode), what) from error
    try:
        arrays = attempt(episode, labels, spec, tasks)
    except ValueError as error:  # a ConfigError, or messages whose sizes disagree
        return " ".join(str(error).split())
    write(file, arrays, wanted)
    return file


def overlapping(folders: Iterable[str | Path], others: Iterable[str | Path]) -> list[str]:
    """Those of the folders that are one of the others, in it or around it, however their paths are written."""
    resolved = [Path(other).resolve() for other in others]
    places = {str(folder): Path(folder).resolve() for folder in folders}
    return [
        folder
        for folder, place in places.items()
        if any(place.is_relative_to(other) or other.is_relative_to(place) for other in resolved)
    ]


def to_learn_from(source: str, seed: int) -> bool:
    """Whether an episode's scene may be learned from: others decide on promotions, or are to test with.

    The seed of a real scene is made of a name, and lies beyond those of simulated ones (training/live.py).
    """
    return seed in TRAIN_SEEDS or (source == "live" and seed >= TEST_SEED_BASE)


def check_scenes(facts: Iterable[Mapping[str, Any]]) -> None:
    """ConfigError where some rollouts, by ``source`` and ``seed``, are of scenes that are not to be learned from."""
    others = sorted({fact["seed"] for fact in facts if not to_learn_from(fact["source"], fact["seed"])})
    allowed = f"scenes of training, seeds below {TRAIN_SEEDS.stop}: the others are to calibrate, compare or test with"
    require(not others, "data", ", ".join(map(str, others[:8])), allowed)


def check(labels: Mapping[str, Any], tasks: Mapping[str, Task] = TASKS) -> str:
    """The task's name. ConfigError unless these are labels of a complete attempt that may be learned from."""
    require(labels.get("format") == FORMAT, "format", labels.get("format"), str(FORMAT))
    missing = [name for name in NEEDED if name not in labels]
    require(not missing, LABELS, ", ".join(missing), "fields of labels, all of which it should have")
    require(labels["kind"] == ATTEMPT, "kind", labels["kind"], f"{ATTEMPT}: others have no begin and end")
    reasons = "; ".join(labels["reasons"]) or "`vla-mbpo record repair` says more"
    require(labels["state"] == COMPLETE, "state", labels["state"], f"{COMPLETE} ({reasons})")
    require(labels["outcome"] in OUTCOMES, "outcome", labels["outcome"], f"one of {', '.join(OUTCOMES)}")
    task = task_of(labels["instruction"], tasks)
    known = f"one of the robot's {len(tasks)} tasks; {TASK_FILE} beside its robot.yaml may name others"
    require(bool(task), "instruction", labels["instruction"], known)
    require(not tasks[task].held_out, "task", task, "one that is not held out of all training")
    return task


def _key(episode: Path, labels: Mapping[str, Any], spec: RobotSpec, task: str) -> str:
    """What a rollout is made of: another recording, label, robot, task or way to make it gives another key."""
    bag = (episode / labels["bag"]).stat()
    said = hashlib.sha256((episode / LABELS).read_bytes()).hexdigest()
    robot = [spec.name, spec.joints, spec.horizon, spec.row_period, task]
    return json.dumps({"making": MAKING, "labels": said, "bag": [bag.st_size, bag.st_mtime_ns], "robot": robot})
