"""Several arms that share a workspace: who stands where, and how close they may come to each other."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.core.robot import RobotSpec

FloatArray = NDArray[np.float64]
SEPARATOR = "/"  # between an arm's name and that of its joint or link
_ARM, _CELL = {"robot", "position", "yaw"}, {"name", "margin", "arms"}


@dataclass(frozen=True)
class Arm:
    """One arm: ``position`` (3,) [m] and ``yaw`` [rad] of its base in the cell's frame."""

    name: str
    spec: RobotSpec
    position: FloatArray
    yaw: float

    @property
    def rotation(self) -> FloatArray:
        """From the base frame to the cell's, (3, 3)."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])

    def to_base(self, point: FloatArray) -> FloatArray:
        """A point (3,) [m] of the cell's frame in the base frame."""
        return self.rotation.T @ (point - self.position)

    def to_cell(self, point: FloatArray) -> FloatArray:
        """A point (3,) [m] of the base frame in the cell's frame."""
        return self.rotation @ point + self.position


@dataclass(frozen=True)
class Cell:
    """Immutable description. The order of ``arms`` is that of chunks, states and rows everywhere.

    Attributes:
        name: equal to its folder.
        arms: two or more; each keeps its own limits, in its own base frame.
        margin: least distance between links of different arms [m].
    """

    name: str
    arms: tuple[Arm, ...]
    margin: float

    @classmethod
    def load(cls, folder: Path, robot_dir: Callable[[str], Path]) -> "Cell":
        """Read ``folder/cell.yaml`` and the robots that it names; ``robot_dir``: where they are described.

        Raises:
            ConfigError: naming the field, its value and what is valid.
        """
        path = folder / "cell.yaml"
        try:
            raw = yaml.safe_load(path.read_text())
        except (OSError, yaml.YAMLError) as error:
            raise ConfigError(str(path), " ".join(str(error).split()), "expected a readable YAML file") from None
        fields = set(raw) if isinstance(raw, dict) else set()
        require(fields == _CELL, str(path), sorted(fields), f"expected {', '.join(sorted(_CELL))}")
        arms = raw["arms"]
        require(isinstance(arms, dict) and len(arms) > 1, f"{path}: arms", arms, "expected two arms or more")
        margin = _numbers(f"{path}: margin", raw["margin"], ())
        require(float(margin) > 0, f"{path}: margin", raw["margin"], "expected a distance above 0")
        found = tuple(_arm(path, name, place, robot_dir) for name, place in arms.items())
        return cls(str(raw["name"]), found, float(margin))

    def joined(self) -> RobotSpec:
        """All arms as one robot, for kinematics and the distance between them: n joints in the order of ``arms``.

        Links and joints have the arm's name before theirs. Frames, tool, boxes and the gripper are the first arm's and
        of no use here: these checks are each arm's own.
        """
        first = self.arms[0]
        stacked: dict[str, Any] = {
            name: np.concatenate([getattr(arm.spec, name) for arm in self.arms])
            for name in ("home", "lower", "upper", "velocity", "acceleration", "jerk")
        }
        return replace(
            first.spec,
            name=self.name,
            base_frame=first.name + SEPARATOR + first.spec.base_frame,
            tool_link=first.name + SEPARATOR + first.spec.tool_link,
            joints=tuple(arm.name + SEPARATOR + joint for arm in self.arms for joint in arm.spec.joints),
            gripper_joints=tuple(
                arm.name + SEPARATOR + joint for arm in self.arms for joint in arm.spec.gripper_joints
            ),
            gripper_driver=None,
            obstacles=(),
            self_collision_margin=self.margin,
            **stacked,
        )


def _arm(path: Path, name: str, raw: dict, robot_dir: Callable[[str], Path]) -> Arm:
    field = f"{path}: arms.{name}"
    require(isinstance(raw, dict) and set(raw) == _ARM, field, raw, f"expected {', '.join(sorted(_ARM))}")
    require(SEPARATOR not in name, field, name, f"expected a name without {SEPARATOR}")
    spec = RobotSpec.load(robot_dir(raw["robot"]))
    place = _numbers(f"{field}.position", raw["position"], (3,))
    return Arm(str(name), spec, place, float(_numbers(f"{field}.yaw", raw["yaw"], ())))


def _numbers(field: str, value: object, shape: tuple[int, ...]) -> FloatArray:
    try:
        found = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ConfigError(field, value, "expected numbers") from None
    require(found.shape == shape and bool(np.isfinite(found).all()), field, value, f"expected finite numbers {shape}")
    found.setflags(write=False)
    return found
