"""Intrinsic calibration in the YAML format of ROS's camera_calibration."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from vla_mbpo.core.errors import ConfigError, require

_MATRICES = {"camera_matrix": (3, 3), "rectification_matrix": (3, 3), "projection_matrix": (3, 4)}


@dataclass(frozen=True)
class Calibration:
    """Intrinsics of one camera as in sensor_msgs/CameraInfo: k, r (9,) and p (12,) row-major, d of any length."""

    name: str
    width: int
    height: int
    model: str
    d: tuple[float, ...]
    k: tuple[float, ...]
    r: tuple[float, ...]
    p: tuple[float, ...]

    @classmethod
    def load(cls, path: Path) -> "Calibration":
        """Read a camera_info YAML file. Raises ConfigError naming the field that is wrong."""
        try:
            raw = yaml.safe_load(path.read_text())
        except (OSError, yaml.YAMLError) as error:
            raise ConfigError("calibration", str(path), " ".join(str(error).split())) from None
        require(isinstance(raw, dict), "calibration", str(path), "expected a camera_info YAML mapping")
        for key in ("image_width", "image_height"):
            require(isinstance(raw.get(key), int) and raw[key] > 0, f"{path}: {key}", raw.get(key), "expected pixels")
        matrices = {key: _matrix(path, raw, key, rows * columns) for key, (rows, columns) in _MATRICES.items()}
        return cls(
            name=str(raw.get("camera_name", "")),
            width=raw["image_width"],
            height=raw["image_height"],
            model=str(raw.get("distortion_model", "plumb_bob")),
            d=_matrix(path, raw, "distortion_coefficients", None),
            k=matrices["camera_matrix"],
            r=matrices["rectification_matrix"],
            p=matrices["projection_matrix"],
        )

    def require_size(self, width: int, height: int) -> None:
        """Raise ConfigError unless the calibration is for images of this size."""
        mine = f"{self.width}x{self.height}"
        require(mine == f"{width}x{height}", "calibration size", mine, f"the camera delivers {width}x{height}")


def _matrix(path: Path, raw: dict, key: str, size: int | None) -> tuple[float, ...]:
    try:
        values = np.asarray(raw[key]["data"], dtype=np.float64).ravel()
    except (KeyError, TypeError, ValueError):
        raise ConfigError(f"{path}: {key}", raw.get(key), "expected rows, cols and data") from None
    ok = bool(np.isfinite(values).all()) and (size is None or len(values) == size)
    require(ok, f"{path}: {key}", values.tolist(), f"expected {size if size else 'only'} finite numbers")
    return tuple(float(value) for value in values)
