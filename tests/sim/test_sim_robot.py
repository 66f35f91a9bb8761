"""The simulated arm in lockstep: deterministic, never ahead of its clock, within what the gripper can do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_mbpo.core.state import Trajectory
from vla_mbpo.sim.robot import SimRobot
from vla_mbpo.sim.scene import STEP_NS, Scene

MS = 1_000_000


@pytest.fixture(scope="module")
def scene(spec):
    return Scene.build(spec, "red_bin", 0)


@pytest.fixture
def robot(spec, scene):
    return SimRobot(spec, scene)


def target(spec, q, ms=200, stamp=0) -> Trajectory:
    return Trajectory(stamp, spec.joints, (ms * MS,), np.asarray(q)[None], np.zeros((0, len(q))))


def wander(spec, scene, now=0) -> SimRobot:
    """One second of random targets and openings."""
    robot, rng = SimRobot(spec, scene, now), np.random.default_rng(5)
    for _ in range(20):
        assert robot.accept(target(spec, spec.home + rng.uniform(-0.3, 0.3, 7), 50)) is None
        robot.command_gripper(rng.uniform(*spec.gripper_range))
        robot.advance(robot.time + 50 * MS)
    return robot


def test_the_same_calls_give_bitwise_the_same_state(spec, scene):
    one, two = wander(spec, scene), wander(spec, scene)
    assert one.data.qpos.tobytes() == two.data.qpos.tobytes()
    assert one.data.qvel.tobytes() == two.data.qvel.tobytes()
    assert one.status() == two.status()


def test_the_same_calls_at_another_time_of_day_give_the_same_motion(spec, scene):
    early, late = wander(spec, scene), wander(spec, scene, 1_700_000_000_000_000_000)
    np.testing.assert_allclose(late.qpos, early.qpos, atol=1e-5)
    assert late.status().elapsed == early.status().elapsed == 1.0


@settings(max_examples=15)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=10))
def test_how_the_time_is_divided_does_not_matter(spec, scene, parts):
    once, often = SimRobot(spec, scene), SimRobot(spec, scene)
    for robot in (once, often):
        robot.accept(target(spec, spec.home + 0.2))
        robot.command_gripper(0.02)
    for part in parts:
        often.advance(often.time + part * STEP_NS)
    once.advance(often.time)
    assert once.data.qpos.tobytes() == often.data.qpos.tobytes()


@settings(max_examples=30)
@given(st.lists(st.integers(0, 20 * MS), min_size=1, max_size=5))
def test_advance_stops_less_than_a_step_before_and_never_after(spec, scene, waits):
    robot, until = SimRobot(spec, scene), 0
    for wait in waits:
        until += wait
        robot.advance(until)
        assert 0 <= until - robot.time < STEP_NS


def test_advance_to_the_past_does_nothing(robot):
    robot.advance(10 * MS)
    before = robot.qpos
    robot.advance(4 * MS)
    assert robot.time == 10 * MS
    np.testing.assert_array_equal(robot.qpos, before)


def test_the_state_carries_the_clock(spec, scene):
    robot = SimRobot(spec, scene, now=123 * MS)
    assert robot.state().stamp == robot.time == 123 * MS
    robot.advance(223 * MS)
    assert robot.state().stamp == 223 * MS
    assert robot.status().elapsed == pytest.approx(0.1)


def test_a_state_does_not_change_afterwards(spec, robot):
    state, qpos = robot.state(), robot.qpos
    kept = state.positions.copy(), qpos.copy()
    robot.accept(target(spec, spec.home + 0.3))
    robot.advance(200 * MS)
    np.testing.assert_array_equal(state.positions, kept[0])
    np.testing.assert_array_equal(qpos, kept[1])


def test_without_a_command_the_arm_holds_its_pose(robot):
    start = robot.state().positions
    robot.advance(1_000 * MS)
    np.testing.assert_allclose(robot.state().positions, start, atol=2e-3)
    assert np.abs(robot.state().velocities).max() < 1e-2


def test_the_arm_reaches_a_target_and_stays(spec, robot):
    goal = spec.home + np.array([0.2, -0.1, 0.1, 0.1, -0.2, 0.1, 0.3])
    robot.accept(target(spec, goal, 400))
    robot.advance(1_000 * MS)
    np.testing.assert_allclose(robot.state().positions, goal, atol=5e-3)


def test_a_rejected_trajectory_is_reported_and_not_followed(spec, robot):
    robot.advance(100 * MS)
    before = robot.set_point()
    assert "stamp" in robot.accept(target(spec, spec.home + 0.3, 20, stamp=50 * MS))
    robot.advance(300 * MS)
    np.testing.assert_array_equal(robot.set_point(), before)


@pytest.mark.parametrize("opening", [-0.001, 0.081, np.nan, np.inf, -np.inf])
def test_an_opening_out_of_range_is_refused(robot, opening):
    with pytest.raises(ValueError, match="gripper"):
        robot.command_gripper(opening)


def test_a_refused_opening_leaves_the_gripper_alone(robot):
    robot.command_gripper(0.04)
    with pytest.raises(ValueError, match="gripper"):
        robot.command_gripper(0.2)
    robot.advance(1_000 * MS)
    assert robot.state().gripper == pytest.approx(0.04, abs=2e-3)


def test_the_gripper_keeps_its_speed_and_arrives(spec, robot):
    robot.command_gripper(0.0)
    before = robot.state().gripper
    for _ in range(60):
        robot.advance(robot.time + 10 * MS)
        after = robot.state().gripper
        assert before - after <= spec.gripper_speed * 0.010 * 1.1
        before = after
    assert before == pytest.approx(0.0, abs=2e-3)


def test_the_gripper_is_not_there_before_its_speed_allows(spec, robot):
    robot.command_gripper(0.0)
    robot.advance(200 * MS)
    assert robot.state().gripper >= 0.08 - spec.gripper_speed * 0.2 - 1e-3


def test_the_status_says_what_is_attempted(robot):
    status = robot.status()
    assert (status.task, status.seed, status.instruction) == ("red_bin", 0, "put the red cube in the bin")
    assert not status.success
    assert not status.failed
    assert status.cost_events == ()
    assert 0 <= status.progress < 1
