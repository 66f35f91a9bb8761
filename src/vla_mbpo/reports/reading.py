"""Recorded episodes read for a report, pictures only where they are asked for. Needs the ROS 2 messages."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rclpy.serialization import deserialize_message

from vla_mbpo.core.chunk import ActionChunk
from vla_mbpo.core.errors import ConfigError
from vla_mbpo.core.observation import Observation
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.nodes import convert, qos
from vla_mbpo.record.reading import messages
from vla_mbpo.record.repair import read_labels
from vla_mbpo.reports.attempt import Look, Told, told
from vla_mbpo.training.recorded import NEAR, observations

SENSES = (qos.JOINT_STATES, qos.HEAD_IMAGE, qos.WRIST_IMAGE)
TELLING = (
    qos.ATTEMPT, qos.TASK_STATUS, qos.ACTION_CHUNKS, qos.VERDICT, qos.RISK, qos.GATE_DECISION, qos.APPROVED_CHUNK,
    qos.COMMITMENT,
)  # fmt: skip
AROUND = 200_000_000  # ns before and after that pictures are kept


@dataclass(frozen=True)
class Seen:
    """What was seen at a look and a chunk later, and what the policy proposed there.

    Attributes:
        before, after: observations; None where no pictures of both cameras with joint states were recorded.
        instruction: that the chunks were made for.
        chunks: by candidate, as they were proposed.
    """

    before: Observation | None
    after: Observation | None
    instruction: str
    chunks: dict[int, ActionChunk]


def read_told(episode: Path, name: str) -> Told:
    """One episode's numbers, under a ``name``; those of its labels where its bag cannot be read.

    Raises:
        ConfigError: no labels.
    """
    labels = read_labels(episode)
    heard: dict[str, list[Any]] = {topic.name: [] for topic in TELLING}
    try:
        for _, topic, message in messages(episode / labels["bag"], _kinds(TELLING), deserialize_message):
            heard[topic].append(message)
        return told(name, labels, heard)
    except ConfigError as error:
        return Told(name, labels, int(labels["begin_ns"]), fault=str(error))


def seen(episode: Path, looks: Sequence[Look], spec: RobotSpec) -> dict[int, Seen]:
    """By chunk set, what was seen around some looks. ConfigError: the bag cannot be read."""
    bag, wanted = episode / read_labels(episode)["bag"], {look.set_id: look for look in looks}
    sets: dict[int, tuple[int, Any]] = {}
    for received, _, message in messages(bag, _kinds((qos.ACTION_CHUNKS,)), deserialize_message):
        if message.chunk_set_id in wanted:
            sets[message.chunk_set_id] = received, message
    ahead = spec.horizon * spec.row_period
    spans = []  # by the recorder's clock, which need not be that of the stamps
    for received, message in sets.values():
        began = received - (convert.to_ns(message.header.stamp) - convert.to_ns(message.observation_stamp))
        spans.append((began - AROUND, began + ahead + AROUND))
    kept: dict[str, list[Any]] = {topic.name: [] for topic in SENSES}
    kinds = _kinds(SENSES)
    for received, name, data in messages(bag, kinds):
        if any(begin <= received <= end for begin, end in spans):
            kept[name].append(deserialize_message(data, kinds[name]))
    made = observations(spec, *(kept[topic.name] for topic in SENSES))
    found = {}
    for number, (_, message) in sets.items():
        stamp = convert.to_ns(message.observation_stamp)
        chunks = {chunk.candidate: chunk for chunk in _readable(message.chunks)}
        before, after = _nearest(made, stamp, NEAR), _nearest(made, stamp + ahead, 2 * NEAR)
        found[number] = Seen(before, after, message.instruction, chunks)
    return found


def _kinds(topics: Sequence[qos.Topic]) -> dict[str, Any]:
    return {topic.name: topic.type for topic in topics}


def _readable(chunks: Sequence[Any]) -> list[ActionChunk]:
    """Those that are chunks: what the gate refused may be anything."""
    found = []
    for chunk in chunks:
        try:
            found.append(convert.from_chunk(chunk))
        except ValueError:
            continue
    return found


def _nearest(made: Sequence[Observation], stamp: int, near: int) -> Observation | None:
    best = min(made, key=lambda one: abs(one.stamp - stamp), default=None)
    return best if best is not None and abs(best.stamp - stamp) <= near else None
