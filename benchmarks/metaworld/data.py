"""Demonstrations of Meta-World's experts, and the same ones as rollouts, in the project's own files."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.metaworld.frames import HORIZON, ROW_STEPS
from benchmarks.metaworld.tasks import ROBOT
from vla_mbpo.core.errors import require
from vla_mbpo.sim.tasks import TRAIN_SEEDS
from vla_mbpo.training.demonstrations import AFTER_SUCCESS, Recipe, generate
from vla_mbpo.training.kept import plain
from vla_mbpo.training.tape import LOOK_ROWS

SPARE = 5  # times that what is missing is tried in further scenes
PER_LOOK = "head wrist joints velocities gripper points things".split()


def demonstrate(
    out: Path, tasks: tuple[str, ...], count: int, seed: int = 0, bursts: float = 0.0, workers: int = 2
) -> dict[str, int]:
    """``count`` demonstrations of each task, in scenes from ``seed`` on; where an expert fails, in the next one.

    ``bursts``: probability per row that a perturbation begins (training/demonstrations.py). Existing ones are kept, and
    after an interruption the scenes are those that they would have been without. Returns how many there are of each
    task. ConfigError: a seed is none of training.
    """
    from benchmarks.metaworld.world import TWO_CAMERAS

    last = seed + (SPARE + 1) * count - 1
    require(seed in TRAIN_SEEDS and last in TRAIN_SEEDS, "--seed", seed, f"so that {last} is below {TRAIN_SEEDS.stop}")
    for turn in range(SPARE + 1):
        there = {task: [int(file.stem.rpartition("_")[2]) for file in _of(out, task)] for task in tasks}
        begin = seed + turn * count
        missing = {t: count - sum(one < begin for one in made) for t, made in there.items() if len(made) < count}
        for many in sorted(set(missing.values())):
            short = tuple(task for task in missing if missing[task] == many)
            recipe = Recipe(
                ROBOT, max_rows=HORIZON // ROW_STEPS, look_every=1, burst_probability=bursts, openings=(0.0, 1.0),
                seed=begin,
            )  # fmt: skip
            generate(out, short, many, recipe, workers, TWO_CAMERAS)
    return {task: len(_of(out, task)) for task in tasks}


def as_rollouts(demos: Path, out: Path, tasks: tuple[str, ...], count: int) -> int:
    """The first ``count`` demonstrations of each task as rollouts (training/tape.py); returns how many there are."""
    out.mkdir(parents=True, exist_ok=True)
    made = 0
    for file in [file for task in tasks for file in _of(demos, task)[:count]]:
        with np.load(file) as episode:
            partial = out / f"{file.stem}.partial.npz"
            np.savez_compressed(partial, **rollout_of(dict(episode)))
        partial.rename(out / f"expert_{file.stem.rpartition('_')[0]}_{file.stem.rpartition('_')[2]:0>7}.npz")
        made += 1
    return made


def rollout_of(demo: dict[str, Any]) -> dict[str, Any]:
    """A demonstration as a rollout of the expert: every LOOK_ROWS-th row is looked at, from its first look on.

    ConfigError: it was perturbed, so that looks are missing.
    """
    first = int(demo["at"][0])
    looks = (demo["at"] - first) % LOOK_ROWS == 0
    at, rows = demo["at"][looks] - first, len(demo["target"]) - first
    require(bool(demo["clean"].all()), "demonstration", "perturbed", "one without bursts")
    count, horizon, width = len(at), 16, demo["target"].shape[1] + 1
    return {name: demo[name][looks] for name in PER_LOOK} | {
        "at": at.astype(np.int32),
        "set_point": demo["target"][first:],
        "opening": demo["gripper_target"][first:],
        "cost": np.zeros(rows, np.uint8),
        "events": np.zeros(0, dtype=str),
        "success_row": done_row(demo) - first,
        "failed": False,
        "candidates": np.zeros((count, 0, horizon, width), np.float32),
        "features": np.zeros((count, 0), np.float32),
        "source": "expert",
        "policy": "",
        **{name: demo[name] for name in ("task", "seed", "instruction")},
    }


def done_row(demo: dict[str, Any]) -> int:
    """Row after which the task was done: demonstrations go on for AFTER_SUCCESS rows more."""
    return len(demo["target"]) - 1 - AFTER_SUCCESS


def _of(folder: Path, task: str) -> list[Path]:
    return [file for file in plain(folder) if file.stem.rpartition("_")[0] == task]
