"""Recordings to be exported, and readers of datasets that share nothing with the module under test."""

import json
import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[2]))  # benchmarks is no installed package

from benchmarks.recordings import BEGIN, Story, record  # noqa: E402

ROWS, SIZE = (52, 41), 32
APART = 60_000_000_000  # ns
CAMERAS = ("observation.images.head", "observation.images.wrist")


def story(task, seed, rows, size=SIZE, **more):
    """Noise pictures, so that no frame is like another, and an arm that wanders."""
    rng = np.random.default_rng(seed)
    head, wrist = rng.integers(0, 256, (2, rows + 1, size, size, 3), dtype=np.uint8)
    positions = np.cumsum(rng.normal(0, 0.01, (rows + 1, 7)), axis=0)
    return Story(task, seed, head, wrist, positions, rng.uniform(0, 0.08, rows + 1), **more)


def stories():
    """A success with everything that can happen in it, and a failure in which no picture came for a while."""
    said = {1: 1, 2: 2, 3: 3}
    eventful = {"person": range(20, 30), "vetoed": (2, 4), "verdicts": said, "alarm": 32, "cost": (7, 33)}
    return (
        story("button", 3, ROWS[0], success_row=45, **eventful),
        story("drawer", 4, ROWS[1], blind=range(11, 14)),
    )


def write(root, spec):
    for number, one in enumerate(stories()):
        record(root, spec, one, BEGIN + number * APART)
    record(root, spec, story("button", 5, 24, success_row=20), BEGIN + 2 * APART, lost=2)
    return root


def info(dataset):
    return json.loads((dataset / "meta/info.json").read_text())


def table(dataset, kind):
    """Rows of ``data`` or ``meta/episodes``, in order."""
    import pyarrow.parquet as pq

    files = sorted((dataset / kind).glob("*/*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def decoded(path):
    """Pictures, stamps [s] and key frames of a file, by PyAV's defaults."""
    import av

    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    pictures = np.stack([frame.to_rgb().to_ndarray() for frame in frames])
    return pictures, [frame.time for frame in frames], [i for i, frame in enumerate(frames) if frame.key_frame]
