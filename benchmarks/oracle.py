"""An independent judge of contacts: MuJoCo's own collision pipeline on a model that shares no code with the gate.

The URDF is read here, link by link, and not by MuJoCo's reader as in ``vla_mbpo.gate.kinematics``; table and obstacles
are bodies of the model; broad phase, pair selection and contacts are MuJoCo's. What the two have in common is the URDF
and MuJoCo's narrow phase, which finds the distance of two primitive shapes.

Pairs that are no contact, and why:

- a link and its parent: they are joined there, and their shapes overlap by construction. This covers hand and fingers,
  which slide in the hand, and hand and flange, which are one rigid body;
- the two fingers: they are made to meet, and the gripper limits its own travel;
- the base link with the table and with obstacles: it is bolted down, so no motion of the arm can change it.

Every other pair counts, also link 6 and hand, which have one arm joint between them but are not parent and child, and
links 5 and 7 (``CLOSE``), which the gate leaves out because they are close in nearly every pose. Those are 2.7 mm apart
whatever the joints do: should they touch, it is a contact, but their distance says nothing about the margin.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.robot import RobotSpec

FloatArray = NDArray[np.float64]
TABLE, OBSTACLE = "table", "obstacle/"
CLOSE = ("panda_link5", "panda_link7")
CHECKS = ("table", "self_collision", "obstacles")  # kinds of contact, by the name of the check that is to prevent them
_KIND = {
    "box": mujoco.mjtGeom.mjGEOM_BOX,
    "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
    "sphere": mujoco.mjtGeom.mjGEOM_SPHERE,
}
_JOINT = {
    "revolute": mujoco.mjtJoint.mjJNT_HINGE,
    "continuous": mujoco.mjtJoint.mjJNT_HINGE,
    "prismatic": mujoco.mjtJoint.mjJNT_SLIDE,
}


@dataclass(frozen=True)
class Contact:
    """Closest contact of one kind: signed distance [m], below 0: penetration; and the two bodies."""

    distance: float
    pair: tuple[str, str]


class Oracle:
    """Contacts of the arm at a pose. One thread."""

    def __init__(self, spec: RobotSpec, reach: float = 0.0) -> None:
        """``reach``: pairs up to this distance are reported too [m]; 0: only those that overlap."""
        self._spec = spec
        world = _build(spec, reach)
        self.model = world.compile()
        self.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_FILTERPARENT  # exclusions are those above, no others
        self._data = mujoco.MjData(self.model)
        self._columns = self._addresses(spec.joints)
        opening = spec.gripper_range[1] / len(spec.gripper_joints)
        self._data.qpos[self._addresses(spec.gripper_joints)] = opening  # fully open: the widest shape of the hand
        self._names = [self.model.body(b).name for b in self.model.geom_bodyid]
        self._tool = self.model.body(spec.tool_link).id

    def contacts(self, pose: FloatArray) -> dict[str, Contact]:
        """Closest contact of each kind at ``pose`` [rad], (n,); kinds without a contact are missing."""
        found: dict[str, Contact] = {}
        for kind, contact in self.pairs(pose):
            if kind not in found or contact.distance < found[kind].distance:
                found[kind] = contact
        return found

    def pairs(self, pose: FloatArray) -> Iterable[tuple[str, Contact]]:
        """Every contact of two geometries at ``pose``, with its kind."""
        self._data.qpos[self._columns] = pose
        mujoco.mj_forward(self.model, self._data)
        contacts = self._data.contact
        for (first, second), distance in zip(contacts.geom, contacts.dist, strict=True):
            pair = (min(self._names[first], self._names[second]), max(self._names[first], self._names[second]))
            if pair == CLOSE and distance >= 0:
                continue
            yield kind_of(pair), Contact(float(distance), pair)

    def tool(self, pose: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Position [m] (3,) and rotation (3, 3) of the tool at ``pose``, base frame."""
        data = self.place(pose)
        return data.xpos[self._tool].copy(), data.xmat[self._tool].reshape(3, 3).copy()

    def place(self, pose: FloatArray) -> mujoco.MjData:
        """Shapes at ``pose``; the next call changes them."""
        self._data.qpos[self._columns] = pose
        mujoco.mj_kinematics(self.model, self._data)
        return self._data

    def _addresses(self, joints: tuple[str, ...]) -> NDArray[np.int64]:
        return np.array([self.model.joint(name).qposadr[0] for name in joints])


def margin(spec: RobotSpec, kind: str) -> float:
    """Least distance [m] that the check called ``kind`` keeps."""
    return {
        "table": spec.table_margin,
        "self_collision": spec.self_collision_margin,
        "obstacles": spec.obstacle_margin,
    }[kind]


def kind_of(pair: tuple[str, ...]) -> str:
    """Name of the check that is to prevent a contact of two bodies."""
    if TABLE in pair:
        return "table"
    return "obstacles" if any(name.startswith(OBSTACLE) for name in pair) else "self_collision"


def _build(spec: RobotSpec, reach: float) -> mujoco.MjSpec:
    """The arm, the table plane and a box for each obstacle."""
    world = mujoco.MjSpec()
    world.compiler.degree = False
    fingers = _add_arm(world, spec.urdf)
    world.add_exclude(bodyname1=fingers[0], bodyname2=fingers[1])
    table = world.worldbody.add_body(name=TABLE, pos=[0, 0, spec.table_height])
    table.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[5, 5, 0.1])
    for obstacle in spec.obstacles:
        body = world.worldbody.add_body(name=OBSTACLE + obstacle.name, pos=(obstacle.lower + obstacle.upper) / 2)
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=(obstacle.upper - obstacle.lower) / 2)
    world.add_exclude(bodyname1=spec.base_frame, bodyname2=TABLE)
    for obstacle in spec.obstacles:
        world.add_exclude(bodyname1=spec.base_frame, bodyname2=OBSTACLE + obstacle.name)
    for geom in world.geoms:
        geom.margin = reach / 2  # the margins of two geometries add up
        geom.contype = geom.conaffinity = 1
    return world


def _add_arm(world: mujoco.MjSpec, urdf: Path) -> list[str]:
    """Add links, joints and collision shapes of the URDF; exclude parent and child. Returns the sliding links."""
    root = ET.parse(urdf).getroot()
    links = {link.get("name"): link for link in root.findall("link")}
    joints = {joint.find("child").get("link"): joint for joint in root.findall("joint")}  # type: ignore[union-attr]
    bodies, sliding = {}, []

    def add(name: str):
        if name in bodies:
            return bodies[name]
        joint = joints.get(name)
        if joint is None:
            body = world.worldbody.add_body(name=name)
        else:
            parent = joint.find("parent").get("link")
            position, quat = _frame(joint.find("origin"))
            body = add(parent).add_body(name=name, pos=position, quat=quat)
            world.add_exclude(bodyname1=parent, bodyname2=name)
            if joint.get("type") in _JOINT:
                axis = _numbers(joint.find("axis").get("xyz"))
                body.add_joint(name=joint.get("name"), type=_JOINT[joint.get("type")], axis=axis)
            if joint.get("type") == "prismatic":
                sliding.append(name)
        bodies[name] = body
        for collision in links[name].findall("collision"):
            _add_shape(body, collision)
        return body

    for name in links:
        add(name)
    return sliding


def _add_shape(body: mujoco.MjsBody, collision: ET.Element) -> None:
    position, quat = _frame(collision.find("origin"))
    shape = collision.find("geometry")[0]  # type: ignore[index]
    if shape.tag == "box":
        size = 0.5 * _numbers(shape.get("size"))
    else:  # a mesh is not supported: KeyError below
        half = 0.5 * float(shape.get("length", 0.0))
        size = np.array([float(shape.get("radius", "nan")), half, 0.0])
    body.add_geom(type=_KIND[shape.tag], size=size, pos=position, quat=quat)


def _frame(origin: ET.Element | None) -> tuple[FloatArray, FloatArray]:
    """Position and quaternion of a URDF origin: roll, pitch, yaw about fixed axes."""
    if origin is None:
        return np.zeros(3), np.array([1.0, 0.0, 0.0, 0.0])
    quat = np.array([1.0, 0.0, 0.0, 0.0])
    for axis, angle in enumerate(_numbers(origin.get("rpy", "0 0 0"))):
        turn, product = np.zeros(4), np.zeros(4)
        mujoco.mju_axisAngle2Quat(turn, np.eye(3)[axis], float(angle))
        mujoco.mju_mulQuat(product, turn, quat)
        quat = product
    return _numbers(origin.get("xyz", "0 0 0")), quat


def _numbers(text: str | None) -> FloatArray:
    return np.array([float(word) for word in (text or "").split()])
