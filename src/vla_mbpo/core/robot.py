"""What the stack knows about a robot: joints, limits, workspace. Read from robot.yaml and its URDF."""

import xml.etree.ElementTree as ET
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.core.gripper import GripperDriver
from vla_mbpo.core.section import Section

FloatArray = NDArray[np.float64]
FILE = "robot.yaml"
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
        name: robot name; that of its folder, unless somebody has copied it.
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
        path = folder / FILE
        try:
            raw = yaml.safe_load(path.read_text())
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise ConfigError(str(path), " ".join(str(error).split()), "expected a readable YAML file") from error
        top = Section(raw, FILE)
        urdf = folder / top.take("urdf", str, needed=True)
        found = cls(
            name=top.take("name", str, needed=True),
            urdf=urdf,
            base_frame=top.take("base_frame", str, needed=True),
            tool_link=top.take("tool_link", str, needed=True),
            tool_speed=_positive(top, "tool_speed", 2),
            self_collision_margin=_margin(top, "self_collision_margin"),
            row_period=round(top.number("row_period", 0.001, 10.0) * 1e9),
            horizon=top.whole("horizon", 1, 1000),
            commit_rows=top.whole("commit_rows", 0, 1000),
            **_arm(top, urdf),
            **_gripper(top.section("gripper"), urdf),
            **_volumes(top),
        )
        top.end()
        return found

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


def _arm(top: Section, urdf: Path) -> dict[str, Any]:
    """Joints and their limits."""
    joints = _names(top, "joints")
    limits, n = _urdf_limits(urdf, joints), len(joints)
    tight = {key: _vector(top, key, n) if key in top else None for key in ("lower", "upper", "velocity")}
    lower = _tighten("lower", limits[:, 0], tight["lower"], -1.0)
    upper = _tighten("upper", limits[:, 1], tight["upper"], 1.0)
    home = _vector(top, "home", n)
    inside = bool(np.all((home >= lower) & (home <= upper)))
    require(inside, f"{FILE}.home", home.tolist(), "must lie inside the position limits")
    return {
        "joints": joints,
        "home": home,
        "lower": lower,
        "upper": upper,
        "velocity": _tighten("velocity", limits[:, 2], tight["velocity"], 1.0),
        "acceleration": _positive(top, "acceleration", n),
        "jerk": _positive(top, "jerk", n),
    }


def _gripper(raw: Section, urdf: Path) -> dict[str, Any]:
    """Range of the opening [m] and its speed [m/s]: not beyond what the finger joints of the URDF give together."""
    joints = _names(raw, "joints")
    least, largest, most = _urdf_limits(urdf, joints).sum(axis=0)
    low, high = (float(x) for x in _vector(raw, "range", 2))
    text = f"expected two numbers, rising, within the URDF's {least:g} to {largest:g}"
    require(bool(least - 1e-9 <= low < high <= largest + 1e-9), f"{raw.where}.range", [low, high], text)
    speed = raw.number("speed", 0.0, float(most) + 1e-9)
    require(speed > 0.0, f"{raw.where}.speed", speed, f"expected a number above 0, at most the URDF's {most:g}")
    known = "driver" in raw
    driver = GripperDriver.read(raw.take("driver", dict, needed=True), (low, high)) if known else None
    raw.end()
    return {"gripper_joints": joints, "gripper_range": (low, high), "gripper_speed": speed, "gripper_driver": driver}


def _volumes(top: Section) -> dict[str, Any]:
    """Where tool and links may be."""
    table, obstacles = top.section("table"), top.section("obstacles")
    boxes = obstacles.section("boxes")
    found: dict[str, Any] = {
        "obstacles": tuple(Obstacle(name, *_box(Section(raw, f"{boxes.where}.{name}"))) for name, raw in boxes.items()),
        "obstacle_margin": _margin(obstacles, "margin"),
        "table_height": table.number("height", -100.0, 100.0),
        "table_margin": _margin(table, "margin"),
    }
    for name in ("workspace", "links"):
        found[f"{name}_lower"], found[f"{name}_upper"] = _box(top.section(name))
    table.end()
    obstacles.end()
    return found


def _box(raw: Section) -> tuple[FloatArray, FloatArray]:
    """Lower and upper corner [m], (3,) each."""
    lower, upper = _vector(raw, "lower", 3), _vector(raw, "upper", 3)
    raw.end()
    return lower, upper


def _margin(raw: Section, key: str) -> float:
    return raw.number(key, 0.0, 10.0)


def _names(raw: Section, key: str) -> tuple[str, ...]:
    names = raw.take(key, list, needed=True)
    fit = bool(names) and all(isinstance(name, str) for name in names)
    require(fit, f"{raw.where}.{key}", names, "expected a list of joints' names")
    return tuple(names)


def _vector(raw: Section, key: str, n: int) -> FloatArray:
    """A finite read-only vector of length n."""
    value = raw.array(key, n=n)
    value.setflags(write=False)
    return value


def _positive(raw: Section, key: str, n: int) -> FloatArray:
    value = _vector(raw, key, n)
    require(bool((value > 0).all()), f"{raw.where}.{key}", value.tolist(), "expected numbers above 0")
    return value


def _tighten(key: str, urdf: FloatArray, own: FloatArray | None, sign: float) -> FloatArray:
    """The robot's own limit where given; it may only be tighter than the URDF's."""
    if own is None:
        return urdf
    within = bool(np.all(sign * own <= sign * urdf))
    require(within, f"{FILE}.{key}", own.tolist(), f"must not exceed the URDF's {urdf.tolist()}")
    return own


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
