"""Brings the bag of a recorder that was killed, or whose disk was full, into order."""

import fcntl
import json
from pathlib import Path
from typing import Any

from mcap.records import Channel

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.record.episode import BAD, LABELS, RECORDING
from vla_mbpo.record.index import Scan, append_index, scan
from vla_mbpo.record.message import TopicInfo
from vla_mbpo.record.metadata import write_json, write_metadata

INTERRUPTED = "the recorder was interrupted; what it had not written is missing"
KEYS: dict[str, type] = {  # of episode.json, that somebody reads
    **dict.fromkeys(("state", "kind", "instruction", "outcome", "message", "bag"), str),
    **dict.fromkeys(("reasons", "cost_events", "policy_versions", "releases", "interventions"), list),
    **dict.fromkeys(("decisions", "vetoes", "rows", "topics"), dict),
    **dict.fromkeys(("chunk_sets", "begin_ns", "end_ns", "bytes"), int),
    "duration_s": float,
}
DAMAGED = "the bag was damaged; what cannot be read is missing"


def episodes(folder: Path) -> list[Path]:
    """The episode itself, or those in ``folder``, oldest first. Raises ConfigError: there are none."""
    if (folder / LABELS).is_file():
        return [folder]
    found = sorted(path.parent for path in folder.glob(f"*/{LABELS}"))
    if not found:
        raise ConfigError("folder", str(folder), f"expected an episode (a folder with {LABELS}) or a folder of them")
    return found


def read_labels(episode: Path) -> dict[str, Any]:
    """Content of episode.json. Raises ConfigError: it cannot be read, or lacks something."""
    file = episode / LABELS
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(str(file), type(error).__name__, "expected the labels of an episode") from None
    require(isinstance(content, dict), str(file), type(content).__name__, "expected the labels of an episode")
    for key, kind in KEYS.items():
        require(isinstance(content.get(key), kind), f"{file}: {key}", content.get(key), f"expected {kind.__name__}")
    bag = content["bag"]
    require(Path(bag).name == bag, f"{file}: bag", bag, "a file in the episode's folder")
    return content


def repair(episode: Path) -> bool:
    """Give the episode's bag an index and metadata, and mark it bad. False: it was neither interrupted nor damaged.

    In place: no room for a second file is needed, and after a kill it can be done again.

    Raises:
        ConfigError: no labels, or it is being recorded.
        OSError: no space for the index, for example.
    """
    labels = read_labels(episode)
    path = episode / labels["bag"]
    with path.open("rb") as old:
        try:
            fcntl.flock(old, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError("episode", episode.name, "it is being recorded") from None
        found = scan(path)
        if labels["state"] != RECORDING and found.whole:
            return False
        happened = [DAMAGED] * bool(found.damaged) + [INTERRUPTED] * (labels["state"] == RECORDING or not found.damaged)
        labels["reasons"] += [reason for reason in happened if reason not in labels["reasons"]]
        write_json(episode / LABELS, {**labels, "state": RECORDING})  # a kill leaves nothing that counts as complete
        (episode / ".reserve").unlink(missing_ok=True)
        append_index(path, found)
    begin, end = found.begin, found.finish
    topics = {_topic(found, channel): found.counts.get(number, 0) for number, channel in found.channels.items()}
    write_metadata(episode, path.name, list(topics), list(topics.values()), begin, end)
    changed = {
        "state": BAD,
        "interventions": [{**part, "end_ns": part["end_ns"] or end} for part in labels["interventions"]],
        "begin_ns": begin,
        "end_ns": end,
        "duration_s": round(max(0, end - begin) / 1e9, 3),
        "bytes": path.stat().st_size,
        "topics": {
            topic.name: {**labels["topics"].get(topic.name, {}), "type": topic.type, "recorded": count}
            for topic, count in topics.items()
            if count
        },
    }
    write_json(episode / LABELS, {**labels, **changed})
    return True


def _topic(found: Scan, channel: Channel) -> TopicInfo:
    return TopicInfo(
        channel.topic, found.schemas[channel.schema_id].name, channel.metadata.get("offered_qos_profiles", "")
    )
