"""msgpack with numpy arrays as openpi's servers and clients write them. What is read is data: numbers and text only.

An array is a map with the byte keys ``__ndarray__``, ``data``, ``dtype`` and ``shape``, a numpy scalar one with
``__npgeneric__``, ``data`` and ``dtype``. Arrays of objects, for which other codecs run what the message says, are
refused, and so is whatever else this does not know.
"""

import math
from typing import Any

import msgpack
import numpy as np

from vla_mbpo.policy.foreign.errors import NoChunk

KINDS = {f"{order}{kind}" for order in "<>" for kind in ("i2", "i4", "i8", "u2", "u4", "u8", "f2", "f4", "f8")}
KINDS |= {"|b1", "|i1", "|u1"}
ARRAY = {b"__ndarray__", b"data", b"dtype", b"shape"}
SCALAR = {b"__npgeneric__", b"data", b"dtype"}
MOST_DIMENSIONS, MOST_KEYS, MOST_ITEMS, LONGEST_TEXT = 8, 256, 100_000, 65_536


def pack(content: dict[str, Any]) -> bytes:
    """Bytes of a map of text, numbers, lists, maps and arrays. TypeError: something else is in it."""
    return msgpack.packb(content, default=_packed)


def unpack(message: bytes, limit: int) -> dict[str, Any]:
    """The map in ``message``. NoChunk: it is longer than ``limit`` bytes, or not such a map."""
    if len(message) > limit:
        raise NoChunk("oversized", f"{len(message)} bytes, at most {limit} are taken")
    try:
        found = msgpack.unpackb(
            message, raw=False, strict_map_key=True, object_pairs_hook=_unpacked, ext_hook=_no_extension,
            max_str_len=min(LONGEST_TEXT, limit), max_bin_len=limit, max_array_len=MOST_ITEMS, max_map_len=MOST_KEYS,
            max_ext_len=0,
        )  # fmt: skip
    except Exception as error:  # of many classes, and all mean the same
        raise NoChunk("malformed", f"not msgpack of numbers and text: {type(error).__name__}: {error}") from error
    if not isinstance(found, dict):
        raise NoChunk("malformed", f"{type(found).__name__} instead of a map")
    return found


def _packed(value: Any) -> dict[bytes, Any]:
    if isinstance(value, np.ndarray) and value.dtype.str in KINDS:
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    if isinstance(value, np.generic) and value.dtype.str in KINDS:
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"cannot be sent: {type(value).__name__} {getattr(value, 'dtype', '')}")


def _unpacked(pairs: list[tuple[Any, Any]]) -> Any:
    """A map, or the array or scalar that it stands for."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key comes twice")
    if all(isinstance(key, str) for key in found):
        return found
    if set(found) == ARRAY and found[b"__ndarray__"] is True:
        return _array(found[b"data"], found[b"dtype"], found[b"shape"])
    if set(found) == SCALAR and found[b"__npgeneric__"] is True:
        return _scalar(found[b"data"], found[b"dtype"])
    raise ValueError(f"a map with the keys {sorted(map(repr, found))[:8]}")


def _array(data: Any, kind: Any, shape: Any) -> np.ndarray:
    if kind not in KINDS:
        raise ValueError(f"an array of dtype {kind!r}")
    sizes = isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)
    if not sizes or len(shape) > MOST_DIMENSIONS:
        raise ValueError(f"an array of shape {shape!r}")
    dtype = np.dtype(kind)
    if not isinstance(data, bytes) or len(data) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"an array of shape {shape} and dtype {kind} in {len(data)} bytes")
    return np.frombuffer(data, dtype).reshape(shape)


def _scalar(value: Any, kind: Any) -> Any:
    if isinstance(value, str) and isinstance(kind, str) and kind[1:2] == "U":  # numpy's text
        return value
    if kind not in KINDS or type(value) not in (bool, int, float):
        raise ValueError(f"a scalar of dtype {kind!r}")
    return np.dtype(kind).type(value)


def _no_extension(code: int, _: bytes) -> Any:
    raise ValueError(f"extension type {code}")
