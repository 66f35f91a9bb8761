"""msgpack with numpy arrays: openpi's format both ways, and nothing else gets in."""

import msgpack
import numpy as np
import pytest
from foreign_server import pack, unpack_array
from hypothesis import given
from hypothesis import strategies as st

from vla_mbpo.policy.foreign import wire
from vla_mbpo.policy.foreign.errors import NoChunk

ARRAY = {b"__ndarray__": True, b"data": bytes(16), b"dtype": "<f8", b"shape": [2]}


@pytest.mark.parametrize("kind", ["<f4", "<f8", "<f2", "|u1", "<i8", "|b1", ">f4"])
def test_arrays_go_both_ways_as_openpi_writes_them(kind):
    array = np.arange(24).reshape(2, 3, 4).astype(kind)
    sent = {"image": array, "nested": {"number": np.float32(1.5)}, "prompt": "push"}
    theirs = msgpack.unpackb(wire.pack(sent), object_hook=unpack_array)
    ours = wire.unpack(pack(sent), 10_000)
    for found in (theirs, ours):
        np.testing.assert_array_equal(found["image"], array)
        assert found["image"].dtype == array.dtype
        assert (found["nested"]["number"], found["prompt"]) == (1.5, "push")


@pytest.mark.parametrize(
    "value",
    [
        {**ARRAY, b"dtype": "|O"},
        {**ARRAY, b"dtype": "O"},
        {**ARRAY, b"dtype": "<M8[s]"},
        {**ARRAY, b"dtype": [["a", "<f8"]]},
        {**ARRAY, b"dtype": "<f8,<f8"},
        {**ARRAY, b"dtype": "|V8"},
        {**ARRAY, b"shape": [3]},
        {**ARRAY, b"shape": [-2, -1]},
        {**ARRAY, b"shape": [2**62, 4]},
        {**ARRAY, b"shape": [True, 2]},
        {**ARRAY, b"shape": [1] * 8 + [2]},
        {**ARRAY, b"shape": 2},
        {**ARRAY, b"data": "text"},
        {**ARRAY, b"__ndarray__": False},
        {**ARRAY, b"kind": b"O"},
        {b"nd": True, b"type": "|O8", b"kind": b"O", b"shape": [1], b"data": bytes(8)},  # another codec's object array
        {b"__npgeneric__": True, b"data": bytes(8), b"dtype": "|O"},
        {b"__npgeneric__": True, b"data": [1], b"dtype": "<f8"},
        msgpack.ExtType(5, b"x"),
        msgpack.Timestamp(1),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_no_array_of_numbers_is_refused(value):
    with pytest.raises(NoChunk, match="malformed"):
        wire.unpack(msgpack.packb({"actions": value}), 10_000)


@pytest.mark.parametrize(
    "message",
    [b"", b"\x81", b"\xc1", msgpack.packb([1]), msgpack.packb({}) + b"x", b"\x91" * 5000, b"\xdf\xff\xff\xff\xff",
     b"\x82\xa1a\x01\xa1a\x02", msgpack.packb({1: 2}), msgpack.packb({"a": list(range(200_000))})],
    ids=["empty", "cut", "reserved", "list", "more", "deep", "huge map", "twice", "number as key", "long list"],
)  # fmt: skip
def test_what_is_no_map_is_refused(message):
    with pytest.raises(NoChunk, match="malformed"):
        wire.unpack(message, 1_000_000)


def test_a_message_beyond_the_limit_is_not_even_looked_at():
    with pytest.raises(NoChunk, match="oversized"):
        wire.unpack(pack({"actions": np.zeros(100)}), 500)


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_become_a_map_or_be_refused(message):
    try:
        assert isinstance(wire.unpack(message, 1000), dict)
    except NoChunk as error:
        assert error.reason == "malformed"


def test_objects_are_not_sent_either():
    with pytest.raises(TypeError, match="cannot be sent"):
        wire.pack({"image": np.array([object()])})
