"""A dataset that ``export`` wrote, as rollouts again (training/tape.py)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vla_mbpo.core.disk import place_of, whole_folder
from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.record.lerobot.layout import (
    ACTION,
    CAMERAS,
    EPISODES,
    INFO,
    OWN,
    PER_LOOK,
    PLANS,
    STATE,
    VELOCITY,
    VERSION,
)
from vla_mbpo.record.lerobot.video import read_pictures


def import_rollouts(dataset: Path, out: Path) -> list[str]:
    """Write one npz per episode, named after its recording. Returns the names.

    Raises:
        ConfigError: ``out`` holds something, or ``dataset`` is none that ``export`` wrote.
    """
    names = []
    with whole_folder(place_of(out)) as folder:
        for name, made in rollouts(dataset):
            np.savez(folder / f"{name}.npz", **made, made_of=name)
            names.append(name)
    return names


def rollouts(dataset: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and arrays, as training/live.py made them of the recordings; a lossy video changes the pictures.

    Raises:
        ConfigError: it is no dataset, or none that ``export`` wrote.
    """
    info = _info(dataset)
    try:
        for row in pq.read_table(dataset / EPISODES.format(chunk_index=0, file_index=0)).to_pylist():
            yield Path(row["recording"]).name, _rollout(dataset, info, row)
    except (KeyError, pa.ArrowException) as error:
        what = f"expected a whole dataset of `vla-mbpo record export` ({type(error).__name__}: {error})"
        raise ConfigError("dataset", str(dataset), what) from None


def _info(dataset: Path) -> dict[str, Any]:
    path = dataset / INFO
    try:
        info = json.loads(path.read_text())
        version, features = str(info["codebase_version"]), info["features"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(str(path), type(error).__name__, "expected the description of a LeRobotDataset") from None
    require(version == VERSION, "codebase_version", version, f"expected {VERSION}")
    missing = [name for name in (STATE, VELOCITY, ACTION, *CAMERAS.values(), *OWN) if name not in features]
    require(not missing, "features", f"no {', '.join(missing)}", "expected a dataset of `vla-mbpo record export`")
    return info


def _rollout(dataset: Path, info: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    frames = _of_episode(dataset / _file(info["data_path"], row, "data"), row["episode_index"])
    numbers = {name: frames[name].to_numpy() for name in OWN}
    state, velocities, action = (_lists(frames[name], len(frames)) for name in (STATE, VELOCITY, ACTION))
    at = np.flatnonzero(numbers["look"])
    made: dict[str, Any] = {"at": at.astype(np.int32)}
    for view, key in CAMERAS.items():
        first = round(row[f"videos/{key}/from_timestamp"] * info["fps"])
        path = dataset / _file(info["video_path"], row, f"videos/{key}", video_key=key)
        made[view] = read_pictures(path, info["fps"], first + at)
    done = np.flatnonzero(numbers["next.success"])
    return made | {
        "joints": state[at, :-1],
        "velocities": velocities[at],
        "gripper": state[at, -1],
        "set_point": action[:, :-1],
        "opening": action[:, -1],
        "cubes": np.full((len(at), 3, 3), np.nan, np.float32),
        "points": np.full((len(at), 9), np.nan, np.float32),
        "source": row["source"],
        "task": row["scene_task"],
        "instruction": row["tasks"][0],
        "seed": row["scene_seed"],
        "policy": row["policy"],
        **_plans(dataset / _file(PLANS, row, "plans"), row["episode_index"]),
        "cost": numbers["cost"].astype(np.uint8),
        "events": np.array(row["cost_events"], dtype=str),
        "success_row": int(done[0]) if len(done) else -1,
        "failed": row["failed"],
        "aborted": row["aborted"],
        "human": numbers["intervention"],
    }


def _file(template: str, row: dict[str, Any], kind: str, **names: str) -> str:
    return template.format(**{name: row[f"{kind}/{name}"] for name in ("chunk_index", "file_index")}, **names)


def _of_episode(path: Path, number: int) -> pa.Table:
    return pq.read_table(path, filters=[("episode_index", "=", number)]).combine_chunks()


def _lists(column: pa.ChunkedArray, count: int) -> NDArray[Any]:
    """A column of ``count`` lists of the same length as (count, length)."""
    values = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return values.reshape(count, len(values) // count)


def _plans(path: Path, number: int) -> dict[str, NDArray[Any]]:
    table, found = _of_episode(path, number), {}
    for name in PER_LOOK:
        shape = table[f"{name}_shape"][0].as_py()
        found[name] = _lists(table[name], len(table)).reshape(len(table), *shape)
    return found
