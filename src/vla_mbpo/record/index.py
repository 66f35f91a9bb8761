"""The index at the end of an MCAP file, made anew from its chunks: in place, without room for a second file."""

import os
import struct
import zlib
from collections import defaultdict
from dataclasses import dataclass, field
from io import BytesIO
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
_HEAD = struct.Struct("<BQ")  # kind and length of a record


@dataclass
class Scan:
    """What a file holds.

    Attributes:
        end: where its last whole chunk with its message indexes ends [bytes].
        whole: it ends with a footer, and an index of just the chunks that can be read.
        damaged: chunks that cannot be read, or whose channels stood in one of those; the index leaves them out.
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
    """Read a file up to its footer, or to where it was cut off or is no sequence of records any more. OSError."""
    found = _scan(path, Scan())
    if found.damaged:  # definitions that stood there stand again at the end, if it was reached
        found = _scan(path, Scan(schemas=found.schemas, channels=found.channels))
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
        while (record := _record(file)) is not None:
            kind, content, at = record
            read = _read(kind, content)
            if isinstance(read, MessageIndex) and chunk is not None:
                chunk.message_index_offsets[read.channel_id] = at
                counted[read.channel_id] = len(read.records)
                chunk.message_index_length += _HEAD.size + len(content)
                if chunk.message_index_offsets.keys() == expected.keys():
                    _take(found, chunk, counted, file.tell())
                    chunk = None
            elif isinstance(read, Schema | Channel):
                _define(found, read)
            elif isinstance(read, ChunkIndex):
                listed.append(read.chunk_start_offset)
            elif kind == Opcode.CHUNK:
                found.damaged += chunk is not None  # its message indexes are
                chunk, expected = _chunk(content, at, found) or (None, {})
                found.damaged += chunk is None
                counted = {}
            elif kind == Opcode.HEADER:
                found.end = file.tell()
            elif kind == Opcode.FOOTER:
                found.damaged += chunk is not None
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


def _record(file: IO[bytes]) -> tuple[int, bytes, int] | None:
    """Kind, content and place of the next record; None: there is no whole one."""
    at, head = file.tell(), file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    kind, length = _HEAD.unpack(head)
    if not kind or length > os.fstat(file.fileno()).st_size - file.tell():
        return None
    return kind, file.read(length), at


def _read(kind: int, content: bytes) -> Any:
    """A record outside the chunks; None: it is damaged, or of a kind that need not be read."""
    try:
        return _KINDS[kind].read(_stream(content)) if kind in _KINDS else None
    except Exception:  # what damaged content makes the decoders raise has no common type
        return None


def _stream(content: bytes) -> ReadDataStream:
    return ReadDataStream(BytesIO(content))


def _chunk(content: bytes, at: int, found: Scan) -> tuple[ChunkIndex, dict[int, int]] | None:
    """Index of a chunk and its messages by channel; None: it is damaged. Its definitions go into ``found``."""
    counts: dict[int, int] = defaultdict(int)
    try:
        chunk = Chunk.read(_stream(content))
        records = breakup_chunk(chunk, validate_crc=True)
    except Exception:  # as in _read
        return None
    for record in records:
        if isinstance(record, Message):
            counts[record.channel_id] += 1
        else:
            _define(found, record)
    if not counts.keys() <= found.channels.keys():
        return None
    made = ChunkIndex(
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
    return made, counts


def _define(found: Scan, record: Any) -> None:
    if isinstance(record, Schema):
        found.schemas[record.id] = record
    elif isinstance(record, Channel):
        found.channels[record.id] = record


def _take(found: Scan, chunk: ChunkIndex, counts: dict[int, int], end: int) -> None:
    found.chunks.append(chunk)
    found.end = end
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
