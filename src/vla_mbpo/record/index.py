"""The index at the end of an MCAP file, made anew from its chunks: in place, without room for a second file."""

import os
import struct
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from mmap import PROT_READ, mmap
from pathlib import Path
from typing import IO, Any

from mcap.data_stream import ReadDataStream, RecordBuilder
from mcap.opcode import Opcode
from mcap.records import (
    Channel,
    Chunk,
    ChunkIndex,
    DataEnd,
    Footer,
    Header,
    Message,
    MessageIndex,
    Schema,
    Statistics,
)
from mcap.stream_reader import breakup_chunk

from vla_mbpo.core.errors import require

MAGIC = b"\x89MCAP0\r\n"
_KINDS: dict[int, Any] = {
    Opcode.MESSAGE_INDEX: MessageIndex, Opcode.SCHEMA: Schema, Opcode.CHANNEL: Channel, Opcode.CHUNK_INDEX: ChunkIndex
}  # fmt: skip
_OURS = frozenset(Opcode) | frozenset(range(0x80, 0x100))  # of MCAP, and free for anybody
_HEAD = struct.Struct("<BQ")  # kind and length of a record


@dataclass
class Scan:
    """What a file holds.

    Attributes:
        end: where the last chunk that is whole ends, with its message indexes if it has them [bytes].
        whole: it ends with a footer, and an index of just the chunks that can be read.
        damaged: chunks and records that cannot be read, or whose channels stood in one of those; the index leaves them
            out.
        counts: messages by channel.
        begin, finish: of the messages' log times [ns].
    """

    end: int = 0
    whole: bool = False
    damaged: int = 0
    schemas: dict[int, Schema] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    chunks: list[ChunkIndex] = field(default_factory=list)
    counts: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    begin: int = 0
    finish: int = 0


def scan(path: Path) -> Scan:
    """Read a file up to its footer, or to where it was cut off; what is damaged is passed over. OSError."""
    found = _scan(path, Scan())
    if found.damaged:  # definitions that stood there stand again at the end, if it was reached
        found = _scan(path, Scan(schemas=found.schemas, channels=found.channels))
    found.channels = {number: one for number, one in found.channels.items() if one.schema_id in found.schemas}
    return found


def _scan(path: Path, found: Scan) -> Scan:
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            return found
        found.end = file.tell()
        chunk: ChunkIndex | None = None
        counted: dict[int, int] = {}
        expected: dict[int, int] = {}
        listed: list[int] = []  # places of chunks, in the index
        for kind, content, at in _records(file, found):
            read = _read(kind, content)
            found.damaged += read is None and (kind in _KINDS or kind not in _OURS)
            if isinstance(read, MessageIndex) and chunk is not None:
                chunk.message_index_offsets[read.channel_id] = at
                counted[read.channel_id] = len(read.records)
                chunk.message_index_length += _HEAD.size + len(content)
                if chunk.message_index_offsets.keys() == expected.keys():
                    _take(found, chunk, counted)
                    found.end, chunk = file.tell(), None
            elif isinstance(read, Schema | Channel):
                _define(found, read, anew=False)  # nothing says here whether it is as it was written
            elif isinstance(read, ChunkIndex):
                listed.append(read.chunk_start_offset)
            elif kind == Opcode.CHUNK:
                made = _chunk(content, at, found)
                found.damaged += made is None
                found.end = found.end if made is None else file.tell()
                # Without one of its channels it stays where it is, and out of the index.
                chunk, expected = made if made is not None and _known(made[1], found) else (None, {})
                found.damaged += made is not None and chunk is None
                counted = {}
            elif kind == Opcode.HEADER:
                found.end = file.tell()
            elif kind == Opcode.FOOTER:
                readable = [one.chunk_start_offset for one in found.chunks]
                found.whole = file.read(len(MAGIC)) == MAGIC and listed == readable
                break
    return found


def append_index(path: Path, found: Scan | None = None) -> Scan:
    """Cut off what is not whole at the end, and write an index.

    ConfigError: it is no MCAP file; nothing is written. OSError: the file is as before, but for what was not whole.
    """
    found = found or scan(path)
    if found.whole:
        return found
    with path.open("r+b") as file:
        if found.end == 0:
            begin = file.read(len(MAGIC))
            require(MAGIC.startswith(begin), "bag", str(path), "an MCAP file, or an empty one")
            file.seek(0)
            file.write(_header())
            found.end = file.tell()
        file.truncate(found.end)
        file.seek(found.end)
        try:
            file.write(_summary(found))
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            os.ftruncate(file.fileno(), found.end)
            raise
    found.whole = True
    return found


def _records(file: IO[bytes], found: Scan) -> Iterator[tuple[int, bytes, int]]:
    """Kind, content and place of each record. Where one has no end, it goes on with the next chunk that is one."""
    while True:
        at = file.tell()
        if (record := _record(file)) is None:
            if (record := _next_chunk(file, at + 1)) is None:
                return
            found.damaged += 1
        yield record


def _record(file: IO[bytes]) -> tuple[int, bytes, int] | None:
    """None: there is no whole one."""
    at, head = file.tell(), file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    kind, length = _HEAD.unpack(head)
    if not kind or length > os.fstat(file.fileno()).st_size - file.tell():
        return None
    return kind, file.read(length), at


def _next_chunk(file: IO[bytes], begin: int) -> tuple[int, bytes, int] | None:
    """The first one from ``begin`` on whose checksum is right."""
    file.seek(begin)
    with mmap(file.fileno(), 0, prot=PROT_READ) as content:
        at = content.find(bytes([Opcode.CHUNK]), begin)
        while at >= 0:
            file.seek(at)
            record = _record(file)
            if record is not None and _breakup(record[1]) is not None:
                return record
            at = content.find(bytes([Opcode.CHUNK]), at + 1)
    return None


def _read(kind: int, content: bytes) -> Any:
    """A record outside the chunks; None: it is damaged, or of a kind that need not be read."""
    try:
        return _KINDS[kind].read(_stream(content)) if kind in _KINDS else None
    except Exception:  # what damaged content makes the decoders raise has no common type
        return None


def _stream(content: bytes) -> ReadDataStream:
    return ReadDataStream(BytesIO(content))


def _breakup(content: bytes) -> tuple[Chunk, list[Any]] | None:
    """A chunk and its records; None: it is damaged."""
    try:
        chunk = Chunk.read(_stream(content))
        return chunk, breakup_chunk(chunk, validate_crc=True)
    except Exception:  # as in _read
        return None


def _chunk(content: bytes, at: int, found: Scan) -> tuple[ChunkIndex, dict[int, int]] | None:
    """Index of a chunk and its messages by channel; None: it is damaged. Its definitions go into ``found``."""
    if (made := _breakup(content)) is None:
        return None
    chunk, counts = made[0], defaultdict[int, int](int)
    for record in made[1]:
        if isinstance(record, Message):
            counts[record.channel_id] += 1
        else:
            _define(found, record)
    index = ChunkIndex(
        chunk_length=_HEAD.size + len(content),
        chunk_start_offset=at,
        compression=chunk.compression,
        compressed_size=len(chunk.data),
        message_end_time=chunk.message_end_time,
        message_index_length=0,
        message_index_offsets={},
        message_start_time=chunk.message_start_time,
        uncompressed_size=chunk.uncompressed_size,
    )
    return index, counts


def _known(counts: dict[int, int], found: Scan) -> bool:
    """Whether it can be said what the messages of these channels are."""
    return all(number in found.channels and found.channels[number].schema_id in found.schemas for number in counts)


def _define(found: Scan, record: Any, anew: bool = True) -> None:
    """Take a schema or channel; without ``anew`` only one that is not known."""
    kept: dict[int, Any] = found.schemas if isinstance(record, Schema) else found.channels
    if isinstance(record, Schema | Channel) and (anew or record.id not in kept):
        kept[record.id] = record


def _take(found: Scan, chunk: ChunkIndex, counts: dict[int, int]) -> None:
    found.chunks.append(chunk)
    for channel, count in counts.items():
        found.counts[channel] += count
    start = chunk.message_start_time
    found.begin = min(found.begin, start) if found.begin else start
    found.finish = max(found.finish, chunk.message_end_time)


def _header() -> bytes:
    builder = RecordBuilder()
    Header("ros2", "vla_mbpo repair").write(builder)
    return MAGIC + builder.end()


def _summary(found: Scan) -> bytes:
    """Everything after the last chunk."""
    builder = RecordBuilder()
    DataEnd(0).write(builder)
    data_end = builder.end()
    records: list[Any] = [*found.schemas.values(), *found.channels.values()]
    records.append(
        Statistics(
            attachment_count=0,
            channel_count=len(found.channels),
            channel_message_counts=dict(found.counts),
            chunk_count=len(found.chunks),
            message_count=sum(found.counts.values()),
            metadata_count=0,
            message_start_time=found.begin,
            message_end_time=found.finish,
            schema_count=len(found.schemas),
        )
    )
    for record in [*records, *found.chunks]:
        record.write(builder)
    summary, start = builder.end(), found.end + len(data_end)
    crc = zlib.crc32(struct.pack("<BQQQ", Opcode.FOOTER, 8 + 8 + 4, start, 0), zlib.crc32(summary))
    Footer(summary_start=start, summary_offset_start=0, summary_crc=crc).write(builder)
    return data_end + summary + builder.end() + MAGIC
