"""Recorded attempts to a LeRobotDataset v3."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mcap.exceptions import McapError

from vla_mbpo.core.disk import place_of, whole_folder
from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.record.lerobot.attempt import read_attempt
from vla_mbpo.record.lerobot.dataset import Dataset
from vla_mbpo.record.lerobot.layout import rate
from vla_mbpo.record.lerobot.video import QUALITIES
from vla_mbpo.record.repair import episodes
from vla_mbpo.sim.tasks import TASKS, Task


@dataclass
class Exported:
    """What became of the recordings.

    Attributes:
        episodes: names of those in the dataset, in its order.
        passed_over: why the others are not, by name.
        frames: of all episodes.
        seconds: of all episodes [s].
    """

    episodes: list[str] = field(default_factory=list)
    passed_over: dict[str, str] = field(default_factory=dict)
    frames: int = 0
    seconds: float = 0.0


def export(
    folder: Path, out: Path, spec: RobotSpec, video: str = "lossless", tasks: Mapping[str, Task] = TASKS
) -> Exported:
    """Write the complete attempts in ``folder`` (or the one that it is) as a dataset; one at a time is in memory.

    ``tasks``: of the robot, by name.

    Raises:
        ConfigError: ``out`` holds something, ``video`` is no quality, or there is no attempt to write.
        OSError: the disk is full, for example; ``out`` is as before.
    """
    require(video in QUALITIES, "video", video, f"choose one of: {', '.join(QUALITIES)}")
    done, fps = Exported(), rate(spec)
    found = episodes(folder)
    with whole_folder(place_of(out)) as root:
        dataset = Dataset(root, spec, QUALITIES[video])
        for episode in found:
            try:
                attempt = read_attempt(episode, spec, tasks)
            except (ValueError, McapError, OSError) as error:  # ConfigError is a ValueError
                done.passed_over[episode.name] = str(error)
                continue
            try:
                dataset.add(attempt)
            except ConfigError as error:
                done.passed_over[episode.name] = str(error)
                continue
            done.episodes.append(episode.name)
        why = "; ".join(f"{name}: {reason}" for name, reason in list(done.passed_over.items())[:3])
        require(bool(done.episodes), "folder", str(folder), f"expected a complete attempt. {why}")
        dataset.close()
    done.frames, done.seconds = dataset.frames, dataset.frames / fps
    return done
