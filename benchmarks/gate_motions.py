"""What the gate is tried on: poses and random motions, as chunks ready to be vetted."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.oracle import Oracle, margin
from vla_mbpo.core.chunk import ActionChunk, ActionType, JointRows
from vla_mbpo.core.robot import Obstacle, RobotSpec
from vla_mbpo.core.state import RobotState
from vla_mbpo.gate.drive import Drive
from vla_mbpo.gate.gate import Gate

FloatArray = NDArray[np.float64]
BETWEEN = 10  # points of a path per row
NEAR = 0.4  # share of poses drawn around poses in contact ...
NEAR_SPREAD = 0.05  # ... with this standard deviation per joint [rad]
AIMED = 0.75  # share of motions that head for a contact
START_SPREAD = 0.35  # of their start around it, per joint [rad]
GRAZE = 0.06  # of their aim around the first contact on the way, per joint [rad]
PEAK = 0.98  # share of the limits that motions keep to


@dataclass(frozen=True)
class Case:
    """Arguments of Gate.vet, and where the arm comes by if the chunk passes.

    Attributes:
        chunk, state, commanded, now: see Gate.vet.
        straight: joint positions along straight lines from row to row, from the commanded pose on [rad], (m, n).
        curve: what the arm driver makes of the rows, tick by tick, until the arm stands again [rad], (t, n).
    """

    chunk: ActionChunk
    state: RobotState
    commanded: FloatArray
    now: int
    straight: FloatArray
    curve: FloatArray


def obstructed(spec: RobotSpec) -> RobotSpec:
    """The robot among a shelf, a thin post and a lamp."""
    boxes = {
        "shelf": ([0.40, 0.22, 0.30], [0.75, 0.48, 0.33]),
        "post": ([0.44, -0.34, 0.0], [0.48, -0.30, 0.60]),
        "lamp": ([0.25, -0.15, 0.80], [0.60, 0.15, 0.95]),
    }
    return replace(spec, obstacles=tuple(Obstacle(name, *map(np.array, box)) for name, box in boxes.items()))


def make_chunk(spec: RobotSpec, rows: FloatArray, reference: FloatArray, stamp: int = 0) -> ActionChunk:
    """Joint rows as a policy sends them, with the gripper half open."""
    return ActionChunk(
        1, 0, stamp, stamp + spec.horizon * spec.row_period, ActionType.JOINT_POSITION, spec.joints, reference,
        spec.row_period, rows, np.full(len(rows), float(np.mean(spec.gripper_range))),
    )  # fmt: skip


def swings(spec: RobotSpec, gate: Gate, rng: np.random.Generator, count: int) -> list[FloatArray]:
    """Rows (H, n) from home to random poses that ``gate`` accepts: joints that turn as fast as a policy turns them."""
    state, found = RobotState(0, spec.home, np.zeros(len(spec.joints)), float(np.mean(spec.gripper_range))), []
    share = np.arange(1, spec.horizon + 1)[:, None] / spec.horizon
    ease = share**3 * (10 - 15 * share + 6 * share**2)  # least jerk, at rest at both ends
    most = spec.horizon * spec.row_period / 1e9 * spec.velocity.min() / 1.875  # way at the velocity limit
    while len(found) < count:
        rows = spec.home + ease * rng.uniform(-1, 1, len(spec.joints)) * rng.uniform(0.3, 1.0) * most
        if isinstance(gate.vet(make_chunk(spec, rows, spec.home), state, spec.home, 0), JointRows):
            found.append(rows)
    return found


def speeds(spec: RobotSpec, rows: list[FloatArray]) -> dict[str, dict[str, float]]:
    """Fastest joint of each chunk [rad/s]."""
    fastest = [float(np.abs(np.diff(one, axis=0)).max() / spec.row_period * 1e9) for one in rows]
    return {"fastest_joint_rad_s": {"p50": round(float(np.median(fastest)), 3), "max": round(max(fastest), 3)}}


def poses(spec: RobotSpec, oracle: Oracle, rng: np.random.Generator, count: int) -> FloatArray:
    """Poses within the joint limits (count, n): most uniform, a share of them around poses in contact."""
    near = round(NEAR * count)
    uniform = rng.uniform(spec.lower, spec.upper, (count - near, len(spec.joints)))
    touching = np.array([_in_contact(spec, oracle, rng) for _ in range(near)]).reshape(near, len(spec.joints))
    around = touching + rng.normal(0, NEAR_SPREAD, touching.shape)
    return np.concatenate([uniform, np.clip(around, spec.lower, spec.upper)])


def standing(spec: RobotSpec, pose: FloatArray) -> Case:
    """An arm that is at ``pose`` and a chunk that stays there."""
    rows = np.tile(pose, (spec.horizon, 1))
    state = RobotState(0, pose.copy(), np.zeros(len(pose)), 0.04)
    return Case(make_chunk(spec, rows, pose.copy()), state, pose.copy(), 0, pose[None], pose[None])


def motion(spec: RobotSpec, oracle: Oracle, clear: Oracle, rng: np.random.Generator) -> Case:
    """A chunk within the limits of speed and acceleration, from rest at a valid pose to somewhere.

    Args:
        spec: limits.
        oracle: knows contacts.
        clear: an oracle that reports pairs up to the largest margin.
        rng: of the choice.
    """
    while True:
        start, aim = _start_and_aim(spec, oracle, clear, rng)
        rows = _rows(spec, oracle, rng, start, aim)
        if rows is None:
            continue
        state = RobotState(0, start.copy(), np.zeros(len(start)), 0.04)
        chunk = make_chunk(spec, rows, start.copy())
        corner = np.concatenate([start[None], rows])
        at = np.arange(0.0, len(rows) + 0.5 / BETWEEN, 1.0 / BETWEEN)
        straight = np.stack([np.interp(at, np.arange(len(corner)), column) for column in corner.T], axis=1)
        driven = Drive(spec).path(chunk, rows, start, np.zeros(len(start)), 0)
        return Case(chunk, state, start.copy(), 0, straight, driven)


def _in_contact(spec: RobotSpec, oracle: Oracle, rng: np.random.Generator) -> FloatArray:
    while True:
        pose = rng.uniform(spec.lower, spec.upper)
        if oracle.contacts(pose):
            return pose


def _valid(spec: RobotSpec, clear: Oracle, pose: FloatArray) -> bool:
    """Within all limits, with the margins, and the tool in its workspace."""
    if (pose < spec.lower).any() or (pose > spec.upper).any():
        return False
    tool = clear.tool(pose)[0]
    if (tool < spec.workspace_lower).any() or (tool > spec.workspace_upper).any():
        return False
    return all(c.distance >= margin(spec, kind) for kind, c in clear.contacts(pose).items())


def _start_and_aim(
    spec: RobotSpec, oracle: Oracle, clear: Oracle, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """A valid pose, and a pose to pass: anywhere, or about where the straight way to a contact first touches."""
    while True:
        target, spread = rng.uniform(spec.lower, spec.upper), 0.0
        if rng.random() < AIMED:
            target, spread = _in_contact(spec, oracle, rng), START_SPREAD
        for _ in range(20):
            start = target + rng.normal(0, spread, len(target)) if spread else rng.uniform(spec.lower, spec.upper)
            if not _valid(spec, clear, start):
                continue
            if not spread:
                return start, target
            way = np.linspace(start, target, 20)
            touch = next(pose for pose in way if oracle.contacts(pose))
            return start, touch + rng.normal(0, GRAZE * rng.random(), len(touch))


def _rows(
    spec: RobotSpec, oracle: Oracle, rng: np.random.Generator, start: FloatArray, aim: FloatArray
) -> FloatArray | None:
    """Rows that speed up towards ``aim`` and drift off it, slowed down to the limits; None beyond a joint's limit."""
    fine = 2 * np.arange(spec.horizon + 1)
    period = spec.row_period / 1e9
    time = np.arange(2 * spec.horizon + 1) * period / 2
    ramp = np.minimum(1.0, time / rng.uniform(0.1, 0.5))
    first = aim - start
    drift = first + rng.normal(0, 0.5, len(aim)) * np.linalg.norm(first) / np.sqrt(len(aim))
    blend = (time / time[-1])[:, None]
    speed = ramp[:, None] * ((1.0 - blend) * first + blend * drift) * rng.uniform(1.0, 6.0)
    way = np.cumsum(speed, axis=0) * period / 2
    way -= way[0]
    for _ in range(4):
        path = start + way
        rows = np.concatenate([path[:1], path[fine]])  # at rest before
        quickest = np.abs(np.diff(rows, axis=0)).max(axis=0) / period / spec.velocity
        hardest = np.abs(np.diff(rows, 2, axis=0)).max(axis=0) / period**2 / spec.acceleration
        excess = max(quickest.max(), hardest.max(), _tool_excess(spec, oracle, path)) / PEAK
        if excess <= 1.0:
            break
        way = way / (excess * 1.001)
    rows = path[fine][1:]
    return None if excess > 1.0 or (rows < spec.lower).any() or (rows > spec.upper).any() else rows


def _tool_excess(spec: RobotSpec, oracle: Oracle, path: FloatArray) -> float:
    """Largest speed of the tool along ``path``, half a row per point, relative to its limits."""
    tool, turned = map(np.array, zip(*(oracle.tool(pose) for pose in path), strict=True))
    half = spec.row_period / 2e9
    way = np.linalg.norm(np.diff(tool, axis=0), axis=1).max()
    cosine = (np.einsum("kij,kij->k", turned[1:], turned[:-1]) - 1.0) / 2.0
    angle = np.arccos(np.clip(cosine, -1.0, 1.0)).max()
    return float(max(way / half / spec.tool_speed[0], angle / half / spec.tool_speed[1]))
