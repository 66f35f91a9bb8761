"""Intrinsic calibration in the YAML format of ROS's camera_calibration."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla_mbpo.calibrate import sealed
from vla_mbpo.calibrate.sealed import Provenance
from vla_mbpo.core.errors import ConfigError, require

_MATRICES = {"camera_matrix": (3, 3), "rectification_matrix": (3, 3), "projection_matrix": (3, 4)}


@dataclass(frozen=True)
class Calibration:
    """Intrinsics of one camera as in sensor_msgs/CameraInfo: k, r (9,) and p (12,) row-major, d of any length.

    ``provenance`` is None where another program than `vla-mbpo calibrate` made it. ``focal_sigma``, ``axis_sigma``:
    standard errors of the focal length, as a share of it, and of the direction of the optical axis [deg]; 0 where they
    are not known.
    """

    name: str
    width: int
    height: int
    model: str
    d: tuple[float, ...]
    k: tuple[float, ...]
    r: tuple[float, ...]
    p: tuple[float, ...]
    provenance: Provenance | None = None
    focal_sigma: float = 0.0
    axis_sigma: float = 0.0

    @classmethod
    def load(cls, path: Path) -> "Calibration":
        """Read a camera_info YAML file.

        Raises:
            ConfigError: naming the field that is wrong, or the file was changed after `vla-mbpo calibrate` made it.
        """
        raw, provenance = sealed.read(path)
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
            provenance=provenance,
            focal_sigma=_number(path, raw, "focal_sigma"),
            axis_sigma=_number(path, raw, "axis_sigma_deg"),
        )

    def write(self, path: Path) -> Provenance:
        """Write it, whole or not at all. Returns its provenance, with a hash.

        Raises:
            ConfigError: it has none, or cannot be written.
        """
        if self.provenance is None:
            raise ConfigError("provenance", None, "where the calibration comes from")
        content: dict[str, Any] = {"image_width": self.width, "image_height": self.height, "camera_name": self.name}
        for key, values in (("camera_matrix", self.k), ("rectification_matrix", self.r), ("projection_matrix", self.p)):
            rows, columns = _MATRICES[key]
            content[key] = {"rows": rows, "cols": columns, "data": list(values)}
        content["distortion_model"] = self.model
        content["distortion_coefficients"] = {"rows": 1, "cols": len(self.d), "data": list(self.d)}
        # No part of the format: other programs pass over them.
        content |= {"focal_sigma": self.focal_sigma, "axis_sigma_deg": self.axis_sigma}
        return sealed.write(path, content, self.provenance)

    def require_for(self, serial: str | None, robot: str, max_age: float) -> None:
        """Raise ConfigError for a calibration of another camera or robot, or one older than ``max_age`` days (0: any).

        ``serial``: None: not asked; empty: the camera's is not known, so none is of it. A calibration without a
        provenance says nothing of that and passes.
        """
        if self.provenance is not None:
            self.provenance.require_for(f"calibration of {self.name}", serial, robot, max_age)

    def require_size(self, width: int, height: int) -> None:
        """Raise ConfigError unless the calibration is for images of this size."""
        mine = f"{self.width}x{self.height}"
        require(mine == f"{width}x{height}", "calibration size", mine, f"the camera delivers {width}x{height}")


def _number(path: Path, raw: dict, key: str) -> float:
    value = raw.get(key, 0.0)
    require(isinstance(value, (int, float)) and 0.0 <= value < 360.0, f"{path}: {key}", value, "a number from 0 to 360")
    return float(value)


def _matrix(path: Path, raw: dict, key: str, size: int | None) -> tuple[float, ...]:
    try:
        values = np.asarray(raw[key]["data"], dtype=np.float64).ravel()
    except (KeyError, TypeError, ValueError):
        raise ConfigError(f"{path}: {key}", raw.get(key), "expected rows, cols and data") from None
    ok = bool(np.isfinite(values).all()) and (size is None or len(values) == size)
    require(ok, f"{path}: {key}", values.tolist(), f"expected {size if size else 'only'} finite numbers")
    return tuple(float(value) for value in values)
