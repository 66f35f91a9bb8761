"""Where a LeRobotDataset v3 keeps what, what it calls it, and which columns an attempt has in it.

A frame is a row of the arm (20 Hz, as the cameras), not a look of the policy (about every eighth row): an action is due
at every row, the chunks that training learns from are made of rows, and LeRobot's windows (``delta_timestamps``) count
in frames. The column ``look`` says which frames our own training reads.
"""

from typing import Any

from vla_mbpo.core.errors import require
from vla_mbpo.core.robot import RobotSpec

VERSION = "v3.0"
CHUNK_FILES, DATA_MB, VIDEO_MB = 1000, 100, 200  # files per folder, and how large they get [MiB]

_PART = "chunk-{chunk_index:03d}/file-{file_index:03d}"
DATA = f"data/{_PART}.parquet"
VIDEO = "videos/{video_key}/" + f"{_PART}.mp4"
EPISODES = f"meta/episodes/{_PART}.parquet"
INFO, STATS, TASKS = "meta/info.json", "meta/stats.json", "meta/tasks.parquet"
# LeRobot has no place for a policy's candidates, and does not look for this one.
PLANS = f"plans/{_PART}.parquet"

STATE, VELOCITY, ACTION = "observation.state", "observation.velocity", "action"
CAMERAS = {"head": "observation.images.head", "wrist": "observation.images.wrist"}
# Of a rollout, what is per look and no feature of the frame.
PER_LOOK = {"candidates": "float32", "features": "float32", "vetoed": "bool", "alarm": "bool"}
NO_CHUNK = -1  # of `verdict`; the others are those of CandidateVerdict.msg
VERDICTS = {NO_CHUNK: "no chunk in command", 0: "unknown", 1: "safe", 2: "risky", 3: "unsafe"}

# What becomes an input of LeRobot's policies is called observation.*, what a step leads to next.*: these are neither.
OWN = {
    "intervention": "bool",  # a person has the arm, from the takeover until autonomy is engaged again
    "verdict": "int64",  # of the imagination, on the chunk in command
    "vetoed": "int64",  # candidates that the gate refused in the row
    "alarm": "bool",  # of the failure detector, in this attempt
    "cost": "int64",  # cost events that began in the row
    "look": "bool",  # what training reads: the frame is a look of the rollout (training/tape.py)
    "seen": "bool",  # the pictures are the row's; otherwise the last ones are repeated
    "next.success": "bool",  # the task is done after the row
    "next.done": "bool",  # it is the last row
}
INDEX = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}


def rate(spec: RobotSpec) -> int:
    """Frames per second. Raises ConfigError: the robot's rows are no whole number of them."""
    fps, rest = divmod(1_000_000_000, spec.row_period)
    require(rest == 0, "row_period", spec.row_period / 1e9, "a whole number of rows per second, which LeRobot needs")
    return fps


def features(spec: RobotSpec, size: tuple[int, int], fps: int, codec: str, pixels: str) -> dict[str, dict[str, Any]]:
    """``features`` of info.json. ``size``: height and width of the pictures [px]; units are in the names (REP 103)."""
    opening = "gripper.opening_m"
    positions = [*(f"{joint}.position_rad" for joint in spec.joints), opening]
    found = {
        STATE: _vector(positions),
        VELOCITY: _vector([f"{joint}.velocity_rad_per_s" for joint in spec.joints]),
        ACTION: _vector(positions),
    }
    for key in CAMERAS.values():
        found[key] = _video(size, fps, codec, pixels)
    for name, dtype in (OWN | INDEX).items():
        found[name] = {"dtype": dtype, "shape": [1], "names": None}
    found["verdict"]["info"] = {"codes": {str(code): text for code, text in VERDICTS.items()}}
    return found


def _vector(names: list[str]) -> dict[str, Any]:
    return {"dtype": "float32", "shape": [len(names)], "names": names}


def _video(size: tuple[int, int], fps: int, codec: str, pixels: str) -> dict[str, Any]:
    info = {
        "video.height": size[0],
        "video.width": size[1],
        "video.codec": codec,
        "video.pix_fmt": pixels,
        "video.is_depth_map": False,
        "video.fps": fps,
        "video.channels": 3,
        "has_audio": False,
    }
    return {"dtype": "video", "shape": [*size, 3], "names": ["height", "width", "channels"], "info": info}


def info(spec: RobotSpec, fps: int, described: dict[str, Any], totals: tuple[int, int, int]) -> dict[str, Any]:
    """Content of info.json; ``totals``: episodes, frames, tasks."""
    return {
        "codebase_version": VERSION,
        "robot_type": spec.name,
        "total_episodes": totals[0],
        "total_frames": totals[1],
        "total_tasks": totals[2],
        "chunks_size": CHUNK_FILES,
        "data_files_size_in_mb": DATA_MB,
        "video_files_size_in_mb": VIDEO_MB,
        "fps": fps,
        "splits": {"train": f"0:{totals[0]}"},
        "data_path": DATA,
        "video_path": VIDEO,
        "features": described,
    }
