"""A LeRobotDataset v3 being written, episode by episode."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.errors import require
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.record.lerobot.attempt import Attempt
from vla_mbpo.record.lerobot.layout import (
    CAMERAS,
    DATA,
    DATA_MB,
    INFO,
    PLANS,
    STATS,
    TASKS,
    VIDEO_MB,
    features,
    info,
    rate,
)
from vla_mbpo.record.lerobot.statistics import histogram, of_column, of_pictures
from vla_mbpo.record.lerobot.tables import Tables, frames_table, plans_table, write_episodes, write_tasks
from vla_mbpo.record.lerobot.video import CODEC, Quality, Videos


class Dataset:
    """Files below ``root``. ``close`` writes what describes them. One thread."""

    def __init__(self, root: Path, spec: RobotSpec, quality: Quality) -> None:
        self._root, self._spec, self._quality = root, spec, quality
        self._fps = rate(spec)
        limit = VIDEO_MB << 20
        self._videos = {view: Videos(root, key, self._fps, quality, limit) for view, key in CAMERAS.items()}
        self._data, self._plans = (Tables(root, template, DATA_MB << 20) for template in (DATA, PLANS))
        self._size: tuple[int, int] = (0, 0)  # height, width [px]
        self._tasks: dict[str, int] = {}
        self._episodes: list[dict[str, Any]] = []
        self._columns: list[dict[str, NDArray[Any]]] = []
        self._levels: dict[str, NDArray[np.int64]] = {}
        self.frames = 0

    def add(self, attempt: Attempt) -> None:
        """Append an attempt. Raises ConfigError: its pictures are of another size; nothing was written."""
        self._check(attempt)
        number, rows = len(self._episodes), len(attempt.pictures["head"])
        task = self._tasks.setdefault(attempt.instruction, len(self._tasks))
        columns = attempt.columns | self._index(number, rows, task)
        row = {"episode_index": number, "tasks": [attempt.instruction], "length": rows}
        row |= {f"data/{name}": value for name, value in self._data.add(frames_table(columns)).items()}
        row |= {"dataset_from_index": self.frames, "dataset_to_index": self.frames + rows}
        for view, videos in self._videos.items():
            row |= videos.add(attempt.pictures[view])
        row |= {f"plans/{name}": v for name, v in self._plans.add(plans_table(number, attempt.rollout)).items()}
        self._episodes.append(row | _facts(attempt) | self._statistics(attempt, columns))
        self._columns.append(columns)
        self.frames += rows

    def close(self) -> None:
        """Finish the files, and write what describes them."""
        self._data.close()
        self._plans.close()
        for videos in self._videos.values():
            videos.close()
        write_episodes(self._root, self._episodes)
        write_tasks(self._root / TASKS, list(self._tasks))
        described = features(self._spec, self._size, self._fps, CODEC, self._quality.pixels)
        totals = (len(self._episodes), self.frames, len(self._tasks))
        _write(self._root / INFO, info(self._spec, self._fps, described, totals))
        joined = {name: np.concatenate([c[name] for c in self._columns]) for name in self._columns[0]}
        statistics = {name: of_column(values) for name, values in joined.items()}
        statistics |= {CAMERAS[view]: of_pictures(levels, self.frames) for view, levels in self._levels.items()}
        _write(self._root / STATS, statistics)

    def _check(self, attempt: Attempt) -> None:
        sizes = {picture.shape[:2] for pictures in attempt.pictures.values() for picture in pictures}
        expected = {self._size} if self._episodes else {next(iter(sizes))}
        height, width = next(iter(expected))
        fits = sizes == expected and (self._quality.pixels != "yuv420p" or height % 2 == width % 2 == 0)
        require(fits, "pictures", sorted(sizes), f"expected all of {height} x {width} px, even where they are lossy")
        self._size = (height, width)

    def _index(self, number: int, rows: int, task: int) -> dict[str, NDArray[Any]]:
        frame = np.arange(rows)
        return {
            "timestamp": (frame / self._fps).astype(np.float32),
            "frame_index": frame,
            "episode_index": np.full(rows, number),
            "index": self.frames + frame,
            "task_index": np.full(rows, task),
        }

    def _statistics(self, attempt: Attempt, columns: dict[str, NDArray[Any]]) -> dict[str, Any]:
        """Columns of the table of episodes; the pictures' levels are added to those of all."""
        found = {name: of_column(values) for name, values in columns.items()}
        for view, pictures in attempt.pictures.items():
            levels = histogram(pictures)
            self._levels[view] = self._levels.get(view, 0) + levels
            found[CAMERAS[view]] = of_pictures(levels, len(pictures))
        return {f"stats/{name}/{key}": value for name, one in found.items() for key, value in one.items()}


def _facts(attempt: Attempt) -> dict[str, Any]:
    """What LeRobot does not know of an episode: how it ended, and what makes it a rollout again."""
    labels, made = attempt.labels, attempt.rollout
    return {
        "recording": attempt.name,
        "outcome": labels["outcome"],
        "message": labels["message"],
        "failed": bool(made["failed"]),
        "aborted": bool(made["aborted"]),
        "cost_events": [str(event) for event in made["events"]],
        "intervened_frames": int(attempt.columns["intervention"].sum()),
        "policy": made["policy"],
        "release": ", ".join(labels["releases"]),
        "source": made["source"],
        "scene_task": made["task"],
        "scene_seed": int(made["seed"]),
    }


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=4, ensure_ascii=False) + "\n")
