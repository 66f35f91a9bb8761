"""Answers of any action type, row period and gripper become rows of this arm, or no chunk."""

import numpy as np
import pytest

from vla_mbpo.core.chunk import ActionChunk, ActionType, JointRows
from vla_mbpo.core.observation import Observation
from vla_mbpo.core.state import RobotState
from vla_mbpo.gate.gate import Gate
from vla_mbpo.policy.foreign.actions import Decoder
from vla_mbpo.policy.foreign.description import Actions
from vla_mbpo.policy.foreign.errors import NoChunk

NONE = np.zeros((0, 7))
EASE = (np.arange(1, 17) / 16) ** 2 * (3 - np.arange(1, 17) / 8)  # from rest to rest
TURN = EASE[:, None] * np.array([0.1, -0.1, 0.0, 0.05, 0.0, 0.0, 0.1])


@pytest.fixture(scope="module")
def gate(spec):
    return Gate(spec)


def actions(kind, rows=16, period=0.05, **facts):
    width = 6 if kind.startswith("cartesian") else 7
    facts = {"columns": width, "motion": tuple(range(width)), "gripper": -1, "open": 1.0, "closed": 0.0, **facts}
    one, none = np.array(1.0), np.array(0.0)
    return Actions(**{
        "key": "actions", "rows": rows, "row_period": period, "type": kind, "scale": one, "offset": none,
        "join_rows": 4, **facts,
    })  # fmt: skip


def seen(spec, gripper=0.08):
    dark = np.zeros((16, 16, 3), np.uint8)
    return Observation(0, dark, dark, spec.home.copy(), np.zeros(7), gripper)


def decode(spec, raw, described, prefix=NONE, openings=NONE[:, 0], gripper=0.08):
    return Decoder(described, spec).decode(raw, seen(spec, gripper), prefix, openings)


def vet(gate, rows, openings):
    spec, now = gate.spec, 1_000_000_000
    chunk = ActionChunk(1, 0, now, now + 800_000_000, ActionType.JOINT_POSITION, spec.joints, spec.home.copy(),
                        spec.row_period, rows, openings)  # fmt: skip
    return gate.vet(chunk, RobotState(now, spec.home, np.zeros(7), 0.08), None, now)


@pytest.mark.parametrize("kind", ["joint_position", "joint_delta", "joint_step"])
def test_joint_types_mean_the_same_motion(spec, gate, kind):
    raw = {"joint_position": spec.home + TURN, "joint_delta": TURN, "joint_step": np.diff(TURN, axis=0, prepend=0.0)}
    rows, openings = decode(spec, raw[kind], actions(kind))
    np.testing.assert_allclose(rows, spec.home + TURN, atol=1e-9)
    assert isinstance(vet(gate, rows, openings), JointRows)


def test_a_cartesian_delta_is_a_pose_in_the_frame_of_the_tool(spec, gate):
    rows, openings = decode(spec, EASE[:, None] * np.array([0, 0, 0.05, 0, 0, 0]), actions("cartesian_delta"))
    before, after = (gate.kinematics.tool_at(q)[0] for q in (spec.home, rows[-1]))
    np.testing.assert_allclose(after, before - [0, 0, 0.05], atol=2e-3)  # the tool points down
    assert isinstance(vet(gate, rows, openings), JointRows)


def test_a_cartesian_step_is_in_the_frame_of_the_base(spec, gate):
    raw = np.zeros((32, 6))
    raw[:, 0] = np.diff(0.06 * (np.arange(33) / 32) ** 2 * (3 - np.arange(33) / 16))
    rows, openings = decode(spec, raw, actions("cartesian_step", rows=32, period=0.025))
    before, after = (gate.kinematics.tool_at(q)[0] for q in (spec.home, rows[-1]))
    np.testing.assert_allclose(after, before + [0.06, 0, 0], atol=2e-3)
    assert rows.shape == (16, 7) and isinstance(vet(gate, rows, openings), JointRows)


def test_a_pose_that_the_arm_cannot_reach_gives_no_chunk(spec):
    with pytest.raises(NoChunk, match="reach: inverse kinematics ends .* row"):
        decode(spec, EASE[:, None] * np.array([0, 0, -2.0, 0, 0, 0]), actions("cartesian_delta"))


@pytest.mark.parametrize("rows, period, horizon", [(50, 0.02, 16), (16, 1 / 15, 16), (10, 0.1, 16), (8, 0.05, 8)])
def test_rows_of_another_period_are_read_off_at_the_robots_due_times(spec, rows, period, horizon):
    due = period * np.arange(1, rows + 1)
    raw = spec.home + 0.2 * due[:, None]
    found, openings = decode(spec, raw, actions("joint_position", rows=rows, period=period))
    np.testing.assert_allclose(found, spec.home + 0.01 * np.arange(1, horizon + 1)[:, None], atol=1e-9)
    assert openings.shape == (horizon,)


def test_scale_and_offset_are_applied_per_column(spec):
    described = actions("joint_delta", scale=np.arange(7.0), offset=np.full(7, 0.001))
    rows, _ = decode(spec, np.full((16, 7), 0.01), described)
    np.testing.assert_allclose(rows - spec.home, np.tile(0.01 * np.arange(7) + 0.001, (16, 1)), atol=1e-12)


def test_committed_rows_come_first_and_the_rest_leads_back_to_what_the_policy_wants(spec):
    prefix = spec.home + 0.02 * np.arange(1, 4)[:, None]
    rows, openings = decode(spec, spec.home + TURN, actions("joint_position"), prefix, np.full(3, 0.07))
    np.testing.assert_array_equal(rows[:3], prefix)
    np.testing.assert_array_equal(openings[:3], 0.07)
    off = (rows - spec.home - TURN)[2:, 2]  # a joint that the policy leaves alone
    np.testing.assert_allclose(off, 0.06 * np.clip([1.0, 0.8, 0.6, 0.4, 0.2, *[0.0] * 9], 0, 1), atol=1e-9)
    unled, _ = decode(spec, spec.home + TURN, actions("joint_position", join_rows=0), prefix, np.full(3, 0.07))
    np.testing.assert_allclose(unled[3:], (spec.home + TURN)[3:], atol=1e-12)


def test_the_gripper_column_closes_no_faster_than_the_gripper_can(spec):
    raw = np.hstack([np.tile(spec.home, (16, 1)), np.ones((16, 1))])
    described = actions("joint_position", columns=8, gripper=7, open=0.0, closed=1.0)
    _, openings = decode(spec, raw, described)
    reach = spec.gripper_speed * 0.05
    np.testing.assert_allclose(openings, np.maximum(0.08 - reach * np.arange(1, 17), 0.0), atol=1e-9)


def test_without_a_gripper_column_the_gripper_stays(spec):
    _, openings = decode(spec, np.tile(spec.home, (16, 1)), actions("joint_position"), gripper=0.031)
    np.testing.assert_array_equal(openings, 0.031)


def test_without_a_gripper_column_what_is_held_stays_held(spec):
    """Incident (review): 4 cm of something between the fingers became the command, and it fell."""
    prefix, closed = spec.home + 0.01 * np.arange(1, 4)[:, None], np.zeros(3)
    raw = np.tile(spec.home, (16, 1))
    _, openings = decode(spec, raw, actions("joint_position"), prefix, closed, gripper=0.04)
    np.testing.assert_array_equal(openings, 0.0)


@pytest.mark.parametrize(
    "raw, reason",
    [
        (np.zeros((16, 6)), "shape"),
        (np.zeros(112), "shape"),
        (np.full((16, 7), np.nan), "not_finite"),
        (np.full((16, 7), -np.inf, np.float32), "not_finite"),
        (np.full((16, 7), "a"), "malformed"),
        (np.zeros((16, 7), complex), "malformed"),
        (None, "malformed"),
    ],
    ids=str,
)
def test_what_is_no_array_of_that_shape_gives_no_chunk(spec, raw, reason):
    with pytest.raises(NoChunk) as caught:
        decode(spec, raw, actions("joint_delta"))
    assert caught.value.reason == reason


def test_numbers_that_overflow_when_they_are_scaled_give_no_chunk(spec):
    with pytest.raises(NoChunk, match="not_finite"), np.errstate(over="ignore"):
        decode(spec, np.full((16, 7), 1e300), actions("joint_delta", scale=np.array(1e300)))
