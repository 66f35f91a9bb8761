"""A recorded episode as a replay needs it: what was said in it, and its messages in their order.

Reads the file twice and keeps no pictures. Needs the ROS 2 messages; starts no node.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rclpy.qos import DurabilityPolicy
from rclpy.serialization import deserialize_message

from vla_mbpo.core.errors import require
from vla_mbpo.core.observation import FreshnessLimits
from vla_mbpo.nodes import qos
from vla_mbpo.nodes.convert import to_ns
from vla_mbpo.nodes.frames import FramePairs
from vla_mbpo.nodes.recorded import RECORDED
from vla_mbpo.record.episode import LABELS, RECORDING
from vla_mbpo.record.reading import messages
from vla_mbpo.record.repair import read_labels
from vla_mbpo.replay.said import ADD, Said

TOPICS = {row.topic.name: row.topic for row in RECORDED}
VIEWS = {qos.HEAD_IMAGE.name: "head", qos.WRIST_IMAGE.name: "wrist"}
KINDS = {qos.ACTION_CHUNKS.name: "sets", qos.VERDICT.name: "verdicts", qos.RISK.name: "risks"}


@dataclass
class Recording:
    """One episode.

    Attributes:
        name, bag: of the episode, and its file.
        labels: content of episode.json; empty if there is none beside the file.
        said: what was said in it.
        arrivals: when each of it came [ns], by attribute of ``said`` and observation stamp.
        release: folder of the release that it ran with; empty: none.
        begin, end: when its first and its last message came [ns].
        joints: names of the arm's joints.
    """

    name: str
    bag: Path
    labels: dict[str, Any]
    said: Said = field(default_factory=Said)
    arrivals: dict[tuple[str, int], int] = field(default_factory=dict)
    release: str = ""
    begin: int = 0
    end: int = 0
    joints: tuple[str, ...] = ()
    _pairs: dict[int, dict[str, int]] = field(default_factory=dict)  # head stamp -> view -> stamp [ns]
    _seen: dict[int, int] = field(default_factory=dict)  # head stamp -> when its pair was complete [ns]

    @classmethod
    def read(cls, path: Path) -> "Recording":
        """An episode's folder or its MCAP file.

        Raises:
            ConfigError: there is none, it is being recorded, damaged, of other definitions than those installed here,
                or without pictures.
        """
        folder = path if path.is_dir() else path.parent
        labels = read_labels(folder) if path.is_dir() or (folder / LABELS).is_file() else {}
        bag = folder / labels["bag"] if path.is_dir() else path
        require(bag.is_file(), "BAG", str(path), f"expected an episode (a folder with {LABELS}) or its MCAP file")
        if labels and bag.name == labels["bag"]:
            state, hint = labels["state"], "wait for its end, or mend it with `vla-mbpo record repair`"
            require(state != RECORDING, "episode", f"{folder.name}, {state}", hint)
        else:
            labels = {}
        found = cls(folder.resolve().name if labels else bag.name, bag, labels)
        found._listen()
        return found

    def looks(self, begin: int, end: int) -> set[int]:
        """Stamps of the observations that something was said about and whose pictures came from ``begin`` to ``end``.

        Of pictures that were not recorded the stamp counts.
        """
        said = self.said
        stamps = said.sets.keys() | said.verdicts.keys() | said.risks.keys()
        return {stamp for stamp in stamps if begin <= stamp and self._seen.get(stamp, stamp) <= end}

    def messages(
        self, topics: Collection[str], begin: int, end: int, everything: bool = False
    ) -> Iterator[tuple[int, str, bytes]]:
        """When each message came [ns], topic and CDR; those latched before ``begin`` come first, as if at ``begin``.

        Pictures are those of the recorded chunk sets, or with ``everything`` all: a policy that looks one picture
        earlier or later than the recorded one has no look in common with it until it begins anew.
        """
        wanted = {v: {pair[v] for s in self.said.sets if (pair := self._pairs.get(s))} for v in VIEWS.values()}
        kinds = {name: topic.type for name, topic in TOPICS.items() if name in topics}
        latched: dict[str, bytes] = {}
        for received, topic, data in messages(self.bag, kinds):
            if received > end:
                break
            if received < begin:
                if TOPICS[topic].qos.durability == DurabilityPolicy.TRANSIENT_LOCAL:
                    latched[topic] = data
                continue
            yield from ((begin, name, before) for name, before in latched.items())
            latched.clear()
            view = VIEWS.get(topic)
            if view is None or everything or _stamp(deserialize_message(data, kinds[topic])) in wanted[view]:
                yield received, topic, data

    def _listen(self) -> None:
        kinds = {name: topic.type for name, topic in TOPICS.items()}
        frames = FramePairs(FreshnessLimits.max_skew // 2)  # as the nodes have it by default
        for received, topic, message in messages(self.bag, kinds, deserialize_message):
            self.begin, self.end = self.begin or received, received
            if topic in KINDS:
                ADD[KINDS[topic]](self.said, message)
                self.arrivals[KINDS[topic], to_ns(message.observation_stamp)] = received
            elif topic == qos.GATE_DECISION.name:
                self.said.add_decision(message)
            elif topic in VIEWS:
                pair = frames.add(VIEWS[topic], message)
                if pair is not None:
                    self._pairs[_stamp(pair[0])] = {"head": _stamp(pair[0]), "wrist": _stamp(pair[1])}
                    self._seen[_stamp(pair[0])] = received
            elif topic == qos.RELEASE.name:
                self.release = message.release
            elif topic == qos.COMMITMENT.name:
                self.joints = tuple(message.joint_names)
        require(bool(self._pairs), "recording", self.name, "expected pictures of both cameras")


def _stamp(message: Any) -> int:
    return to_ns(message.header.stamp)
