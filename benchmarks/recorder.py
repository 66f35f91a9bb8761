"""The recorder beside the running stack: messages published against recorded, per topic; its CPU share; sizes.

Attempts at all training tasks run one after the other in real time, recorded. What was published is taken from the
publishers' own numbers: a second listener in this process sees the first and the last number of every writer within
each episode, and the difference is what that writer published, whether this listener heard it or not.
"""

import json
import os
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.common import parser, write
from vla_mbpo.bringup import Options
from vla_mbpo.eval.realtime import cadence, running_stack
from vla_mbpo.sim.tasks import TEST_SEED_BASE, TRAINING_TASKS


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Recordings:
    """What is in the files, by rosbags and by mcap."""

    def __init__(self, folder: Path) -> None:
        self.labels = [json.loads(path.read_text()) | {"folder": path.parent} for path in folder.glob("*/episode.json")]
        self.decoded: dict[str, int] = defaultdict(int)
        self.by_mcap: dict[str, int] = defaultdict(int)
        for labels in self.labels:
            self._by_rosbags(labels["folder"])
            self._by_mcap(labels["folder"] / labels["bag"])

    def _by_rosbags(self, folder: Path) -> None:
        from rosbags.rosbag2 import Reader
        from rosbags.typesys import Stores, get_types_from_msg, get_typestore

        store = get_typestore(Stores.EMPTY)
        with Reader(folder) as reader:
            for connection in reader.connections:
                store.register(get_types_from_msg(connection.msgdef.data, connection.msgtype))
            for connection, _, data in reader.messages():
                store.deserialize_cdr(data, connection.msgtype)
                self.decoded[connection.topic] += 1

    def _by_mcap(self, path: Path) -> None:
        from mcap.reader import make_reader

        with path.open("rb") as file:
            for _, channel, _message in make_reader(file).iter_messages():
                self.by_mcap[channel.topic] += 1


def published(episodes: list[dict[str, Any]], numbers: dict[str, dict[bytes, list[tuple[int, int]]]]) -> dict[str, int]:
    """Messages per topic that writers published between the first and the last one recorded of each episode.

    ``numbers``: by topic and writer, (source time [ns], number) of what was heard beside the recorder.
    """
    from mcap.reader import make_reader

    total: dict[str, int] = defaultdict(int)
    for labels in episodes:
        spans: dict[str, list[int]] = {}
        with (labels["folder"] / labels["bag"]).open("rb") as file:
            for _, channel, message in make_reader(file).iter_messages():
                span = spans.setdefault(channel.topic, [message.publish_time, message.publish_time])
                span[0], span[1] = min(span[0], message.publish_time), max(span[1], message.publish_time)
        for topic, (begin, end) in spans.items():
            for heard in numbers.get(topic, {}).values():
                inside = [number for time_, number in heard if begin <= time_ <= end]
                total[topic] += max(inside) - min(inside) + 1 if inside else 0
    return total


def listen(node: Any) -> dict[str, dict[bytes, list[tuple[int, int]]]]:
    """Hear every recorded topic's numbers on ``node``."""
    from dataclasses import replace

    from vla_mbpo.nodes.recorded import RECORDED

    numbers: dict[str, dict[bytes, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))

    def taker(topic: str) -> Any:
        def take(_data: bytes, about: Any) -> None:
            writer, number = about["publisher_gid"]["data"], about["publication_sequence_number"]
            numbers[topic][writer].append((about["source_timestamp"], number))

        return take

    for row in RECORDED:
        heard = replace(row.topic, qos=row.qos)
        node.create_subscription(heard.type, heard.name, taker(heard.name), heard.qos, raw=True)
    return numbers


def attempts(stack: Any, seconds: float, seed: int) -> int:
    """Run them one after the other. Returns how many succeeded."""
    begin, number, successes = time.monotonic(), 0, 0
    while time.monotonic() - begin < seconds:
        task = TRAINING_TASKS[number % len(TRAINING_TASKS)]
        successes += stack.attempt(task, seed + number, 15.0).success
        number += 1
    return successes


def main() -> None:
    """Measure and write."""
    cli = parser(__doc__ or "")
    cli.add_argument("--bundle", default="sft_full")
    cli.add_argument("--seconds", type=float, default=600.0)
    cli.add_argument("--keep", type=Path, help="folder for the recordings; default: a temporary one")
    args = cli.parse_args()
    seed = TEST_SEED_BASE + 940_000
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        options = Options(args.bundle, TRAINING_TASKS[0], seed, page=False, record=str(folder))
        with running_stack("sim_panda", options) as stack:
            metrics = measure(stack, args.seconds, seed)
        metrics |= counts(folder, metrics.pop("numbers"))
    write("recorder", metrics, args.json)


def measure(stack: Any, seconds: float, seed: int) -> dict[str, Any]:
    """Attempts, CPU and the writers' numbers."""
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.node import Node

    node, executor = Node("beside_the_recorder", enable_rosout=False), SingleThreadedExecutor()
    numbers = listen(node)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    time.sleep(2.0)  # every writer is known before the first episode
    pid = stack.supervisor.pids()["recorder"]
    before, begin = cpu_seconds(pid), time.monotonic()
    successes = attempts(stack, seconds, seed)
    span = time.monotonic() - begin
    share = (cpu_seconds(pid) - before) / span
    same = stack.supervisor.pids().get("recorder") == pid
    time.sleep(2.0)  # the last episode ends
    executor.shutdown()
    thread.join(2.0)
    node.destroy_node()
    return {
        "cores": os.cpu_count(),
        "load_1min": round(os.getloadavg()[0], 2),
        "seconds": round(span, 1),
        "recorder_cpu_share_of_a_core": round(share, 4),
        "recorder_restarted": not same,
        "successes": successes,
        "cadence": cadence(stack.probe),
        "numbers": numbers,
    }


def counts(folder: Path, numbers: Any) -> dict[str, Any]:
    """Published against recorded."""
    recordings = Recordings(folder)
    labels = recordings.labels
    said = published(labels, numbers)
    recorded: dict[str, int] = defaultdict(int)
    for episode in labels:
        for topic, row in episode["topics"].items():
            recorded[topic] += row["recorded"]
    topics = {
        topic: {"published": said.get(topic, 0), "recorded": count, "decoded": recordings.decoded[topic]}
        for topic, count in sorted(recorded.items())
    }
    lost = {key: sum(row[key] for e in labels for row in e["topics"].values()) for key in ("lost", "dropped")}
    length = sum(episode["duration_s"] for episode in labels)
    size = sum(episode["bytes"] for episode in labels)
    return {
        "episodes": len(labels),
        "complete": sum(episode["state"] == "complete" for episode in labels),
        "reasons": [reason for episode in labels for reason in episode["reasons"]][:20],
        "recorded_s": round(length, 1),
        "mb": round(size / 1e6, 2),
        "mb_per_minute": round(size / 1e6 / max(length, 1e-9) * 60, 2),
        "messages": sum(recorded.values()),
        "messages_per_s": round(sum(recorded.values()) / max(length, 1e-9), 1),
        "by_mcap_equals_by_rosbags": recordings.by_mcap == recordings.decoded,
        **lost,
        "topics": topics,
    }


if __name__ == "__main__":
    main()
