"""Transforms between the links of a URDF, as the ROS package robot_state_publisher makes them of joint states."""

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

FloatArray = NDArray[np.float64]
TURNING, SLIDING = ("revolute", "continuous"), ("prismatic",)


@dataclass(frozen=True)
class Transform:
    """Where link ``child`` is in link ``parent``: translation (3,) [m], quaternion (4,) x, y, z, w."""

    parent: str
    child: str
    translation: FloatArray
    rotation: FloatArray


@dataclass(frozen=True)
class _Joint:
    parent: str
    child: str
    kind: str
    origin: FloatArray
    turn: Rotation
    axis: FloatArray
    follows: str  # the joint whose position counts: its own, or the one that it mimics
    multiplier: float
    offset: float

    def at(self, position: float) -> Transform:
        """With the joint at ``position`` [rad or m]."""
        value = self.multiplier * position + self.offset
        origin, turn = self.origin, self.turn
        if self.kind in TURNING:
            turn = turn * Rotation.from_rotvec(value * self.axis)
        elif self.kind in SLIDING:
            origin = origin + turn.apply(value * self.axis)
        return Transform(self.parent, self.child, origin, turn.as_quat())


class Tree:
    """The joints of a URDF. Any thread.

    Attributes:
        fixed: transforms that never change.
    """

    def __init__(self, urdf: Path) -> None:
        """``urdf``: file that core.robot has read before, so that it is one."""
        joints = {joint.get("name", ""): _joint(joint) for joint in ET.parse(urdf).getroot().findall("joint")}
        moving = TURNING + SLIDING
        self.fixed = [joint.at(0.0) for joint in joints.values() if joint.kind not in moving]
        self._moving = [joint for joint in joints.values() if joint.kind in moving]

    def moved(self, positions: Mapping[str, float]) -> list[Transform]:
        """Transforms of the joints that ``positions`` [rad, m] name, and of those that mimic them."""
        known = [joint for joint in self._moving if np.isfinite(positions.get(joint.follows, np.nan))]
        return [joint.at(positions[joint.follows]) for joint in known]


def _joint(element: ET.Element) -> _Joint:
    def numbers(tag: str, name: str, default: str) -> FloatArray:
        found = element.find(tag)
        return np.array((default if found is None else found.get(name, default)).split(), float)

    mimic = element.find("mimic")
    said = {} if mimic is None else mimic.attrib
    parent, child = (element.find(tag) for tag in ("parent", "child"))
    assert parent is not None and child is not None
    axis = numbers("axis", "xyz", "1 0 0")
    return _Joint(
        parent.get("link", ""), child.get("link", ""), element.get("type", ""), numbers("origin", "xyz", "0 0 0"),
        Rotation.from_euler("xyz", numbers("origin", "rpy", "0 0 0")), axis / np.linalg.norm(axis),
        said.get("joint", element.get("name", "")), float(said.get("multiplier", 1.0)), float(said.get("offset", 0.0)),
    )  # fmt: skip
