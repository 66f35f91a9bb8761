"""Where a serialised message really ends.

The middleware estimates sizes: for an empty sequence of doubles, as in a JointTrajectory without accelerations, it
counts bytes that it does not write, and the message carries as many after its end. Strict readers refuse that, rosbags
among them (it allows three).
"""

import re
import struct
from collections.abc import Callable
from functools import cache, partial

_SIZES = {"bool": 1, "byte": 1, "char": 1, "float32": 4, "float64": 8} | {
    f"{sign}int{bits}": bits // 8 for sign in ("", "u") for bits in (8, 16, 32, 64)
}
_FIELD = re.compile(r"^\s*([A-Za-z][\w/]*)(?:<=\d+)?(\[(<=)?(\d*)\])?\s+[A-Za-z]\w*\s*(=)?")
_COUNT = struct.Struct("<I")

Step = Callable[[memoryview, int], int]  # (data after the encapsulation, position) -> position after it


def trimmer(definition: str) -> Callable[[bytes], bytes]:
    """A function that cuts off what follows the message. ``definition``: as ``definitions.definition`` gives it."""
    head, *others = re.split(r"={80}\nMSG: ", definition)
    texts = {"": head, **{name: body for name, _, body in (other.partition("\n") for other in others)}}
    if "wstring" in definition:  # of which two encodings are in use
        return lambda data: data
    step = _message(texts, "")

    def trim(data: bytes) -> bytes:
        if data[1:2] != b"\1":  # not little-endian plain CDR
            return data
        try:
            end = (7 + step(memoryview(data)[4:], 0)) // 4 * 4
        except struct.error:
            return data
        return data if end >= len(data) else data[:end]

    return trim


def _message(texts: dict[str, str], name: str) -> Step:
    @cache
    def made(name: str) -> Step:
        package = name.split("/")[0]
        steps = []
        for line in texts[name].splitlines():
            match = _FIELD.match(line.split("#")[0])
            if match is not None and not match[5]:
                steps.append(_field(match, partial(nested, package)))

        def walk(data: memoryview, at: int) -> int:
            for step in steps:
                at = step(data, at)
            return at

        return walk

    def nested(package: str, kind: str) -> Step:
        return made(_resolve(texts, kind, package))

    return made(name)


def _resolve(texts: dict[str, str], kind: str, package: str) -> str:
    for name in (kind.replace("/msg/", "/"), f"{package}/{kind}"):
        if name in texts:
            return name
    (found,) = [name for name in texts if name.endswith(f"/{kind}")]  # of the message's own package
    return found


def _field(match: re.Match[str], message: Callable[[str], Step]) -> Step:
    kind, array, bound, count = match[1], match[2], match[3], match[4]
    size = _SIZES.get(kind, 0)
    one = _number(size) if size else _string if kind == "string" else message(kind)
    if not array:
        return one
    if count and not bound:
        return _numbers(size, int(count)) if size else _repeated(one, int(count))
    return _sequence(one, size)


def _number(size: int) -> Step:
    return lambda data, at: -(-at // size) * size + size


def _numbers(size: int, count: int) -> Step:
    return lambda data, at: -(-at // size) * size + size * count


def _string(data: memoryview, at: int) -> int:
    at = -(-at // 4) * 4
    return at + 4 + _COUNT.unpack_from(data, at)[0]


def _repeated(one: Step, count: int) -> Step:
    def walk(data: memoryview, at: int) -> int:
        for _ in range(count):
            at = one(data, at)
        return at

    return walk


def _sequence(one: Step, size: int) -> Step:
    def walk(data: memoryview, at: int) -> int:
        at = -(-at // 4) * 4
        count, at = _COUNT.unpack_from(data, at)[0], at + 4
        if size:
            return -(-at // size) * size + size * count if count else at
        for _ in range(count):
            at = one(data, at)
        return at

    return walk
