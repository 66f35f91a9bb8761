import numpy as np
import pytest
from builtin_interfaces.msg import Duration
from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import JointState

from vla_mbpo.arm.commitment import Commitment
from vla_mbpo.core.chunk import ActionChunk, ActionType, JointRows
from vla_mbpo.core.state import RobotState, Trajectory
from vla_mbpo.core.verdict import Reason
from vla_mbpo.nodes import convert

JOINTS = ("a", "b", "c")


def over_the_wire(message):
    return deserialize_message(serialize_message(message), type(message))


def same(one, other):
    for name, value in vars(one).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, getattr(other, name))
        else:
            assert value == getattr(other, name), name


@given(st.integers(0, 2**31 * 10**9 - 1))
def test_times_survive(ns):
    assert convert.to_ns(convert.to_time(ns)) == ns
    assert convert.to_ns(convert.to_duration(ns)) == ns


@pytest.mark.parametrize("gripper", [0, 4])
def test_chunks_and_rows_survive(gripper):
    rows = np.arange(12.0).reshape(4, 3)
    common = (9, 2, 10**18 + 5, 10**18 + 7)
    chunk = ActionChunk(*common, ActionType.JOINT_DELTA, JOINTS, np.ones(3), 50_000_000, rows, np.ones(gripper), 3)
    same(chunk, convert.from_chunk(over_the_wire(convert.to_chunk(chunk, 1, "base"))))
    approved = JointRows(*common, JOINTS, 50_000_000, rows, np.ones(gripper), 3, epoch=6)
    message = over_the_wire(convert.to_approved(approved, 1, "base", "gate", "fine"))
    same(approved, convert.from_approved(message))
    assert (message.approved_by, message.reason, message.horizon) == ("gate", "fine", 4)


def test_a_chunk_whose_sizes_disagree_is_an_error():
    chunk = ActionChunk(1, 0, 1, 2, ActionType.JOINT_POSITION, JOINTS, np.ones(3), 5, np.ones((4, 3)), np.ones(4))
    for field, value in (("horizon", 5), ("positions", [1.0] * 11), ("gripper", [1.0] * 3), ("action_type", 9)):
        message = convert.to_chunk(chunk, 1, "base")
        setattr(message, field, value)
        with pytest.raises(ValueError):
            convert.from_chunk(message)


@pytest.mark.parametrize("velocities", [0, 2])
def test_trajectories_survive(velocities):
    points = np.arange(6.0).reshape(2, 3)
    trajectory = Trajectory(7, JOINTS, (20_000_000, 40_000_000), points, points[:velocities])
    same(trajectory, convert.from_trajectory(over_the_wire(convert.to_trajectory(trajectory))))


@pytest.mark.parametrize("broken", [{"gripper": [0.1]}, {"commanded_positions": [0.0, 0.0]}, {"row_period": None}])
def test_a_commitment_whose_parts_disagree_is_refused(broken):
    rows = np.zeros((3, 3))
    good = Commitment(5, JOINTS, 3, 10, 50, rows, np.zeros(3), np.ones(3), np.zeros(3), 1, 2, 0)
    message = convert.to_commitment(good, "base")
    for field, value in broken.items():
        setattr(message, field, Duration() if value is None else value)
    with pytest.raises(ValueError, match=next(iter(broken)).split("_")[0]):
        convert.from_commitment(message)


def test_a_commitment_survives():
    rows = np.arange(6.0).reshape(2, 3)
    commitment = Commitment(5, JOINTS, 3, 10, 50, rows, np.array([0.1, np.nan]), np.ones(3), np.zeros(3), 1, 2, 0)
    same(commitment, convert.from_commitment(over_the_wire(convert.to_commitment(commitment, "base"))))


def test_joint_states_are_read_by_name(spec):
    state = RobotState(12, np.arange(7.0), np.arange(7.0) / 10, 0.06)
    message = over_the_wire(convert.JointStateWriter(spec).write(state))
    same(state, convert.JointStateReader(spec).read(message))
    turned = JointState(name=message.name[::-1], position=message.position[::-1], velocity=message.velocity[::-1])
    turned.header = message.header
    same(state, convert.JointStateReader(spec).read(turned))


def test_incomplete_joint_states_are_not_read(spec):
    reader = convert.JointStateReader(spec)
    message = convert.JointStateWriter(spec).write(RobotState(12, np.zeros(7), np.zeros(7), 0.06))
    assert reader.read(JointState(name=["x"], position=[0.0], velocity=[0.0])) is None
    assert reader.read(JointState(name=message.name, position=message.position)) is None
    assert reader.read(message) is not None


def test_images_survive_and_are_not_copied_when_read():
    image = np.random.default_rng(0).integers(0, 255, (4, 6, 3), dtype=np.uint8)
    message = over_the_wire(convert.to_image(image[:, ::-1], 5, "camera"))
    read = convert.from_image(message)
    np.testing.assert_array_equal(read, image[:, ::-1])
    assert read.base is not None
    message.encoding = "bgr8"
    with pytest.raises(ValueError, match="bgr8"):
        convert.from_image(message)


def test_a_reason_is_typed_and_readable():
    message = convert.to_reason(Reason("joint_velocity", 3, "a", 2.0, 1.0))
    assert (message.check, message.row, message.subject, message.value, message.limit) == (
        "joint_velocity", 3, "a", 2.0, 1.0,
    )  # fmt: skip
    assert message.text == "joint_velocity: row 3 a 2 (limit 1)"
