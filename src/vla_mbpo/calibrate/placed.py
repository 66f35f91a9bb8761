"""Where a camera is on a robot, on disk."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from vla_mbpo.calibrate import sealed
from vla_mbpo.calibrate.poses import FloatArray, pose
from vla_mbpo.calibrate.sealed import Provenance
from vla_mbpo.core.errors import ConfigError, require

KIND = "hand_eye"
EYES = ("in_hand", "to_hand")
_AXES, _QUATERNION = ("x", "y", "z"), ("x", "y", "z", "w")


@dataclass(frozen=True)
class Placed:
    """A camera's place.

    Attributes:
        eye: in_hand: the camera is on the tool; to_hand: it looks at the robot.
        parent: frame of the tool or of the base.
        child: the camera's optical frame: z forward, x right, y down (REP-103).
        camera: pose of child in parent, (4, 4) [m].
        sigma: standard errors of rotation [deg] and position [m].
        intrinsics: SHA-256 of the intrinsics that it was found with; empty where those were of another program.
        provenance: None for a file that names none.
    """

    eye: str
    parent: str
    child: str
    camera: FloatArray
    sigma: tuple[float, float]
    intrinsics: str
    provenance: Provenance | None

    def write(self, path: Path) -> Provenance:
        """Write it, whole or not at all. ConfigError: it has no provenance, or cannot be written."""
        if self.provenance is None:
            raise ConfigError("provenance", None, "where the calibration comes from")
        turn = Rotation.from_matrix(self.camera[:3, :3]).as_quat(canonical=True)
        content = {
            "kind": KIND,
            "eye": self.eye,
            "parent_frame": self.parent,
            "child_frame": self.child,
            "translation": dict(zip(_AXES, self.camera[:3, 3].tolist(), strict=True)),
            "rotation": dict(zip(_QUATERNION, turn.tolist(), strict=True)),
            "sigma": {"rotation_deg": self.sigma[0], "translation_m": self.sigma[1]},
            "intrinsics_sha256": self.intrinsics,
        }
        return sealed.write(path, content, self.provenance)

    @classmethod
    def load(cls, path: Path) -> "Placed":
        """Read. ConfigError naming the field that is wrong, or that the file was changed."""
        raw, provenance = sealed.read(path)
        require(raw.get("kind") == KIND, f"{path}: kind", raw.get("kind"), KIND)
        require(raw.get("eye") in EYES, f"{path}: eye", raw.get("eye"), " or ".join(EYES))
        for key in ("parent_frame", "child_frame", "intrinsics_sha256"):
            require(isinstance(raw.get(key), str), f"{path}: {key}", raw.get(key), "a text")
        place = _numbers(path, raw, "translation", _AXES)
        turn = _numbers(path, raw, "rotation", _QUATERNION)
        length = float(np.linalg.norm(turn))
        require(abs(length - 1.0) < 1e-3, f"{path}: rotation", turn.tolist(), "a quaternion of length 1")
        sigma = _numbers(path, raw, "sigma", ("rotation_deg", "translation_m"))
        return cls(
            eye=raw["eye"],
            parent=raw["parent_frame"],
            child=raw["child_frame"],
            camera=pose(Rotation.from_quat(turn), place),
            sigma=(float(sigma[0]), float(sigma[1])),
            intrinsics=raw["intrinsics_sha256"],
            provenance=provenance,
        )

    def require_intrinsics(self, path: Path, provenance: Provenance | None) -> None:
        """Raise ConfigError unless ``provenance`` is that of the intrinsics that it was found with."""
        given = provenance.sha256 if provenance is not None else ""
        valid = "those that the hand-eye calibration was made with: make it anew"
        require(self.intrinsics == given, f"{path}: intrinsics", given or "without a hash", valid)


def _numbers(path: Path, raw: dict[str, Any], key: str, names: tuple[str, ...]) -> FloatArray:
    try:
        values = np.array([raw[key][name] for name in names], dtype=np.float64)
    except (KeyError, TypeError, ValueError):
        raise ConfigError(f"{path}: {key}", raw.get(key), f"numbers {', '.join(names)}") from None
    require(bool(np.isfinite(values).all()), f"{path}: {key}", values.tolist(), "finite numbers")
    return values
