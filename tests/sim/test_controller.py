"""The simulated joint trajectory controller behaves like ros2_control's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_mbpo.core.state import Trajectory
from vla_mbpo.sim.controller import TrajectoryController

JOINTS = ("a", "b")
MS = 1_000_000
WALL_CLOCK = 1_700_000_000 * 1_000_000_000

angle = st.floats(-3, 3)
pose = st.tuples(angle, angle)
rate = st.floats(-2, 2)
origin = st.sampled_from([0, 10 * MS, WALL_CLOCK])


def controller(start=(0.0, 0.0)) -> TrajectoryController:
    return TrajectoryController(JOINTS, np.array(start))


def trajectory(times_ms, positions, velocities=None, stamp=0, names=JOINTS) -> Trajectory:
    positions = np.array(positions, np.float64)
    velocities = np.zeros((0, len(names))) if velocities is None else np.array(velocities, np.float64)
    return Trajectory(stamp, tuple(names), tuple(t * MS for t in times_ms), positions, velocities)


@st.composite
def trajectories(draw, stamp=0):
    gaps = draw(st.lists(st.integers(5, 200), min_size=1, max_size=5))
    times = np.cumsum(gaps).tolist()
    positions = draw(st.lists(pose, min_size=len(times), max_size=len(times)))
    if draw(st.booleans()):
        return trajectory(times, positions, stamp=stamp)
    velocities = draw(st.lists(st.tuples(rate, rate), min_size=len(times) - 1, max_size=len(times) - 1))
    return trajectory(times, positions, [*velocities, (0.0, 0.0)], stamp=stamp)


def test_before_the_first_trajectory_it_holds_the_start():
    q, v = controller((0.3, -0.2)).sample(5 * MS)
    assert q.tolist() == [0.3, -0.2]
    assert v.tolist() == [0.0, 0.0]


@given(trajectories(), origin)
def test_the_last_point_is_reached_and_held_at_rest(plan, now):
    c = controller()
    assert c.accept(plan, now) is None
    for later in (0, 1, 10**9):
        q, v = c.sample(now + plan.times[-1] + 1_000 + later)
        np.testing.assert_array_equal(q, plan.positions[-1])
        np.testing.assert_array_equal(v, 0.0)


@given(trajectories(), trajectories(), origin, st.integers(0, 400))
def test_the_position_does_not_jump_when_a_trajectory_is_replaced(first, second, now, after):
    c = controller((0.1, 0.2))
    c.accept(first, now)
    now += after * MS
    before, _ = c.sample(now)
    assert c.accept(second, now) is None
    np.testing.assert_allclose(c.sample(now)[0], before, atol=1e-12)
    fastest = 6 * 1.5 / 0.005 + 2  # rad/s, of a cubic over 6 rad in 5 ms
    np.testing.assert_allclose(c.sample(now + 1_000)[0], before, atol=fastest * 2e-6)


@given(trajectories(), st.integers(0, 400), pose)
def test_the_velocity_does_not_jump_when_the_replacement_has_velocities(first, after, goal):
    c = controller()
    c.accept(first, 0)
    before = c.sample(after * MS)[1]
    c.accept(trajectory([100], [goal], [(0, 0)]), after * MS)
    np.testing.assert_allclose(c.sample(after * MS)[1], before, atol=1e-9)


def test_a_new_trajectory_replaces_the_remainder():
    c = controller()
    c.accept(trajectory([100, 200], [(1, 1), (9, 9)]), 0)
    c.accept(trajectory([50], [(0.5, 0.0)]), 50 * MS)
    assert c.sample(75 * MS)[0].tolist() == pytest.approx([0.5, 0.25])
    assert c.sample(200 * MS)[0].tolist() == [0.5, 0.0]


def test_points_that_are_already_past_are_skipped():
    c = controller()
    late = trajectory([10, 20, 60], [(5, 5), (6, 6), (1, 1)], stamp=100 * MS)
    assert c.accept(late, 130 * MS) is None
    assert c.sample(145 * MS)[0].tolist() == pytest.approx([0.5, 0.5])


def test_stamp_zero_means_now():
    c = controller()
    c.accept(trajectory([100], [(1, 1)]), 1_000 * MS)
    assert c.sample(1_050 * MS)[0].tolist() == pytest.approx([0.5, 0.5])


def test_without_velocities_points_are_joined_by_straight_lines():
    c = controller()
    c.accept(trajectory([100], [(1, -1)]), 0)
    q, v = c.sample(25 * MS)
    assert q.tolist() == pytest.approx([0.25, -0.25])
    assert v.tolist() == pytest.approx([10, -10])


def test_with_velocities_points_are_joined_by_cubics():
    c = controller()
    c.accept(trajectory([100], [(1, -1)], [(0, 0)]), 0)
    s = 0.25
    q, v = c.sample(25 * MS)
    assert q.tolist() == pytest.approx([3 * s**2 - 2 * s**3, -(3 * s**2 - 2 * s**3)])
    assert v.tolist() == pytest.approx([10 * (6 * s - 6 * s**2), -10 * (6 * s - 6 * s**2)])


@given(trajectories())
def test_every_point_is_passed_at_its_time(plan):
    c = controller()
    c.accept(plan, 0)
    for i, t in enumerate(plan.times):
        q, v = c.sample(t)
        np.testing.assert_allclose(q, plan.positions[i], atol=1e-9)
        if len(plan.velocities):
            np.testing.assert_allclose(v, plan.velocities[i], atol=1e-6)


@given(st.permutations(range(4)), st.lists(angle, min_size=4, max_size=4))
def test_columns_are_matched_by_joint_name(order, goal):
    names = ("a", "b", "c", "d")
    c = TrajectoryController(names, np.zeros(4))
    c.accept(trajectory([20], [[goal[i] for i in order]], names=[names[i] for i in order]), 0)
    assert c.sample(20 * MS)[0].tolist() == goal


REJECTED = {
    "joint missing": ("joint_names", trajectory([10], [[0]], names=("a",))),
    "joint unknown": ("joint_names", trajectory([10], [(0, 0)], names=("a", "z"))),
    "joint twice": ("joint_names", trajectory([10], [(0, 0)], names=("a", "a"))),
    "empty": ("points", trajectory([], np.zeros((0, 2)))),
    "too few positions": ("positions", trajectory([10, 20], [(0, 0)])),
    "too few velocities": ("velocities", trajectory([10, 20], [(0, 0), (0, 0)], [(0, 0)])),
    "NaN position": ("points", trajectory([10], [(np.nan, 0)])),
    "infinite velocity": ("points", trajectory([10, 20], [(0, 0), (0, 0)], [(np.inf, 0), (0, 0)])),
    "equal times": ("time_from_start", trajectory([10, 10], [(0, 0), (1, 1)])),
    "falling times": ("time_from_start", trajectory([20, 10], [(0, 0), (1, 1)])),
    "negative time": ("time_from_start", trajectory([-10, 10], [(0, 0), (1, 1)])),
    "end in the past": ("stamp", trajectory([10, 20], [(0, 0), (1, 1)], stamp=900 * MS)),
    "end now": ("stamp", trajectory([100], [(1, 1)], stamp=900 * MS)),
    "end not at rest": ("velocities", trajectory([10], [(1, 1)], [(0, 0.01)])),
}


@pytest.mark.parametrize(("field", "bad"), REJECTED.values(), ids=REJECTED)
def test_a_rejection_names_the_field(field, bad):
    assert controller().accept(bad, 1_000 * MS).startswith(f"{field}: ")


@pytest.mark.parametrize("bad", [bad for _, bad in REJECTED.values()], ids=REJECTED)
def test_a_rejected_trajectory_leaves_the_active_one_alone(bad):
    c = controller()
    c.accept(trajectory([100], [(1, 2)]), 1_000 * MS)
    c.accept(bad, 1_000 * MS)
    assert c.sample(1_050 * MS)[0].tolist() == pytest.approx([0.5, 1.0])


def test_a_single_point_at_time_zero_is_reached_or_rejected():
    c = controller()
    assert c.accept(trajectory([0], [(1, 1)]), 10 * MS) or c.sample(11 * MS)[0].tolist() == [1, 1]
