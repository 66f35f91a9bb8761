"""A recorded attempt, read: its rollout, and what each of its rows looked like and was judged."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mcap.reader import make_reader
from numpy.typing import NDArray
from rclpy.serialization import deserialize_message

from vla_mbpo.core.errors import require
from vla_mbpo.core.observation import Observation
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.nodes import qos
from vla_mbpo.nodes.convert import to_ns
from vla_mbpo.record.lerobot.judged import Heard, judged
from vla_mbpo.record.lerobot.layout import ACTION, STATE, VELOCITY
from vla_mbpo.record.repair import read_labels
from vla_mbpo.sim.tasks import TASKS, Task
from vla_mbpo.training import live
from vla_mbpo.training.episodes import check as check_labels
from vla_mbpo.training.recorded import NEAR, observations

SENSES = (qos.JOINT_STATES, qos.HEAD_IMAGE, qos.WRIST_IMAGE)
TOPICS = (
    *SENSES, qos.COMMITMENT, qos.ACTION_CHUNKS, qos.ATTEMPT, qos.GATE_DECISION, qos.RISK,
)  # fmt: skip
VIEWS = ("head", "wrist")


@dataclass(frozen=True)
class Attempt:
    """One attempt over T rows.

    Attributes:
        name: of the recording.
        labels: of the recording (episode.json).
        instruction: what the policy was told to do.
        rollout: as training reads it (training/tape.py).
        columns: by feature, (T,) or (T, n).
        pictures: by camera, T of (h, w, 3).
    """

    name: str
    labels: dict[str, Any]
    instruction: str
    rollout: dict[str, Any]
    columns: dict[str, NDArray[Any]]
    pictures: dict[str, list[NDArray[np.uint8]]]


def read_attempt(episode: Path, spec: RobotSpec, tasks: Mapping[str, Task] = TASKS) -> Attempt:
    """Read a recording; ``tasks`` of the robot, by name.

    Raises:
        ConfigError: training passes it over, too (training/episodes.py): it is not complete, for example.
        McapError, OSError, ValueError: it cannot be read.
    """
    labels = read_labels(episode)
    check_labels(labels, tasks)
    made = live.attempt(episode, labels, spec, tasks)
    heard = messages(episode / labels["bag"], TOPICS)
    begin, instruction = _begin(heard)
    rows, at = len(made["set_point"]), made["at"]
    looked, seen = _rows(spec, heard, begin, rows)
    state = np.array([[*o.joints, o.gripper] for o in looked], np.float32)
    velocities = np.stack([o.velocities for o in looked]).astype(np.float32)
    pictures = {view: [getattr(o, view) for o in looked] for view in VIEWS}
    # A look may lie half a row beside its row: what the policy saw stands before what was nearest.
    state[at], velocities[at] = np.concatenate([made["joints"], made["gripper"][:, None]], 1), made["velocities"]
    for view in VIEWS:
        for row, picture in zip(at, made[view], strict=True):
            pictures[view][row] = picture
    at_look = np.zeros(rows, bool)
    at_look[at] = True
    columns = {
        STATE: state,
        VELOCITY: velocities,
        ACTION: np.concatenate([made["set_point"], made["opening"][:, None]], 1),
        "intervention": made["human"],
        **judged(heard, begin, rows, spec.row_period),
        "cost": made["cost"].astype(np.int64),
        "look": at_look,
        "seen": seen | at_look,
        "next.success": (made["success_row"] >= 0) & (np.arange(rows) >= made["success_row"]),
        "next.done": np.arange(rows) == rows - 1,
    }
    return Attempt(episode.name, labels, instruction, made, columns, pictures)


def messages(bag: Path, topics: Collection[qos.Topic]) -> Heard:
    """Messages of some topics by name, in the order in which they came."""
    heard: Heard = {topic.name: [] for topic in topics}
    types = {topic.name: topic.type for topic in topics}
    with bag.open("rb") as file:
        for _, channel, message in make_reader(file).iter_messages(topics=list(types)):
            heard[channel.topic].append(deserialize_message(message.data, types[channel.topic]))
    return heard


def _begin(heard: Heard) -> tuple[int, str]:
    """When the first row begins [ns], and the instruction: of the attempt's first chunk set, as in training/live.py."""
    started = [to_ns(m.header.stamp) for m in heard[qos.ATTEMPT.name] if m.running]
    sets = [m for m in heard[qos.ACTION_CHUNKS.name] if started and to_ns(m.header.stamp) >= started[-1]]
    require(bool(sets), "recording", "no chunk set", "an attempt of a policy")
    return to_ns(sets[0].observation_stamp), sets[0].instruction


def _rows(spec: RobotSpec, heard: Heard, begin: int, rows: int) -> tuple[list[Observation], NDArray[np.bool_]]:
    """The observation nearest to each row, made as the policy's are, and whether it is near enough to be the row's.

    A video has a picture for every frame: where none came, the one before is repeated.
    """
    found = observations(spec, *(heard[topic.name] for topic in SENSES))
    stamps = np.array([o.stamp for o in found], dtype=np.int64)
    wanted = begin + np.arange(rows) * spec.row_period
    after = np.searchsorted(stamps, wanted).clip(max=len(stamps) - 1)
    before = np.maximum(after - 1, 0)
    place = np.where(np.abs(wanted - stamps[before]) <= np.abs(stamps[after] - wanted), before, after)
    seen = np.abs(stamps[place] - wanted) <= NEAR
    last = np.maximum.accumulate(np.where(seen, np.arange(rows), 0))  # the first row has one, or there is no rollout
    return [found[i] for i in place[last]], seen
