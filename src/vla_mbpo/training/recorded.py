"""What the topics of the live stack said, as a rollout (training/tape.py): same rows, same observations, same labels.

Messages come from wherever they were kept: a bag (training/live.py), or a probe that listened.
"""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from vla_mbpo_msgs.msg import ActionChunkSet, Commitment, TaskStatus

from vla_mbpo.core.errors import require
from vla_mbpo.core.observation import FreshnessLimits, Observation, StaleInput
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.nodes import convert
from vla_mbpo.nodes.frames import ObservationBuilder
from vla_mbpo.sim.tasks import TASKS, Task, task_of
from vla_mbpo.training.tape import LOOK_ROWS

NEAR = 30_000_000  # ns; a picture may be so far from the row it is taken for


def rollout(
    spec: RobotSpec,
    joints: Iterable[Any],
    head: Iterable[Any],
    wrist: Iterable[Any],
    commitments: Iterable[Commitment],
    chunks: Iterable[ActionChunkSet],
    status: Iterable[TaskStatus],
    earlier: int | None = None,
    tasks: Mapping[str, Task] = TASKS,
) -> dict[str, Any]:
    """One attempt from its messages, each topic's in their order.

    Rows begin at the first chunk set's observation. Looks are where the policy looked, and every LOOK_ROWS where it did
    not: it keeps no grid, since a picture that is late or a takeover moves all its later looks. Ground truth that only
    a simulator knows (cubes, points) is NaN. ``earlier``: cost events before the attempt, which ``status`` lists, too,
    until the scene is reset; None: those of the first one. ``tasks``: by name.

    Raises:
        ConfigError: no chunk set, no pictures of one, or an unknown task.
    """
    require(bool(sets := list(chunks)), "recording", "no chunk set", "an attempt of a policy")
    begin, (moments, set_points, openings) = convert.to_ns(sets[0].observation_stamp), _commanded(commitments)
    rows = int((moments[-1] - begin) // spec.row_period) if len(moments) else 0
    require(rows > 0, "recording", f"{rows} rows", "commitments of the arm driver after the first chunk set")
    due = begin + (1 + np.arange(rows)) * spec.row_period
    nearest = [np.interp(due, moments, column) for column in set_points.T]
    wanted = _wanted(sets, begin, rows, spec.row_period)
    looks = _looked(observations(spec, joints, head, wrist), [stamp for _, stamp in wanted])
    at = [row for row, _ in wanted][: len(looks)]
    require(bool(looks), "recording", "no pictures", "both cameras' at the first chunk set")
    held = np.searchsorted(moments, due, side="right") - 1
    made = {
        "at": np.array(at, np.int32),
        "head": np.stack([o.head for o in looks]),
        "wrist": np.stack([o.wrist for o in looks]),
        "joints": np.stack([o.joints for o in looks]).astype(np.float32),
        "velocities": np.stack([o.velocities for o in looks]).astype(np.float32),
        "gripper": np.array([o.gripper for o in looks], np.float32),
        "set_point": np.stack(nearest, 1).astype(np.float32),
        "opening": openings[np.maximum(held, 0)].astype(np.float32),
        "cubes": np.full((len(at), 3, 3), np.nan, np.float32),
        "points": np.full((len(at), 9), np.nan, np.float32),
    }
    told, said = list(status), sets[0].instruction
    task = task_of(said, tasks)
    require(bool(task), "recording", said, "the instruction of a known task")
    facts = {"source": "live", "task": task, "instruction": said, "policy": sets[0].policy_version}
    facts |= {"seed": told[-1].seed if told else 0}
    return made | facts | _plans(spec, sets, at) | _outcome(told, begin, rows, spec, earlier)


def observations(spec: RobotSpec, joints: Iterable, head: Iterable, wrist: Iterable) -> list[Observation]:
    """Every pair of pictures with the joint states of its moment, made as the policy node makes it."""
    everything = FreshnessLimits(max_age=10**18, max_future=10**18, max_frozen=10**18)
    builder = ObservationBuilder(convert.JointStateReader(spec), everything, {"head": "", "wrist": ""})
    waiting = sorted(joints, key=lambda m: convert.to_ns(m.header.stamp))
    frames = [("head", m) for m in head] + [("wrist", m) for m in wrist]
    frames.sort(key=lambda frame: convert.to_ns(frame[1].header.stamp))
    found, fed = [], 0
    for view, message in frames:
        until = convert.to_ns(message.header.stamp) + NEAR
        while fed < len(waiting) and convert.to_ns(waiting[fed].header.stamp) <= until:
            builder.add_joints(waiting[fed])
            fed += 1
        try:
            if (stamp := builder.add_image(view, message)) is not None:
                found.append(builder.observation(stamp))
        except StaleInput:
            continue  # no model saw it either
    return found


def _commanded(commitments: Iterable[Commitment]) -> tuple[NDArray[np.float64], NDArray, NDArray]:
    """Stamps [ns], set points (N, n) [rad] and openings (N,) [m] of the commitments that have a set point."""
    kept = [m for m in commitments if len(m.commanded_positions)]
    moments = np.array([convert.to_ns(m.header.stamp) for m in kept], dtype=np.float64)
    openings, last = [], np.nan
    for m in kept:
        last = m.gripper[0] if len(m.gripper) and np.isfinite(m.gripper[0]) else last
        openings.append(last)
    first = next((x for x in openings if np.isfinite(x)), 0.0)
    filled = np.array([first if not np.isfinite(x) else x for x in openings])
    return moments, np.array([m.commanded_positions for m in kept]).reshape(len(kept), -1), filled


def _wanted(sets: list[ActionChunkSet], begin: int, rows: int, period: int) -> list[tuple[int, int]]:
    """Row and stamp [ns] of each look that there should be, in order."""
    seen = {_row(message, begin, period): convert.to_ns(message.observation_stamp) for message in sets}
    inside = sorted(row for row in seen if 0 <= row < rows)
    found = []
    for row, after in pairwise([*inside, rows + LOOK_ROWS // 2]):
        found.append((row, seen[row]))
        between = range(row + LOOK_ROWS, after - LOOK_ROWS // 2, LOOK_ROWS)
        found += [(extra, begin + extra * period) for extra in between]
    return found


def _looked(made: list[Observation], wanted: list[int]) -> list[Observation]:
    """The observation next to each of the stamps [ns], up to the first that has none."""
    stamps, found = np.array([o.stamp for o in made], dtype=np.int64), []
    for stamp in wanted:
        place = int(np.argmin(np.abs(stamps - stamp))) if len(stamps) else -1
        if place < 0 or abs(int(stamps[place]) - stamp) > NEAR:
            break  # a gap: what comes after it is another story
        found.append(made[place])
    return found


def placed(sets: Iterable[ActionChunkSet], at: Iterable[int], period: int) -> dict[int, ActionChunkSet]:
    """The set made at each look, by the look's number; ``sets`` from the first one on, ``period`` of rows [ns]."""
    sets, number = list(sets), {int(row): look for look, row in enumerate(at)}
    begin = convert.to_ns(sets[0].observation_stamp)
    made = {number.get(_row(message, begin, period), -1): message for message in sets}
    return {look: message for look, message in made.items() if look >= 0}


def _row(message: ActionChunkSet, begin: int, period: int) -> int:
    return round((convert.to_ns(message.observation_stamp) - begin) / period)


def _plans(spec: RobotSpec, sets: list[ActionChunkSet], at: list[int]) -> dict[str, NDArray]:
    """Candidates (M, K, H, n + 1) and features (M, F) of the set made at each look; NaN where there was none."""
    k, width = max(len(s.chunks) for s in sets), len(sets[0].features)
    candidates = np.full((len(at), k, spec.horizon, len(spec.joints) + 1), np.nan, np.float32)
    features = np.full((len(at), width), np.nan, np.float32)
    for look, message in placed(sets, at, spec.row_period).items():
        features[look] = message.features
        for place, chunk in enumerate(map(convert.from_chunk, message.chunks)):
            # No other number will do: beyond the set there is no room for it, and one said twice would leave a gap.
            found = f"{chunk.candidate} in set {message.chunk_set_id}"
            require(chunk.candidate == place, "candidate", found, f"{place}, its place in the set")
            candidates[look, place] = np.concatenate([chunk.positions, chunk.gripper[:, None]], 1)
    return {"candidates": candidates, "features": features}


def _outcome(status: list[TaskStatus], begin: int, rows: int, spec: RobotSpec, earlier: int | None) -> dict[str, Any]:
    """Success row, failure and cost events per row, from the task's status."""
    cost, done = np.zeros(rows, np.uint8), -1
    if earlier is None:
        earlier = len(status[0].cost_events) if status else 0
    told = earlier
    for message in status:
        row = int(np.clip((convert.to_ns(message.header.stamp) - begin) // spec.row_period, 0, rows - 1))
        events = len(message.cost_events)
        cost[row] += max(0, events - told)
        told, earlier = events, min(earlier, events)  # fewer: the scene was reset
        if message.success and done < 0:
            done = row
    named = np.array(status[-1].cost_events[earlier:] if status else [], dtype=str)
    return {"cost": cost, "events": named, "success_row": done, "failed": bool(status and status[-1].failed)}
