"""Markers of what RViz shows: ribbons, words, a bar for the risk, and the volumes that the gate checks against."""

import math
from collections.abc import Iterable, Sequence

import mujoco
import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Point, Vector3
from numpy.typing import NDArray
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray
from vla_mbpo_msgs.msg import FailureRisk, GateState

from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.verdict import Verdict
from vla_mbpo.gate.kinematics import OBSTACLE, Kinematics
from vla_mbpo.monitor.ribbons import Ribbon
from vla_mbpo.nodes.convert import MODES, alarm_text

FloatArray = NDArray[np.float64]
Colour = tuple[float, float, float]

GREEN, YELLOW, RED, GREY, BLUE, WHITE = (
    (0.0, 0.62, 0.45), (0.95, 0.77, 0.0), (0.84, 0.15, 0.12), (0.55, 0.55, 0.55), (0.35, 0.70, 0.90), (0.9, 0.9, 0.9),
)  # fmt: skip
# Told apart by people who do not see red and green, too: the chosen one is also wider, refused ones fainter.
VERDICTS = {Verdict.SAFE: GREEN, Verdict.RISKY: YELLOW, Verdict.UNSAFE: RED, Verdict.UNKNOWN: GREY}
MODE_COLOURS = {
    GateState.HOLD: YELLOW, GateState.AUTONOMOUS: GREEN, GateState.TELEOP: BLUE, GateState.ESTOP: RED,
}  # fmt: skip
BOLD, THIN, EDGE = 0.008, 0.003, 0.004  # m
LETTER, SMALL, LINE = 0.05, 0.022, 0.07  # m
WORDS = (0.0, 0.0, 1.0)  # m, base frame: above the arm
BAR, BAR_HEIGHT = (-0.35, 0.0), 0.4  # m: behind the base; the height of the band
LONGEST = 90  # characters of one text
_SOLID = {
    int(mujoco.mjtGeom.mjGEOM_SPHERE): Marker.SPHERE,
    int(mujoco.mjtGeom.mjGEOM_CYLINDER): Marker.CYLINDER,
    int(mujoco.mjtGeom.mjGEOM_BOX): Marker.CUBE,
}


class Sheet:
    """What is shown now. What was shown before and is not any more is deleted by name."""

    def __init__(self, frame: str, lifetime: float) -> None:
        """``frame``: of all markers that name none; ``lifetime`` [s]: after which a marker goes by itself; 0: never."""
        seconds = math.floor(lifetime)
        self._frame, self._shown = frame, set[tuple[str, int]]()
        self._lifetime = Duration(sec=seconds, nanosec=int(1e9 * (lifetime - seconds)))
        self._first = True

    def message(self, markers: Iterable[Marker], stamp: Time) -> MarkerArray:
        """The markers, and the deletion of those of the message before that are not among them.

        The first one deletes all that somebody else has left on the topic.
        """
        drawn = list(markers)
        now = {(marker.ns, marker.id) for marker in drawn}
        gone = [Marker(ns=ns, id=number, action=Marker.DELETE) for ns, number in sorted(self._shown - now)]
        first = [Marker(action=Marker.DELETEALL)] if self._first else []
        self._shown, self._first = now, False
        for marker in (*first, *gone, *drawn):
            marker.header.stamp, marker.lifetime = stamp, self._lifetime
            marker.header.frame_id = marker.header.frame_id or self._frame
        return MarkerArray(markers=[*first, *gone, *drawn])


def ribbons(candidates: Sequence[Ribbon]) -> list[Marker]:
    """A line per candidate in the colour of its verdict, the chosen one bold, and why the others were refused."""
    found = []
    for one in candidates:
        colour = BLUE if one.chosen and one.verdict == Verdict.UNKNOWN else VERDICTS[one.verdict]
        if one.refused and one.verdict == Verdict.UNKNOWN:
            colour = RED
        line = _marker("candidates", one.candidate, Marker.LINE_STRIP, colour, 0.5 if one.refused else 1.0)
        line.scale.x = BOLD if one.chosen else THIN
        line.points = [_point(row) for row in (one.way if len(one.way) > 1 else np.repeat(one.way, 2, 0))]
        found.append(line)
        if one.refused:
            words = _words("refused", one.candidate, f"{one.candidate}: {one.refused}", one.way[-1], colour, SMALL)
            words.pose.position.z += SMALL * (1 + one.candidate)  # ends lie close together
            found.append(words)
    return found


def state_words(gate: GateState | None, instruction: str) -> list[Marker]:
    """What is asked for, and the gate's mode and reason; None: it is silent."""
    lines = [_words("instruction", 0, instruction or "no instruction", WORDS, WHITE, LETTER)]
    text, colour = "gate silent", RED
    if gate is not None:
        off = f" (not vetting: {', '.join(gate.vetting_off)})" if gate.vetting_off else ""
        mode = MODES.get(gate.mode, f"mode {gate.mode}")
        text, colour = f"{mode}: {gate.reason}{off}", MODE_COLOURS.get(gate.mode, RED)
    return [*lines, _words("gate", 0, text, (*WORDS[:2], WORDS[2] + LINE), colour, LETTER)]


def risk(message: FailureRisk) -> list[Marker]:
    """What the vote has reached and its band: in words, and as a bar with a plate where the band is."""
    text, colour = f"risk {message.score:.1f} of {message.band:.1f}", GREEN
    if not message.known:
        text, colour = f"risk unknown: {message.reason}", GREY
    elif message.alarm:
        text, colour = f"ALARM: {alarm_text(message)}", RED
    found = [_words("risk", 0, text, (*WORDS[:2], WORDS[2] + 2 * LINE), colour, LETTER)]
    share = message.score / message.band if message.band > 0 else math.nan
    if message.known and math.isfinite(share):
        height = BAR_HEIGHT * min(max(share, 0.01), 1.5)
        bar = _box("risk", 1, (*BAR, height / 2), (0.04, 0.04, height), colour, 0.8)
        found += [bar, _box("risk", 2, (*BAR, BAR_HEIGHT), (0.1, 0.1, 0.004), WHITE, 0.8)]
    return found


def volumes(spec: RobotSpec, kinematics: Kinematics) -> list[Marker]:
    """The boxes for tool and links, the table's plane, declared obstacles, and the links' shapes as the gate has them.

    Shapes are in their links' frames and move with them.
    """
    low, high = spec.links_lower, spec.links_upper
    margin = spec.table_height + spec.table_margin
    plane = ((low[0] + high[0]) / 2, (low[1] + high[1]) / 2, margin - 0.001)
    found = [
        _edges("workspace", 0, spec.workspace_lower, spec.workspace_upper, BLUE),
        _words("workspace", 1, "box of the tool", spec.workspace_upper, BLUE, SMALL),
        _edges("workspace", 2, low, high, GREY),
        _words("workspace", 3, "box of all links", high, GREY, SMALL),
        _box("table", 0, plane, (high[0] - low[0], high[1] - low[1], 0.002), GREY, 0.25),
    ]
    for i, obstacle in enumerate(spec.obstacles):
        centre, size = (obstacle.lower + obstacle.upper) / 2, obstacle.upper - obstacle.lower
        found.append(_box("obstacles", 3 * i, centre, size, RED, 0.4))
        found.append(_box("obstacles", 3 * i + 1, centre, size + 2 * spec.obstacle_margin, RED, 0.15))
        found.append(_words("obstacles", 3 * i + 2, obstacle.name, obstacle.upper, RED, SMALL))
    return found + _shapes(kinematics.model)


def _shapes(model: mujoco.MjModel) -> list[Marker]:
    found = []
    for geom in range(model.ngeom):
        link = model.body(int(model.geom_bodyid[geom])).name
        if link.startswith(OBSTACLE) or link == "world":
            continue
        kind, size, centre = int(model.geom_type[geom]), model.geom_size[geom], model.geom_pos[geom]
        if kind == int(mujoco.mjtGeom.mjGEOM_SPHERE):
            extent = np.full(3, 2 * size[0])
        elif kind == int(mujoco.mjtGeom.mjGEOM_CYLINDER):
            extent = 2 * np.array([size[0], size[0], size[1]])
        else:  # of meshes and the like the gate bounds the box as well
            kind, extent = int(mujoco.mjtGeom.mjGEOM_BOX), 2 * model.geom_aabb[geom, 3:]
        one = _marker("collision", geom, _SOLID[kind], BLUE, 0.35)
        one.header.frame_id, one.frame_locked = link, True
        one.scale = _vector(extent)
        turn = model.geom_quat[geom]
        shift = np.zeros(3)
        if kind == int(mujoco.mjtGeom.mjGEOM_BOX):
            mujoco.mju_rotVecQuat(shift, model.geom_aabb[geom, :3], turn)
        one.pose.position = _point(centre + shift)
        orientation = one.pose.orientation
        orientation.w, orientation.x, orientation.y, orientation.z = (float(value) for value in turn)
        found.append(one)
    return found


def _marker(ns: str, number: int, kind: int, colour: Colour, opacity: float = 1.0) -> Marker:
    marker = Marker(ns=ns, id=int(number), type=kind, action=Marker.ADD)
    marker.pose.orientation.w = 1.0
    marker.color = ColorRGBA(r=colour[0], g=colour[1], b=colour[2], a=opacity)
    return marker


def _words(ns: str, number: int, text: str, where: Sequence[float] | FloatArray, colour: Colour, size: float) -> Marker:
    marker = _marker(ns, number, Marker.TEXT_VIEW_FACING, colour)
    marker.text = text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
    marker.pose.position, marker.scale.z = _point(where), size
    return marker


def _box(
    ns: str, number: int, where: Sequence[float] | FloatArray, size: Sequence[float] | FloatArray, colour: Colour,
    opacity: float,
) -> Marker:  # fmt: skip
    marker = _marker(ns, number, Marker.CUBE, colour, opacity)
    marker.pose.position, marker.scale = _point(where), _vector(size)
    return marker


def _edges(ns: str, number: int, low: FloatArray, high: FloatArray, colour: Colour) -> Marker:
    """The twelve edges of a box."""
    marker = _marker(ns, number, Marker.LINE_LIST, colour)
    marker.scale.x = EDGE
    corners = np.array([[(low, high)[i >> axis & 1][axis] for axis in range(3)] for i in range(8)])
    pairs = [(i, i | 1 << axis) for i in range(8) for axis in range(3) if not i >> axis & 1]
    marker.points = [_point(corners[end]) for pair in pairs for end in pair]
    return marker


def _point(where: Sequence[float] | FloatArray) -> Point:
    return Point(x=float(where[0]), y=float(where[1]), z=float(where[2]))


def _vector(size: Sequence[float] | FloatArray) -> Vector3:
    return Vector3(x=float(size[0]), y=float(size[1]), z=float(size[2]))
