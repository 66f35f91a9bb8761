"""Parquet files of a dataset."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vla_mbpo.record.lerobot.layout import EPISODES, PER_LOOK
from vla_mbpo.record.lerobot.whole import Parts

# Of what cannot be told from the values: lists may be empty in every episode, and seeds use all bits.
_TYPES = {"tasks": pa.list_(pa.string()), "cost_events": pa.list_(pa.string()), "scene_seed": pa.uint64()}


class Tables:
    """A table in numbered files, one row group per episode. One thread."""

    def __init__(self, root: Path, template: str, limit: int) -> None:
        """``limit``: how large a file gets [bytes]."""
        self._parts = Parts(root, template, limit)
        self._writer: pq.ParquetWriter | None = None
        self._size = 0  # bytes in the file

    def add(self, table: pa.Table) -> dict[str, int]:
        """Append an episode's rows. Returns ``chunk_index`` and ``file_index``."""
        if self._parts.full(self._size):
            self.close()
            self._writer = pq.ParquetWriter(self._parts.path, table.schema, compression="snappy")
        assert self._writer is not None
        self._writer.write_table(table)
        self._size = self._parts.path.stat().st_size
        return self._parts.place

    def close(self) -> None:
        """Write the index."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._size = 0


def frames_table(columns: dict[str, NDArray[Any]]) -> pa.Table:
    """Columns (T,) as numbers, (T, n) as lists of n."""
    return pa.table({name: _column(values) for name, values in columns.items()})


def _column(values: NDArray[Any]) -> pa.Array:
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def plans_table(episode: int, rollout: dict[str, Any]) -> pa.Table:
    """PER_LOOK of a rollout: each flat, with its shape beside it. Lists of any length: another policy may have more."""
    at = rollout["at"].astype(np.int64)
    columns = {"episode_index": pa.array(np.full(len(at), episode)), "frame_index": pa.array(at)}
    for name, dtype in PER_LOOK.items():
        values = rollout[name]
        shape, size = np.array(values.shape[1:], np.int64), math.prod(values.shape[1:])
        shapes = pa.array(np.tile(shape, len(at)))
        columns[f"{name}_shape"] = pa.ListArray.from_arrays(_ends(len(at), len(shape)), shapes)
        flat = pa.array(np.ascontiguousarray(values, dtype).reshape(-1))
        columns[name] = pa.ListArray.from_arrays(_ends(len(at), size), flat)
    return pa.table(columns)


def _ends(count: int, size: int) -> pa.Array:
    """Where ``count`` lists of ``size`` begin and end."""
    return pa.array(size * np.arange(count + 1), pa.int32())


def write_episodes(root: Path, episodes: list[dict[str, Any]]) -> None:
    """The table of episodes, one file: at some 10 kB each it stays small."""
    place = {"chunk_index": 0, "file_index": 0}
    numbers = {f"meta/episodes/{name}": value for name, value in place.items()}
    rows = [row | numbers for row in episodes]
    path = root / EPISODES.format(**place)
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {name: pa.array([row[name] for row in rows], type=_TYPES.get(name)) for name in rows[0]}
    pq.write_table(pa.table(columns), path, compression="snappy")


def write_tasks(path: Path, tasks: list[str]) -> None:
    """Instructions and their numbers. LeRobot reads it with pandas and wants the instructions as index."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(tasks, pa.string())})

    def described(name: str, kind: str, dtype: str) -> dict[str, Any]:
        return {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": dtype, "metadata": None}

    about = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [described("task_index", "int64", "int64"), described("task", "unicode", "object")],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(about)}), path, compression="snappy")
