"""Reads a recorded bag: serialised messages, of the definitions that are installed here or not at all."""

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mcap.reader import make_reader

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.record.definitions import definition, installed


def messages(
    bag: Path, kinds: Mapping[str, Any], decode: Callable[[bytes, Any], Any] = lambda data, _: data
) -> Iterator[tuple[int, str, Any]]:
    """When each message came [ns], its topic and its CDR, in the order in which they came; one chunk is in memory.

    Args:
        bag: an MCAP file.
        kinds: topics to be read, and the message class that each is expected to have.
        decode: makes of CDR and class what is given out in place of the CDR; rclpy's ``deserialize_message``, say.

    Raises:
        ConfigError: unreadable, damaged or without an index, or of other definitions than those installed here.
    """
    checked = set()
    try:
        with bag.open("rb") as file:
            for schema, channel, message in make_reader(file).iter_messages(list(kinds)):
                if channel.id not in checked:
                    _check_definition(schema, kinds[channel.topic])
                    checked.add(channel.id)
                yield message.log_time, channel.topic, decode(message.data, kinds[channel.topic])
    except ConfigError:
        raise
    except Exception as error:  # whatever the libraries make of a damaged file
        raise ConfigError("bag", bag.name, f"a readable recording ({type(error).__name__}: {error})") from error


def _check_definition(schema: Any, kind: Any) -> None:
    """A message of another version of its type would be read as numbers that were never said."""
    name = f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"
    same = schema.name == name and _fields(schema.data.decode()) == _fields(definition(name, _share))
    require(same, "message type", schema.name, f"{name} as it is installed here")


def _fields(text: str) -> list[list[str]]:
    lines = (line.split("#")[0].split() for line in text.splitlines())
    return [line for line in lines if line]


def _share(package: str) -> Path:
    """As ``installed``, also where no ROS environment was set up: training is started by hand."""
    try:
        return installed(package)
    except (LookupError, OSError):
        return Path(sys.prefix, "share", package)
