"""Messages for the recorder's tests, and readers of what it wrote."""

import json
import struct
import time

from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from vla_mbpo.record.message import Attempt, Message, TopicInfo
from vla_mbpo.record.recorder import Limits, Recorder

TOPICS = (
    TopicInfo("/words", "std_msgs/msg/String"),
    TopicInfo("/stop", "std_msgs/msg/Bool"),
    TopicInfo("/state", "std_msgs/msg/String", latched=True),
)
WORDS, STOP, STATE = range(3)
CLEAR = 10**9  # ns
SMALL = Limits(free_bytes=0, lead=0.0, linger=0.0, flush_period=0.05)


def cdr(text):
    """A std_msgs/String as it is on the wire."""
    data = text.encode() + b"\0"
    return b"\0\1\0\0" + struct.pack("<I", len(data)) + data


def said(text, received=None, topic=WORDS, lost=0, note=None, sequence=1):
    return Message(topic, received or time.time_ns(), 0, sequence, cdr(text), lost, note)


def attempt(running, outcome="", text="open the drawer", stamp=None):
    now = stamp or time.time_ns()
    return said("", now, note=Attempt(now, 1, running, text, outcome, outcome))


def recorder(folder, limits=SMALL, log=lambda text: None):
    return Recorder(folder, TOPICS, limits, log)


def by_rosbags(folder):
    """(topic, text or value) of every message, decoded with the definitions in the file."""
    store = get_typestore(Stores.EMPTY)
    found = []
    with Reader(folder) as reader:
        for connection in reader.connections:
            store.register(get_types_from_msg(connection.msgdef.data, connection.msgtype))
        for connection, _, data in reader.messages():
            found.append((connection.topic, store.deserialize_cdr(data, connection.msgtype).data))
        assert reader.message_count == len(found)
    return found


def by_mcap(path):
    """(topic, bytes) of every message, by the index."""
    from mcap.reader import make_reader

    with path.open("rb") as file:
        return [(channel.topic, message.data) for _, channel, message in make_reader(file).iter_messages()]


def by_stream(path):
    """Messages of a file that may lack its index, as mcap's stream reader gives them."""
    from mcap.exceptions import McapError
    from mcap.records import Message as Record
    from mcap.stream_reader import StreamReader

    found = []
    with path.open("rb") as file:
        try:
            found.extend(record for record in StreamReader(file).records if isinstance(record, Record))
        except McapError:
            pass
    return found


def labels(folder):
    return json.loads((folder / "episode.json").read_text())


def only(root):
    (episode,) = [path.parent for path in root.glob("*/episode.json")]
    return episode


def end(made, outcome="succeeded"):
    """End the attempt and the recorder."""
    made.put(attempt(False, outcome))
    made.stop(5.0)
