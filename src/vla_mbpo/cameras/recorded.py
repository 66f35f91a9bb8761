"""The pictures of a recorded episode, or of any MCAP file, in place of a camera: stamped anew when they are shown."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.cameras.files import Player, Timed
from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.record.reading import messages

_CHANNELS = {"rgb8": (0, 1, 2), "bgr8": (2, 1, 0), "rgba8": (0, 1, 2), "bgra8": (2, 1, 0), "mono8": (0, 0, 0)}
_BYTES = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}


def bag_source(path: str, topic: str, loop: bool, now: Callable[[], int]) -> Player:
    """The images of ``topic`` with the spacing of their stamps. ``path``: an MCAP file, or a folder that holds one.

    Raises:
        ConfigError: there is none.
    """
    found = Path(path).expanduser()
    bags = sorted(found.glob("*.mcap")) if found.is_dir() else [found]
    ok = bool(path) and len(bags) == 1 and bags[0].is_file()
    require(ok, "bag.path", path, "expected an MCAP file, or a folder with one")
    return Player(f"{bags[0]} {topic}", lambda: _images(bags[0], topic), loop, now)


def _images(bag: Path, topic: str) -> Iterator[Timed]:
    """Needs the ROS 2 messages; starts no node."""
    from rclpy.serialization import deserialize_message
    from sensor_msgs.msg import Image

    first = last = None
    for _, _, message in messages(bag, {topic: Image}, deserialize_message):
        stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        first = stamp if first is None else first
        if last is not None and stamp <= last:
            continue
        last = stamp
        yield (stamp - first) / 1e9, picture(message)
    require(first is not None, "bag.topic", topic, f"expected a topic with images in {bag.name}")


def picture(message: object) -> NDArray[np.uint8]:
    """RGB (height, width, 3) of a sensor_msgs/Image of eight bits. Raises ConfigError for other encodings."""
    encoding = message.encoding  # type: ignore[attr-defined]
    require(encoding in _BYTES, "bag.topic: encoding", encoding, f"expected one of {', '.join(_BYTES)}")
    height, width, step = message.height, message.width, message.step  # type: ignore[attr-defined]
    wide = _BYTES[encoding]
    try:
        rows = np.frombuffer(message.data, np.uint8).reshape(height, step)  # type: ignore[attr-defined]
        pixels = rows[:, : wide * width].reshape(height, width, wide)
    except ValueError as error:
        raise ConfigError("bag.topic", f"{width}x{height}", f"expected as many bytes as pixels ({error})") from None
    return np.ascontiguousarray(pixels[:, :, _CHANNELS[encoding]])
