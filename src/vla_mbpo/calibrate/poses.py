"""Rigid transforms as 4x4 matrices, and where a robot's tool is."""

import mujoco
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.core.robot import RobotSpec

FloatArray = NDArray[np.float64]


def pose(rotation: Rotation, position: FloatArray) -> FloatArray:
    """(4, 4) of a rotation and a position [m], (3,)."""
    made = np.eye(4)
    made[:3, :3], made[:3, 3] = rotation.as_matrix(), position
    return made


def from_vector(vector: FloatArray) -> FloatArray:
    """(4, 4) of a rotation vector [rad] and a position [m], (6,)."""
    return pose(Rotation.from_rotvec(vector[:3]), vector[3:])


def to_vector(matrix: FloatArray) -> FloatArray:
    """Rotation vector [rad] and position [m], (6,)."""
    return np.r_[Rotation.from_matrix(matrix[:3, :3]).as_rotvec(), matrix[:3, 3]]


def inverse(matrix: FloatArray) -> FloatArray:
    """Of transforms (..., 4, 4)."""
    turned = np.swapaxes(matrix[..., :3, :3], -1, -2)
    made = np.zeros_like(matrix)
    made[..., :3, :3], made[..., 3, 3] = turned, 1.0
    made[..., :3, 3] = -np.einsum("...ij,...j->...i", turned, matrix[..., :3, 3])
    return made


def apart(one: FloatArray, other: FloatArray) -> tuple[float, float]:
    """Angle [deg] and distance [m] between two transforms."""
    angle = Rotation.from_matrix(one[:3, :3].T @ other[:3, :3]).magnitude()
    return float(np.degrees(angle)), float(np.linalg.norm(one[:3, 3] - other[:3, 3]))


def checked(value: object, field: str) -> FloatArray:
    """A rigid transform (4, 4) from outside. ConfigError naming ``field``."""
    try:
        matrix = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ConfigError(field, value, "expected a 4x4 matrix") from None
    valid = matrix.shape == (4, 4) and bool(np.isfinite(matrix).all())
    if valid:
        turn = matrix[:3, :3]
        valid = bool(np.allclose(turn @ turn.T, np.eye(3), atol=1e-3) and np.linalg.det(turn) > 0)
        valid = valid and bool(np.allclose(matrix[3], (0, 0, 0, 1)))
    require(valid, field, matrix.tolist(), "expected a 4x4 rigid transform, metres")
    return pose(Rotation.from_matrix(matrix[:3, :3]), matrix[:3, 3])


class ToolPoses:
    """Forward kinematics of a robot's URDF. One thread."""

    def __init__(self, spec: RobotSpec) -> None:
        """ConfigError: the URDF cannot be loaded, or lacks a link that the spec names."""
        try:
            self._model = mujoco.MjModel.from_xml_path(str(spec.urdf))
        except (ValueError, OSError) as error:
            raise ConfigError("urdf", str(spec.urdf), f"MuJoCo cannot load it: {error}") from error
        self._data = mujoco.MjData(self._model)
        self._columns = [int(self._model.joint(name).qposadr[0]) for name in spec.joints]  # RobotSpec has seen them
        self._spec = spec
        self._tool, self._base = self._link(spec.tool_link), self._link(spec.base_frame)

    def at(self, joints: object) -> FloatArray:
        """Tool pose, base frame, (4, 4), at joint positions (n,) [rad]. ConfigError: not n finite numbers."""
        n = len(self._columns)
        try:
            values = np.asarray(joints, dtype=np.float64)
        except (TypeError, ValueError):
            raise ConfigError("joints", joints, f"expected {n} numbers [rad]") from None
        fits = values.shape == (n,) and bool(np.isfinite(values).all())
        require(
            fits, "joints", values.tolist(), f"expected {n} finite numbers [rad], of {', '.join(self._spec.joints)}"
        )
        self._data.qpos[self._columns] = values
        mujoco.mj_kinematics(self._model, self._data)
        return inverse(self._body(self._base)) @ self._body(self._tool)

    def fixed(self, link: str, other: str) -> FloatArray | None:
        """Pose of ``other`` in ``link``, (4, 4); None if a joint that moves is between them or one is missing."""
        one, two = self._index(link), self._index(other)
        if min(one, two) < 0 or self._model.body_weldid[one] != self._model.body_weldid[two]:
            return None
        self.at(self._spec.home)
        return inverse(self._body(one)) @ self._body(two)

    def _link(self, name: str) -> int:
        body = self._index(name)
        require(body >= 0, "urdf", str(self._spec.urdf), f"has no link {name}")
        return body

    def _index(self, name: str) -> int:
        return int(mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_BODY, name))

    def _body(self, body: int) -> FloatArray:
        made = np.eye(4)
        made[:3, :3], made[:3, 3] = self._data.xmat[body].reshape(3, 3), self._data.xpos[body]
        return made
