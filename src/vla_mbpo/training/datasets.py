"""A LeRobotDataset that ``vla-mbpo record export`` wrote, as rollouts: made once, in a folder of the dataset.

Making them needs the extra ``export``; reading them afterwards does not.
"""

import hashlib
import json
from pathlib import Path

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.record.lerobot.layout import INFO
from vla_mbpo.training.kept import MAKING, made_of, plain, write

FOLDER = "rollouts"  # in the dataset; LeRobot does not look there
VIDEOS = ".mp4"


def is_dataset(folder: Path) -> bool:
    """Whether a folder is a LeRobotDataset, of whomever."""
    return (folder / INFO).is_file()


def rollouts_in(dataset: Path, spec: RobotSpec) -> list[Path]:
    """Files of its episodes, named after their recordings and in the order of their names.

    Raises:
        ConfigError: it is none of `vla-mbpo record export`, of another robot, or cannot be read here or written to.
    """
    info = _info(dataset)
    require(info.get("robot_type") == spec.name, "robot_type", info.get("robot_type"), f"{spec.name}; {dataset}")
    key, kept = _key(dataset, spec), dataset / FOLDER
    there = [file for file in plain(kept) if made_of(file) == key]
    if there and len(there) == info.get("total_episodes"):
        return there
    try:
        from vla_mbpo.record.lerobot.imported import rollouts
    except ModuleNotFoundError as error:
        what = f"datasets that were read once where the extra `export` is installed: {error.name} is not here"
        raise ConfigError("data", str(dataset), what) from error
    made = []
    for name, arrays in rollouts(dataset):
        made.append(kept / f"{name}.npz")
        write(made[-1], arrays, key)
    return sorted(made)


def _info(dataset: Path) -> dict:
    try:
        found = json.loads((dataset / INFO).read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(str(dataset / INFO), type(error).__name__, "the description of a LeRobotDataset") from None
    require(isinstance(found, dict), INFO, type(found).__name__, "the description of a LeRobotDataset")
    return found


def _key(dataset: Path, spec: RobotSpec) -> str:
    """What its rollouts are made of: the content of its files, of videos the size (their statistics are content)."""
    digest = hashlib.sha256()
    for file in sorted(path for path in dataset.rglob("*") if path.is_file()):
        place = file.relative_to(dataset)
        if place.parts[0] == FOLDER:
            continue
        said = str(file.stat().st_size).encode() if file.suffix == VIDEOS else file.read_bytes()
        digest.update(str(place).encode() + b"\0" + hashlib.sha256(said).digest())
    return json.dumps({"making": MAKING, "dataset": digest.hexdigest(), "robot": spec.name})
