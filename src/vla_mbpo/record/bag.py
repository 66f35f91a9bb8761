"""A rosbag2 folder that survives the death of its writer: an MCAP file that is whole up to its last flush."""

import fcntl
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from mcap.writer import CompressionType, Writer

from vla_mbpo.record.cdr import trimmer
from vla_mbpo.record.definitions import definition
from vla_mbpo.record.index import append_index
from vla_mbpo.record.message import Message, TopicInfo
from vla_mbpo.record.metadata import write_metadata

# rosbags' own writer keeps up to 1 MiB in memory and has no flush: 4 s of a small topic were 0 bytes after kill -9.
CHUNK = 1 << 20  # bytes; what is not yet flushed
RESERVE = 1 << 20  # bytes on disk for the file's index and the labels, freed when the episode ends


class WholeFile:
    """A file that grows only by what could be written entirely. Locked against repair while it is open. One thread."""

    def __init__(self, path: Path) -> None:
        """Raises FileExistsError or another OSError."""
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with suppress(OSError):  # not every network file system has locks
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._held = bytearray()
        self.size = 0  # bytes on disk

    def write(self, data: bytes) -> int:
        """Take bytes; ``flush`` writes them."""
        self._held += data
        return len(data)

    def tell(self) -> int:
        """Position of the next byte."""
        return self.size + len(self._held)

    def flush(self) -> None:
        """Write what was taken. When that fails (OSError) the file is as before, and what was taken is given up."""
        done = 0
        try:
            while done < len(self._held):
                done += os.write(self._file, memoryview(self._held)[done:])
        except OSError:
            os.ftruncate(self._file, self.size)
            os.lseek(self._file, self.size, os.SEEK_SET)
            self._held = bytearray()
            raise
        self.size += done
        self._held = bytearray()

    def sync(self) -> None:
        """Have the disk keep it."""
        os.fdatasync(self._file)

    def close(self) -> None:
        """Close, without a flush."""
        os.close(self._file)


class Bag:
    """One rosbag2 folder being written: ``NAME_0.mcap`` and ``metadata.yaml``. One thread.

    A flush ends a chunk. What was flushed can be read by mcap's stream reader at any time, and by everything after
    ``close`` or a repair.
    """

    def __init__(self, folder: Path, topics: Sequence[TopicInfo], reserve: int = RESERVE) -> None:
        """Make the folder. OSError: that is not possible."""
        folder.mkdir(parents=True)
        self.folder, self._topics = folder, topics
        self.file = f"{folder.name}_0.mcap"
        self._reserve = folder / ".reserve"
        if reserve:
            _allocate(self._reserve, reserve)
        self._out = WholeFile(folder / self.file)
        self._writer = Writer(self._out, CHUNK, CompressionType.ZSTD)  # type: ignore[arg-type]
        self._writer.start("ros2", "vla_mbpo recorder")
        self._channels = [self._channel(topic) for topic in topics]
        self._trim = [trimmer(definition(topic.type)) for topic in topics]
        self.counts = [0] * len(topics)
        self.pending: list[int] = [0] * len(topics)  # since the last flush
        self.begin, self.end = 0, 0
        self.broken = False
        self._metadata()

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self._out.size

    def write(self, message: Message) -> None:
        """Add a message. OSError: the disk is full; the bag is whole without what came since the last flush."""
        published = message.published or message.received
        channel, data = self._channels[message.topic], self._trim[message.topic](message.data)
        try:  # it may write a chunk
            self._writer.add_message(channel, message.received, data, published, message.sequence & 0xFFFFFFFF)
        except OSError:
            self.broken = True
            raise
        self.pending[message.topic] += 1
        self.begin = min(self.begin, message.received) if self.begin else message.received
        self.end = max(self.end, message.received)
        if self._out.tell() - self._out.size > CHUNK:
            self.flush()

    def flush(self) -> None:
        """Have everything on its way to the disk. OSError as for ``write``."""
        try:
            self._writer.flush()
        except OSError:
            self.broken = True
            raise
        for index, count in enumerate(self.pending):
            self.counts[index] += count
        self.pending = [0] * len(self._topics)

    def sync(self) -> None:
        """Have it on the disk; may take long."""
        self._out.sync()

    def close(self) -> None:
        """Write index and metadata. OSError: the index could not be written, and the bag needs ``repair``."""
        self._reserve.unlink(missing_ok=True)
        try:
            if not self.broken:
                self.flush()
                self._writer.finish()
                self._out.flush()
                self._out.sync()
        except OSError:
            self.broken = True
            raise
        finally:
            self._out.close()
            if self.broken:  # the writer's own index would name a chunk that is not there
                append_index(self.folder / self.file)
            self._metadata()

    def _channel(self, topic: TopicInfo) -> int:
        schema = self._writer.register_schema(topic.type, "ros2msg", definition(topic.type).encode())
        return self._writer.register_channel(topic.name, "cdr", schema, {"offered_qos_profiles": topic.qos})

    def _metadata(self) -> None:
        write_metadata(self.folder, self.file, self._topics, self.counts, self.begin or time.time_ns(), self.end)


def _allocate(path: Path, size: int) -> None:
    """A file that really takes its space. OSError: there is none."""
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
