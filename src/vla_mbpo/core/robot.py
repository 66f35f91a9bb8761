"""What the stack knows about a robot: joints, limits, workspace. Read from robot.yaml and its URDF."""

import xml.etree.ElementTree as ET
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.core.gripper import GripperDriver

FloatArray = NDArray[np.float64]
LIMITS_SCALE = (0.02, 1.0)  # shares of the limits that somebody may ask for


@dataclass(frozen=True)
class Obstacle:
    """A box that no link may come near: ``lower`` and ``upper`` corner, base frame [m], (3,)."""

    name: str
    lower: FloatArray
    upper: FloatArray


@dataclass(frozen=True)
class RobotSpec:
    """Immutable description of one arm. Joint order is that of ``joints`` everywhere.

    Attributes:
        name: robot name, equal to its folder.
        urdf: path of the URDF.
        base_frame, tool_link: link names.
        joints: arm joint names, n of them.
        home: rest pose [rad], (n,).
        lower, upper: position limits [rad], (n,).
        velocity, acceleration, jerk: limits [rad/s, rad/s^2, rad/s^3], (n,).
        gripper_joints: finger joints; their sum is the opening.
        gripper_range: smallest and largest opening [m].
        gripper_speed: fastest opening or closing [m/s].
        gripper_driver: how the maker's driver speaks of the opening; None: as the finger joints do.
        tool_speed: fastest the tool may move and turn [m/s, rad/s], (2,).
        workspace_lower, workspace_upper: box for the tool, base frame [m], (3,).
        links_lower, links_upper: box for all moving links, base frame [m], (3,).
        obstacles, obstacle_margin: boxes, and the least distance of links from them [m].
        table_height, table_margin: plane no link may go below [m].
        self_collision_margin: least distance between non-adjacent links [m].
        row_period: time between chunk rows [ns].
        horizon: rows per chunk.
        commit_rows: rows already committed when the policy looks.
    """

    name: str
    urdf: Path
    base_frame: str
    tool_link: str
    joints: tuple[str, ...]
    home: FloatArray
    lower: FloatArray
    upper: FloatArray
    velocity: FloatArray
    acceleration: FloatArray
    jerk: FloatArray
    gripper_joints: tuple[str, ...]
    gripper_range: tuple[float, float]
    gripper_speed: float
    workspace_lower: FloatArray
    workspace_upper: FloatArray
    links_lower: FloatArray
    links_upper: FloatArray
    tool_speed: FloatArray
    obstacles: tuple[Obstacle, ...]
    obstacle_margin: float
    table_height: float
    table_margin: float
    self_collision_margin: float
    row_period: int
    horizon: int
    commit_rows: int
    gripper_driver: GripperDriver | None = None

    def check_opening(self, opening: float) -> None:
        """Of the gripper [m]. Raises ValueError outside its range."""
        low, high = self.gripper_range
        if not low - 1e-6 <= opening <= high + 1e-6:
            raise ValueError(f"gripper: {opening!r} is not valid; {low} to {high} m")

    @classmethod
    def load(cls, folder: Path) -> "RobotSpec":
        """Read ``folder/robot.yaml`` and the URDF it names.

        Raises:
            ConfigError: naming the field, its value and what is valid.
        """
        path = folder / "robot.yaml"
        try:
            raw = yaml.safe_load(path.read_text())
        except (OSError, yaml.YAMLError) as error:
            raise ConfigError(str(path), " ".join(str(error).split()), "expected a readable YAML file") from error
        require(isinstance(raw, dict), str(path), type(raw).__name__, "expected a mapping")
        missing = [key for key in REQUIRED if key not in raw]
        require(not missing, f"{path}: {', '.join(missing)}", None, f"required fields: {', '.join(REQUIRED)}")
        joints = tuple(raw["joints"])
        limits = _urdf_limits(folder / raw["urdf"], joints)
        n = len(joints)
        tight = {key: _vector(raw, key, n) for key in ("lower", "upper", "velocity") if key in raw}
        lower = _tighten("lower", limits[:, 0], tight.get("lower"), -1.0)
        upper = _tighten("upper", limits[:, 1], tight.get("upper"), 1.0)
        velocity = _tighten("velocity", limits[:, 2], tight.get("velocity"), 1.0)
        home = _vector(raw, "home", n)
        inside = bool(np.all((home >= lower) & (home <= upper)))
        require(inside, "home", home.tolist(), "must lie inside the position limits")
        box = raw["workspace"]
        reach, speed = _gripper(raw["gripper"], folder / raw["urdf"])
        driver = GripperDriver.read(raw["gripper"]["driver"], reach) if "driver" in raw["gripper"] else None
        return cls(
            name=str(raw["name"]),
            urdf=folder / raw["urdf"],
            base_frame=str(raw["base_frame"]),
            tool_link=str(raw["tool_link"]),
            joints=joints,
            home=home,
            lower=lower,
            upper=upper,
            velocity=velocity,
            acceleration=_positive(raw, "acceleration", n),
            jerk=_positive(raw, "jerk", n),
            gripper_joints=tuple(raw["gripper"]["joints"]),
            gripper_range=reach,
            gripper_speed=speed,
            workspace_lower=_vector(box, "lower", 3),
            workspace_upper=_vector(box, "upper", 3),
            links_lower=_vector(raw["links"], "lower", 3),
            links_upper=_vector(raw["links"], "upper", 3),
            tool_speed=_positive(raw, "tool_speed", 2),
            obstacles=tuple(
                Obstacle(name, _vector(one, "lower", 3), _vector(one, "upper", 3))
                for name, one in raw["obstacles"]["boxes"].items()
            ),
            obstacle_margin=float(raw["obstacles"]["margin"]),
            table_height=float(raw["table"]["height"]),
            table_margin=float(raw["table"]["margin"]),
            self_collision_margin=float(raw["self_collision_margin"]),
            row_period=round(float(raw["row_period"]) * 1e9),
            horizon=int(raw["horizon"]),
            commit_rows=int(raw["commit_rows"]),
            gripper_driver=driver,
        )

    def scaled(self, share: float) -> "RobotSpec":
        """The same robot with this share of its limits of speed and acceleration, joints, tool and gripper.

        Positions, volumes, margins and jerk stay. With both scaled alike, a stop takes as long as before and a shorter
        way. Raises ConfigError: ``share`` would not lower them.
        """
        low, high = LIMITS_SCALE
        require(low <= share <= high, "limits_scale", share, f"expected a number from {low} to {high}")
        slow = {name: getattr(self, name) * share for name in ("velocity", "acceleration", "tool_speed")}
        for array in slow.values():
            array.setflags(write=False)
        return replace(self, **slow, gripper_speed=self.gripper_speed * share)


REQUIRED = (
    "name", "urdf", "base_frame", "tool_link", "joints", "home", "acceleration", "jerk", "gripper", "workspace",
    "links", "tool_speed", "obstacles", "table", "self_collision_margin", "row_period", "horizon", "commit_rows",
)  # fmt: skip


def _vector(raw: dict, key: str, n: int) -> FloatArray:
    """A finite read-only vector of length n."""
    try:
        value = np.asarray(raw[key], dtype=np.float64)
    except (TypeError, ValueError):
        raise ConfigError(key, raw[key], f"expected {n} numbers") from None
    require(value.shape == (n,), key, raw[key], f"expected {n} numbers")
    require(bool(np.isfinite(value).all()), key, raw[key], "expected finite numbers")
    value.setflags(write=False)
    return value


def _positive(raw: dict, key: str, n: int) -> FloatArray:
    value = _vector(raw, key, n)
    require(bool((value > 0).all()), key, raw[key], "expected numbers above 0")
    return value


def _tighten(key: str, urdf: FloatArray, own: FloatArray | None, sign: float) -> FloatArray:
    """The robot's own limit where given; it may only be tighter than the URDF's."""
    if own is None:
        return urdf
    require(bool(np.all(sign * own <= sign * urdf)), key, own.tolist(), f"must not exceed the URDF's {urdf.tolist()}")
    return own


def _gripper(raw: dict, urdf: Path) -> tuple[tuple[float, float], float]:
    """Range of the opening [m] and its speed [m/s]: not beyond what the finger joints of the URDF give together."""
    fingers = _urdf_limits(urdf, tuple(raw["joints"]))
    low, high = (float(x) for x in _vector(raw, "range", 2))
    text = f"expected two numbers, rising, within the URDF's {fingers[:, 0].sum():g} to {fingers[:, 1].sum():g}"
    inside = fingers[:, 0].sum() - 1e-9 <= low < high <= fingers[:, 1].sum() + 1e-9
    require(bool(inside), "gripper.range", raw["range"], text)
    speed, most = float(raw["speed"]), float(fingers[:, 2].sum())
    require(
        0.0 < speed <= most + 1e-9, "gripper.speed", speed, f"expected a number above 0, at most the URDF's {most:g}"
    )
    return (low, high), speed


def _urdf_limits(path: Path, joints: tuple[str, ...]) -> FloatArray:
    """Lower, upper and velocity limit of each joint, shape (n, 3)."""
    try:
        root = ET.parse(path).getroot()
    except (OSError, ET.ParseError) as error:
        raise ConfigError("urdf", str(path), f"cannot be read: {error}") from error
    found = {j.get("name"): j.find("limit") for j in root.findall("joint")}
    rows = []
    for name in joints:
        limit = found.get(name)
        if limit is None:
            raise ConfigError("joints", name, f"joints with limits in the URDF: {', '.join(k for k in found if k)}")
        rows.append([float(limit.get(key, "nan")) for key in ("lower", "upper", "velocity")])
    table = np.array(rows, dtype=np.float64)
    require(bool(np.isfinite(table).all()), "urdf", str(path), "every arm joint needs lower, upper and velocity limits")
    table.setflags(write=False)
    return table
