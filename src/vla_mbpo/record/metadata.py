"""metadata.yaml of a rosbag2 folder, version 9, and files that are replaced as a whole."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from vla_mbpo.record.message import TopicInfo


def replace_file(path: Path, text: str, sync: bool = True) -> None:
    """Write a file so that there is always the old or the new one. OSError: the old one is still there.

    Without ``sync`` that holds for the death of this process, not for that of the machine.
    """
    beside = path.with_name(f".{path.name}.new")
    try:
        with beside.open("w") as file:
            file.write(text)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any, sync: bool = True) -> None:
    """``replace_file`` with JSON."""
    replace_file(path, json.dumps(value, indent=1) + "\n", sync)


def write_metadata(
    folder: Path, file: str, topics: Sequence[TopicInfo], counts: Sequence[int], begin: int, end: int
) -> None:
    """What rosbag2 wants to know of a bag with one MCAP file. ``begin``, ``end`` [ns]. OSError."""
    total = sum(counts)
    span = {"nanoseconds": max(0, end - begin) if total else 0}
    start = {"nanoseconds_since_epoch": begin}
    listed = [
        {
            "topic_metadata": {
                "name": topic.name,
                "type": topic.type,
                "serialization_format": "cdr",
                "offered_qos_profiles": yaml.safe_load(topic.qos) or [],
                "type_description_hash": "",
            },
            "message_count": count,
        }
        for topic, count in zip(topics, counts, strict=True)
        if count
    ]
    information = {
        "version": 9,
        "storage_identifier": "mcap",
        "duration": span,
        "starting_time": start,
        "message_count": total,
        "topics_with_message_count": listed,
        "compression_format": "",
        "compression_mode": "",
        "relative_file_paths": [file],
        "files": [{"path": file, "starting_time": start, "duration": span, "message_count": total}],
        "custom_data": None,
        "ros_distro": os.environ.get("ROS_DISTRO", "kilted"),
    }
    text = yaml.safe_dump({"rosbag2_bagfile_information": information}, sort_keys=False)
    replace_file(folder / "metadata.yaml", text)
