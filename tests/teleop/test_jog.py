"""A person's commands become chunks that join the motion there is, and pass or fail the gate's checks."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_mbpo.core.chunk import JointRows
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.state import RobotState
from vla_mbpo.gate.gate import Gate
from vla_mbpo.paths import robot_dir
from vla_mbpo.teleop.command import Jog
from vla_mbpo.teleop.jog import LINEAR, ROWS, SCALES, Jogger

NOW = 1_000_000_000_000
NONE = np.zeros(0)
STILL = np.zeros(7)


@cache
def robot():
    return RobotSpec.load(robot_dir("sim_panda"))


@cache
def gate():
    return Gate(robot())


@cache
def jogger():
    return Jogger(robot())


def twist(*values):
    return Jog(np.array([*values, *[0.0] * (6 - len(values))]), False, NONE)


def state(q=None):
    return RobotState(NOW, robot().home.copy() if q is None else q, STILL, 0.04)


def chunks(jog, v=STILL, q=None):
    q = robot().home if q is None else q
    return jogger().chunks(jog, q, v, state(q), NOW)


def vet(chunk, q=None):
    q = robot().home if q is None else q
    return gate().vet(chunk, state(q), q, NOW)


def tool(rows):
    kinematics = gate().kinematics
    kinematics.place(rows)
    return kinematics.tool[: len(rows)].copy()


def test_tool_motion_goes_where_the_stick_points_and_passes():
    rows = vet(chunks(twist(0.1, -0.05))[0])
    assert isinstance(rows, JointRows)
    way = tool(np.vstack([robot().home, rows.positions]))
    np.testing.assert_allclose(way[-1] - way[0], [0.015, -0.00875, 0.0], atol=1e-3)


def test_the_tool_frame_turns_with_the_tool():
    down = Jog(np.array([0.0, 0.0, 0.1, 0.0, 0.0, 0.0]), True, NONE)
    rows = vet(chunks(down)[0])
    way = tool(np.vstack([robot().home, rows.positions]))
    assert way[-1][2] < way[0][2] - 0.01  # the tool points down


@given(st.integers(0, 6), st.floats(-0.5, 0.5), st.lists(st.floats(-0.5, 0.5), min_size=7, max_size=7))
def test_joint_rows_ramp_from_the_present_velocity_under_the_limits(joint, speed, velocities):
    wanted, v = np.zeros(7), np.array(velocities)
    wanted[joint] = speed
    made = chunks(Jog(np.zeros(6), False, wanted), v)
    if not made:
        assert not wanted.any()
        return
    rows = np.vstack([robot().home, made[0].positions])
    speeds = np.vstack([v, np.diff(rows, axis=0) / 0.05])
    assert (np.abs(np.diff(speeds, axis=0)) <= robot().acceleration * 0.05).all()


def test_nothing_wanted_and_nothing_moving_is_no_chunk():
    assert chunks(twist()) == []


def test_a_released_stick_stops_a_moving_arm():
    moving = np.array([0, 0, 0, 0, 0, 0, 0.3])
    chunks(Jog(np.zeros(6), False, moving), moving)  # the person has set it in motion
    rows = vet(chunks(Jog(np.zeros(6), False, np.zeros(7)), moving)[0])
    assert isinstance(rows, JointRows)
    np.testing.assert_allclose(rows.positions[-1], rows.positions[-2], atol=1e-9)


def test_near_a_limit_a_slower_candidate_passes():
    spec = robot()
    q = spec.home.copy()
    q[6] = spec.upper[6] - 0.02
    made = chunks(Jog(np.zeros(6), False, np.array([0, 0, 0, 0, 0, 0, 0.5])), q=q)
    passed = [isinstance(vet(chunk, q), JointRows) for chunk in made]
    assert len(made) == len(SCALES) and not passed[0] and passed[-1]


@pytest.mark.parametrize(
    "jog", [twist(5.0, 5.0, 5.0), Jog(np.zeros(6), False, np.full(7, 1e6))], ids=["tool", "joints"]
)
def test_whatever_is_commanded_the_tool_moves_no_faster_than_a_person_may_move_it(jog):
    q, v = robot().home.copy(), np.zeros(7)
    for _ in range(8):  # until it has its full speed
        rows = vet(chunks(jog, v, q)[0], q)
        assert isinstance(rows, JointRows)
        way = tool(np.vstack([q, rows.positions]))
        assert np.linalg.norm(np.diff(way, axis=0), axis=1).max() <= 1.05 * LINEAR * 0.05  # a curve in joint space
        v, q = (rows.positions[0] - q) / 0.05, rows.positions[0]


def test_a_takeover_with_centred_sticks_leaves_the_stop_to_the_arm_driver():
    jogger().reset()
    moving = np.array([0.5, 0, 0, 0, 0, 0, 0])
    assert chunks(Jog(np.zeros(6), False, np.zeros(7)), moving) == []


def test_a_clock_that_is_set_back_does_not_turn_the_gripper_around():
    made, closing = Jogger(robot()), Jog(np.zeros(6), False, NONE, -0.1)
    made.chunks(closing, robot().home, STILL, state(), NOW)
    later = made.chunks(closing, robot().home, STILL, state(), NOW - 10_000_000_000)[0].gripper
    assert later[0] <= 0.04


def test_the_gripper_is_left_alone_until_it_is_moved_then_kept():
    jogger().reset()
    assert len(chunks(twist(0.1))[0].gripper) == 0
    closing = Jog(np.zeros(6), False, NONE, -0.1)
    first = chunks(closing)[0].gripper
    assert len(first) == ROWS and (np.diff(first) < 0).all() and first[0] < 0.04
    kept = chunks(twist(0.1))[0].gripper
    assert len(set(kept)) == 1 and kept[0] <= 0.04


CLOSING = Jog(np.zeros(6), False, NONE, -0.1)


def test_a_trigger_that_is_let_go_of_ends_the_rows_that_close_and_the_gripper_stays():
    """Incident: the rows of the last press were driven to their end, and the next motion opened again."""
    made, hold, step = Jogger(robot()), twist(), 20_000_000
    for k in range(5):
        last = made.chunks(CLOSING, robot().home, STILL, state(), NOW + k * step)[0].gripper
    kept = made.chunks(hold, robot().home, STILL, state(), NOW + 5 * step)[0].gripper
    assert set(kept) == {kept[0]} and last[-1] < kept[0] <= last[0]
    assert made.chunks(hold, robot().home, STILL, state(), NOW + 6 * step)  # if the one before was lost
    assert made.chunks(hold, robot().home, STILL, state(), NOW + 60 * step) == []
    assert set(made.chunks(twist(0.1), robot().home, STILL, state(), NOW + 61 * step)[0].gripper) == {kept[0]}


@pytest.mark.parametrize(("told", "velocity", "first"), [(0.006, -0.1, 0.006), (0.006, 0.1, 0.04), (None, -0.1, 0.04)])
def test_whoever_closes_does_not_let_go_first(told, velocity, first):
    """Incident: of an object 40 mm wide, held with 6 mm, the first press of "close" began at 40."""
    made = Jogger(robot())
    made.reset(told)
    rows = made.chunks(Jog(np.zeros(6), False, NONE, velocity), robot().home, STILL, state(), NOW)[0].gripper
    assert abs(rows[0] - first) <= 0.1 * 0.1 and (rows <= first).all() == (velocity < 0)


def test_lowered_limits_slow_the_gripper_and_do_not_stop_the_arm():
    """Incident: all candidates of a stick and a trigger together were refused, at a tenth of the speed."""
    spec = robot().scaled(0.1)
    made, gate = Jogger(spec), Gate(spec)
    both = Jog(np.array([0.01, 0, 0, 0, 0, 0]), False, NONE, -0.1)
    first = made.chunks(both, spec.home, STILL, state(), NOW)[0]
    assert isinstance(gate.vet(first, state(), spec.home, NOW), JointRows)


def test_another_number_of_joints_is_refused():
    with pytest.raises(ValueError, match="joint_velocities: 3 values for 7 joints"):
        chunks(Jog(np.zeros(6), False, np.zeros(3)))


anything = st.floats(allow_nan=True, allow_infinity=True)
moderate = st.floats(-3.0, 3.0)


@given(
    st.lists(anything | moderate, min_size=6, max_size=6),
    st.lists(anything | moderate, max_size=8),
    anything | moderate,
    st.lists(moderate, min_size=7, max_size=7),
    st.booleans(),
)
def test_whatever_is_commanded_ends_in_rows_within_limits_or_in_a_reason(values, joints, gripper, v, in_tool):
    jog, spec = Jog(np.array(values), in_tool, np.array(joints), gripper), robot()
    try:
        made = chunks(jog, np.array(v))
    except ValueError as error:
        assert "not finite" in str(error) or "joint_velocities" in str(error)
        return
    for chunk in made:
        verdict = vet(chunk)
        if isinstance(verdict, JointRows):
            assert (verdict.positions >= spec.lower).all() and (verdict.positions <= spec.upper).all()
            assert (np.abs(np.diff(verdict.positions, axis=0)) <= 0.05 * spec.velocity + 1e-9).all()
        else:
            assert verdict
