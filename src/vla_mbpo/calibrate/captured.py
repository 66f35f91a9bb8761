"""A folder of pictures with the robot's pose at each, read and written.

``poses.json``: {"views": {"000.png": POSE, ...}}; POSE is one of {"joints": [q1, ...]} [rad], {"tool_in_base": 4x4},
{"position": [x, y, z], "quaternion": [x, y, z, w]} (tool in base) [m]. Or ``poses.npz``: ``names`` (n,) and either
``joints`` (n, k) or ``tool_in_base`` (n, 4, 4).
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from vla_mbpo.calibrate.poses import FloatArray, ToolPoses, checked, pose
from vla_mbpo.core.errors import ConfigError, require

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
POSES_JSON, POSES_NPZ = "poses.json", "poses.npz"


def pictures(folder: Path) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Names and grey pictures (h, w), by name. ConfigError: no folder, no pictures, or one that cannot be read."""
    require(folder.is_dir(), "--pictures", str(folder), "a folder")
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in PICTURES)
    require(bool(files), "--pictures", str(folder), f"a folder with pictures ({', '.join(PICTURES)})")
    for file in files:
        image = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        if image is None:
            raise ConfigError("--pictures", str(file), "a picture that can be read")
        yield file.name, np.asarray(image, dtype=np.uint8)


def tool_poses(folder: Path, kinematics: ToolPoses) -> dict[str, FloatArray]:
    """Tool pose, base frame, (4, 4), of each picture that has one. ConfigError naming the entry that is wrong."""
    archive = folder / POSES_NPZ
    entries = _archived(archive) if archive.exists() else _listed(folder / POSES_JSON)
    return {name: _tool(entry, kinematics, name) for name, entry in entries.items()}


class Folder:
    """Where pictures and joint positions are put while they are taken; what is there already stays.

    Attributes:
        used: whether there were pictures before.
    """

    def __init__(self, folder: Path) -> None:
        """ConfigError: it cannot be made, or its poses cannot be read."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError("--pictures", str(folder), f"a folder that can be written to: {error.strerror}") from None
        require(not (folder / POSES_NPZ).exists(), "--pictures", str(folder), f"a folder without {POSES_NPZ}")
        self._folder = folder
        self.used = any(file.suffix.lower() in PICTURES for file in folder.iterdir())
        self._poses = _listed(folder / POSES_JSON) if (folder / POSES_JSON).exists() else {}

    def next_name(self) -> str:
        """Of the next picture."""
        numbers = [int(file.stem) for file in self._folder.glob("*.png") if file.stem.isdecimal()]
        return f"{max(numbers, default=-1) + 1:03d}.png"

    def add(self, image: NDArray[np.uint8], joints: FloatArray | None) -> str:
        """Keep a picture (h, w) or (h, w, 3) RGB and the joints [rad] that belong to it. Returns its name."""
        name = self.next_name()
        kept = cv2.imwrite(str(self._folder / name), image if image.ndim == 2 else image[:, :, ::-1])
        require(kept, "--pictures", str(self._folder / name), "a file that can be written")
        if joints is not None:
            self._poses[name] = {"joints": joints.tolist()}
            partial = self._folder / f"{POSES_JSON}.partial"
            partial.write_text(json.dumps({"views": self._poses}, indent=1) + "\n")
            partial.replace(self._folder / POSES_JSON)
        return name


def _listed(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError("poses", str(path), f"robot poses as JSON: {' '.join(str(error).split())}") from None
    views = raw.get("views") if isinstance(raw, dict) else None
    if not isinstance(views, dict):
        raise ConfigError("poses", str(path), '{"views": {"PICTURE": POSE, ...}}')
    return views


def _archived(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            key = "joints" if "joints" in archive else "tool_in_base"
            names, values = [str(name) for name in archive["names"]], archive[key]
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError("poses", str(path), f"an archive with names and joints or tool_in_base: {error}") from None
    require(len(names) == len(values), "poses", f"{len(names)} names, {len(values)} poses", "one pose for each name")
    return {name: {key: value} for name, value in zip(names, values, strict=True)}


def _tool(entry: Any, kinematics: ToolPoses, name: str) -> FloatArray:
    try:
        if "joints" in entry:
            return kinematics.at(entry["joints"])
        if "tool_in_base" in entry:
            return checked(entry["tool_in_base"], f"{name}: tool_in_base")
        turn, place = (np.asarray(entry[key], dtype=np.float64) for key in ("quaternion", "position"))
        require(abs(float(np.linalg.norm(turn)) - 1.0) < 1e-3, f"{name}: quaternion", turn.tolist(), "one of length 1")
        return checked(pose(Rotation.from_quat(turn), place), f"{name}: position")
    except ConfigError as error:
        raise ConfigError(f"poses, {name}: {error.field}", error.value, error.valid) from None
    except (TypeError, KeyError, ValueError):
        raise ConfigError("poses", {name: entry}, "joints, tool_in_base, or position and quaternion") from None
