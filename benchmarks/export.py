"""Recordings to LeRobotDataset v3 and back: minutes per GB, speed, and what a lossy video does to the pictures.

By default of experts in the simulator, recorded without a running stack, pictures at the row rate; with --recordings of
attempts that were recorded on one. Time is that of the attempts' rows.
"""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import parser, write
from benchmarks.recordings import BEGIN, expert_story, record
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.paths import robot_dir
from vla_mbpo.record.lerobot.export import export
from vla_mbpo.record.lerobot.imported import rollouts
from vla_mbpo.record.lerobot.video import QUALITIES
from vla_mbpo.sim.tasks import TRAINING_TASKS

SEED = 940_000
APART = 120_000_000_000  # ns between the begins of two recordings


def size(folder: Path) -> int:
    """Bytes of all files below it."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def make(folder: Path, spec: RobotSpec, episodes: int, rows: int, pixels: int, noise: float) -> None:
    """Record experts, one task after the other; ``noise``: standard deviation, of 255, added to the pictures."""
    rng = np.random.default_rng(0)
    for number in range(episodes):
        task = TRAINING_TASKS[number % len(TRAINING_TASKS)]
        story = expert_story(spec, task, SEED + number, rows, pixels)
        if noise:
            story.head, story.wrist = (_noisy(pictures, noise, rng) for pictures in (story.head, story.wrist))
        record(folder, spec, story, BEGIN + number * APART)


def _noisy(pictures: NDArray[np.uint8], noise: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    disturbed = pictures + np.float32(noise) * rng.standard_normal(pictures.shape, np.float32)
    return np.clip(np.rint(disturbed), 0, 255).astype(np.uint8)


def measure(folder: Path, spec: RobotSpec, video: str, out: Path) -> dict[str, Any]:
    """Export and import once."""
    begin = time.perf_counter()
    done = export(folder, out, spec, video)
    exported = time.perf_counter()
    arrays = dict(rollouts(out))
    read = time.perf_counter()
    used, videos = size(out), size(out / "videos")
    recorded = sum(size(folder / name) for name in done.episodes)
    return {
        "episodes": len(done.episodes),
        "passed_over": len(done.passed_over),
        "minutes": round(done.seconds / 60, 3),
        "recording_minutes_per_gb": round(done.seconds / 60 / recorded * 1e9, 1),
        "dataset_minutes_per_gb": round(done.seconds / 60 / used * 1e9, 1),
        "dataset_mb": round(used / 1e6, 3),
        "videos_mb": round(videos / 1e6, 3),
        "export_times_real_time": round(done.seconds / (exported - begin), 1),
        "import_times_real_time": round(done.seconds / (read - exported), 1),
        "arrays": arrays,
    }


def error(one: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    """Difference of the looks' pictures, of 255."""
    found = [np.abs(one[name][view].astype(np.int16) - other[name][view]) for name in one for view in ("head", "wrist")]
    every = np.concatenate([difference.reshape(-1) for difference in found])
    return {"mean": round(float(every.mean()), 3), "p99": float(np.percentile(every, 99)), "max": int(every.max())}


def main() -> None:
    """Measure and write."""
    cli = parser(__doc__ or "")
    cli.add_argument("--recordings", type=Path, help="recorded attempts; default: some are made")
    cli.add_argument("--robot", default="sim_panda")
    cli.add_argument("--episodes", type=int, default=8, help="how many to make")
    cli.add_argument("--rows", type=int, default=300, help="rows of each")
    cli.add_argument("--pixels", type=int, default=96, help="edge of the pictures")
    cli.add_argument("--noise", type=float, default=0.8, help="of the sensor [of 255]; default: as simulated cameras'")
    args = cli.parse_args()
    spec = RobotSpec.load(robot_dir(args.robot))
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.recordings or Path(temporary) / "recordings"
        if args.recordings is None:
            make(folder, spec, args.episodes, args.rows, args.pixels, args.noise)
        found = {video: measure(folder, spec, video, Path(temporary) / video) for video in QUALITIES}
    arrays = {video: one.pop("arrays") for video, one in found.items()}
    metrics: dict[str, Any] = {
        "cores": os.cpu_count(),
        "load_1min": round(os.getloadavg()[0], 2),
        "made_up": args.recordings is None,
        "noise": args.noise,
        "pixels": list(next(iter(arrays["lossless"].values()))["head"].shape[1:3]),
        **found,
        "error_of_lossy": error(arrays["lossless"], arrays["lossy"]),
    }
    write("export", metrics, args.json)


if __name__ == "__main__":
    main()
