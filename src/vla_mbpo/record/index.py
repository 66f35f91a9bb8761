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
_HEAD = struct.Struct("<BQ")  # kind and length of a record


@dataclass
class Scan:
    """What a file holds.

    Attributes:
        end: where its last whole chunk with its message indexes ends [bytes].
        whole: it ends with an index and footer.
        counts: messages by channel.
        begin, finish: of the messages' log times [ns].
    """

    end: int = 0
    whole: bool = False
    schemas: dict[int, Schema] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    chunks: list[ChunkIndex] = field(default_factory=list)
    counts: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    begin: int = 0
    finish: int = 0


def scan(path: Path) -> Scan:
    """Read a file up to its footer, or to where it was cut off or damaged. OSError."""
    found = Scan()
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            return found
        found.end = file.tell()
        chunk: ChunkIndex | None = None
        counted: dict[int, int] = {}
        expected: dict[int, int] = {}
        while (record := _record(file)) is not None:
            kind, content, at = record
            if kind == Opcode.MESSAGE_INDEX and chunk is not None:
                index = MessageIndex.read(_stream(content))
                chunk.message_index_offsets[index.channel_id] = at
                counted[index.channel_id] = len(index.records)
                chunk.message_index_length += _HEAD.size + len(content)
                if chunk.message_index_offsets.keys() == expected.keys():
                    _take(found, chunk, counted, file.tell())
                    chunk = None
            elif kind == Opcode.CHUNK:
                made = _chunk(content, at, found)
                if made is None:
                    break
                chunk, expected = made
                counted = {}
            elif kind == Opcode.HEADER:
                found.end = file.tell()
            elif kind == Opcode.FOOTER:
                found.whole = file.read(len(MAGIC)) == MAGIC
                break
    return found


def append_index(path: Path, found: Scan | None = None) -> Scan:
    """Cut off what is not whole, and write an index. OSError: the file is as before, but for what was not whole.

    ConfigError: it is no MCAP file; nothing is written.
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


def _stream(content: bytes) -> ReadDataStream:
    return ReadDataStream(BytesIO(content))


def _chunk(content: bytes, at: int, found: Scan) -> tuple[ChunkIndex, dict[int, int]] | None:
    """Index of a chunk and its messages by channel; None: it is damaged. Its definitions go into ``found``."""
    counts: dict[int, int] = defaultdict(int)
    try:
        chunk = Chunk.read(_stream(content))
        records = breakup_chunk(chunk, validate_crc=True)
    except Exception:  # what damaged content makes the decoders raise has no common type
        return None
    for record in records:
        if isinstance(record, Schema):
            found.schemas[record.id] = record
        elif isinstance(record, Channel):
            found.channels[record.id] = record
        elif isinstance(record, Message):
            counts[record.channel_id] += 1
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
