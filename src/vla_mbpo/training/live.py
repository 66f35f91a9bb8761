"""A recorded attempt (record/) as a rollout: its topics (training/recorded.py), and what else the live stack knew.

Needs the ROS 2 messages; what was made of a recording is read without (training/episodes.py).
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.serialization import deserialize_message
from vla_mbpo_msgs.msg import ActionChunkSet

from vla_mbpo.core.errors import require
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.nodes import qos
from vla_mbpo.nodes.convert import to_ns
from vla_mbpo.record.reading import messages
from vla_mbpo.sim.tasks import TASKS, TEST_SEED_BASE, Task
from vla_mbpo.training.oversight import alarms, commanded, success_row, vetoed
from vla_mbpo.training.recorded import placed, rollout

SAID = (qos.JOINT_STATES, qos.HEAD_IMAGE, qos.WRIST_IMAGE, qos.COMMITMENT)  # as ``rollout`` takes them
HEARD = {
    topic.name: topic.type
    for topic in (
        *SAID, qos.ACTION_CHUNKS, qos.TASK_STATUS, qos.ATTEMPT, qos.GATE_DECISION, qos.VERDICT, qos.RISK,
    )
}  # fmt: skip


def attempt(
    folder: Path, labels: Mapping[str, Any], spec: RobotSpec, tasks: Mapping[str, Task] = TASKS
) -> dict[str, Any]:
    """Arrays of training/tape.py, the optional ones among them, of a complete attempt.

    Args:
        folder: of the episode.
        labels: its episode.json.
        spec: the robot that it should be of.
        tasks: its tasks, by name.

    Raises:
        ConfigError: its bag cannot be read, or it is no attempt of a policy on this robot in a scene of the tests.
    """
    heard = read(folder / labels["bag"])
    begin = _begin(heard[qos.ATTEMPT.name], labels["instruction"])
    # The second before it belongs to another attempt, which may have been of the same task.
    sets = [m for m in heard[qos.ACTION_CHUNKS.name] if to_ns(m.header.stamp) >= begin]
    before = [m for m in heard[qos.TASK_STATUS.name] if to_ns(m.header.stamp) < begin]
    status = [m for m in heard[qos.TASK_STATUS.name] if to_ns(m.header.stamp) >= begin]
    earlier = len(before[-1].cost_events) if before else None
    joints, head, wrist, commitments = (heard[topic.name] for topic in SAID)
    _check_robot(commitments, sets, spec)
    made = rollout(spec, joints, head, wrist, commitments, sets, status, earlier, tasks)
    simulated = qos.SCENE_STATE.name in labels["topics"]
    if not simulated:  # no two scenes of a real table are the same
        made["seed"] = TEST_SEED_BASE + zlib.crc32(folder.name.encode())  # none that a simulated scene may have
    fit = not simulated or made["seed"] < TEST_SEED_BASE
    require(fit, "seed", made["seed"], f"below {TEST_SEED_BASE}: the others are scenes to test with")
    start, rows = to_ns(sets[0].observation_stamp), len(made["set_point"])
    known, looks = placed(sets, made["at"], spec.row_period), start + made["at"].astype(np.int64) * spec.row_period
    told = heard[qos.GATE_DECISION.name], heard[qos.VERDICT.name]
    return made | {
        "success_row": success_row(labels["outcome"], made["success_row"], rows),
        "aborted": labels["outcome"] == "aborted",
        "vetoed": vetoed(known, made["candidates"].shape[:2], *told),
        "alarm": alarms(heard[qos.RISK.name], {m.chunk_set_id for m in sets}, looks),
        "human": commanded(labels["interventions"], start + np.arange(rows) * spec.row_period, spec.row_period),
    }


def read(bag: Path) -> dict[str, list[Any]]:
    """Messages of HEARD by topic, as they came. ConfigError: unreadable, or of other definitions than those here."""
    found: dict[str, list[Any]] = {name: [] for name in HEARD}
    for _, topic, message in messages(bag, HEARD, deserialize_message):
        found[topic].append(message)
    return found


def _begin(states: Iterable[Any], instruction: str) -> int:
    """When the attempt began [ns]."""
    stamps = [to_ns(m.header.stamp) for m in states if m.running and m.instruction == instruction]
    require(bool(stamps), "recording", "no begin of its attempt", "one")
    return stamps[-1]


def _check_robot(commitments: Iterable[Any], sets: Sequence[ActionChunkSet], spec: RobotSpec) -> None:
    joints = {tuple(m.joint_names) for m in commitments} | {tuple(c.joint_names) for m in sets for c in m.chunks}
    others = sorted(joints - {spec.joints})
    require(not others, "joints", others, f"those of {spec.name}")
    grids = {(c.horizon, to_ns(c.row_period)) for m in sets for c in m.chunks}
    fits = grids <= {(spec.horizon, spec.row_period)}
    require(fits, "chunks", sorted(grids), f"{spec.horizon} rows of {spec.row_period} ns, as {spec.name} has")
