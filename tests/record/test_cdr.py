"""Trimming keeps every message and cuts off what is none of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from vla_mbpo.record.cdr import trimmer
from vla_mbpo.record.definitions import definition

POINT, PATH = "trajectory_msgs/msg/JointTrajectoryPoint", "trajectory_msgs/msg/JointTrajectory"
NUMBERS = st.lists(st.floats(-1, 1), max_size=4)


def store_of(*kinds):
    store = get_typestore(Stores.EMPTY)
    for kind in kinds:
        store.register(get_types_from_msg(definition(kind), kind))
    return store


@pytest.fixture(scope="module")
def store():
    return store_of(PATH)


@given(
    st.lists(st.tuples(NUMBERS, NUMBERS), max_size=4),
    st.lists(st.text("ab", max_size=5), max_size=4),
    st.integers(0, 40),
)
def test_what_follows_a_message_is_cut_off_and_nothing_else(store, points, names, extra):
    data = trajectory(store, points, names)
    padded = data + bytes(-len(data) % 4)
    assert trimmer(definition(PATH))(padded + bytes(extra * 4)) == padded


def trajectory(store, points, names):
    """Serialised, with positions and velocities, and no accelerations or efforts."""
    types = store.types
    none = np.zeros(0)
    time = types["builtin_interfaces/msg/Time"](1, 2)
    after = types["builtin_interfaces/msg/Duration"](3, 4)
    made = [types[POINT](np.array(p), np.array(v), none, none, after) for p, v in points]
    message = types[PATH](types["std_msgs/msg/Header"](time, "base"), names, made)
    return bytes(store.serialize_cdr(message, PATH))


def test_a_message_that_ends_too_early_stays_as_it_is(store):
    data = trajectory(store, [([1.0], [2.0])], ["a"])
    assert trimmer(definition(PATH))(data[:20]) == data[:20]


@pytest.mark.parametrize(
    "kind", ["sensor_msgs/msg/CameraInfo", "diagnostic_msgs/msg/DiagnosticArray", "vla_mbpo_msgs/msg/ActionChunkSet"]
)
def test_definitions_are_complete(kind):
    assert kind in store_of(kind).fielddefs
