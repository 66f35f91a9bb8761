"""The driver keeps the limits over any switches, ends at rest by itself, and never replays."""

import numpy as np
import pytest
from arm_samples import PERIOD, START, TICK, Loop, measured, rows, spec, towards
from hypothesis import given
from hypothesis import strategies as st

from vla_mbpo.arm.config import DriverConfig
from vla_mbpo.arm.driver import ArmDriver
from vla_mbpo.core.errors import ConfigError

HOME = spec().home
OPEN = 0.04  # m, as arm_samples measures
GOAL = HOME + np.array([0.2, 0.1, -0.1, 0.15, 0.1, -0.1, 0.2])


def moving(ticks: int = 10, **config) -> Loop:
    """A loop in the middle of a motion."""
    loop = Loop(ArmDriver(spec(), DriverConfig(**config)))
    assert loop.offer(rows(towards(GOAL, HOME))) == ()
    loop.tick(ticks)
    assert not loop.still
    return loop


def random_rows(rng, start):
    """Rows as a bad policy writes them: noisy, with sudden turns, up to the velocity limits and position limits."""
    speed = rng.uniform(-1, 1, (16, 7)) * spec().velocity * rng.choice([0.2, 1.0])
    return np.clip(start + np.cumsum(speed, axis=0) * 0.05 + rng.normal(0, 0.003, (16, 7)), spec().lower, spec().upper)


def test_no_switch_out_of_a_thousand_breaks_a_limit():
    rng, loop, taken = np.random.default_rng(0), Loop(), 0
    for chunk in range(1, 1001):
        stamp = loop.now
        prefix, _ = loop.driver.commitment(stamp).prefix(stamp, 3)
        loop.tick(int(rng.integers(0, 8)))  # latency
        start = prefix[-1] if len(prefix) else loop.q
        positions = random_rows(rng, start)
        positions[: len(prefix)] = prefix
        taken += loop.offer(rows(positions, stamp, chunk, len(prefix))) == ()
        loop.tick(int(rng.integers(1, 6)))
    assert taken > 500
    q = np.array(loop.positions)
    dt = TICK / 1e9
    assert (np.abs(np.diff(q, axis=0)) <= spec().velocity * dt).all()
    assert (np.abs(np.diff(q, n=2, axis=0)) <= spec().acceleration * dt**2).all()
    assert (q >= spec().lower).all() and (q <= spec().upper).all()
    for trajectory in loop.trajectories.values():
        assert (np.abs(trajectory.velocities) <= spec().velocity).all()
        assert (np.abs(np.diff(trajectory.velocities, axis=0)) <= spec().acceleration * dt).all()
    counts = loop.driver.commitment(loop.now)
    assert counts.rows_executed_late == 0 and counts.rows_executed > 500
    assert counts.seams > 500 and counts.worst_seam_ratio <= 0.95


@given(st.lists(st.integers(1, 55_000_000), min_size=5, max_size=60))
def test_uneven_ticks_make_no_step(steps):
    loop = Loop()
    loop.offer(rows(towards(GOAL, HOME)))
    last = loop.driver.commanded(START)
    for step in steps:
        loop.now += step
        loop.driver.measure(measured(loop.now, last))
        loop.driver.tick(loop.now)
        q = loop.driver.commanded(loop.now)
        assert (np.abs(q - last) <= spec().velocity * step / 1e9 + 1e-9).all()
        last = q


@given(st.integers(0, 60))
def test_every_trajectory_has_three_ticks_of_motion_then_ends_at_rest(ticks):
    loop = Loop()
    loop.offer(rows(towards(GOAL, HOME)))
    loop.tick(ticks + 1)
    if not loop.trajectories:
        return
    stamp, trajectory = max(loop.trajectories.items())
    assert trajectory.stamp == stamp and trajectory.joint_names == spec().joints
    assert trajectory.times[0] > 0 and (np.diff(trajectory.times) > 0).all()
    assert trajectory.positions.shape == trajectory.velocities.shape == (len(trajectory.times), 7)
    assert len(trajectory.times) >= 3 and (trajectory.velocities[-1] == 0).all()
    if len(trajectory.times) > 4:
        speed = np.abs(trajectory.velocities[2:]).max(axis=1)
        assert (np.diff(speed) <= 1e-6).all(), "after three ticks it only brakes"


def test_motion_ends_where_the_rows_end_and_the_driver_falls_silent():
    loop = Loop()
    loop.offer(rows(towards(GOAL, HOME)))
    loop.tick(80)
    np.testing.assert_allclose(loop.q, GOAL, atol=2e-3)
    assert loop.still and max(loop.trajectories) < START + 79 * TICK - 0.1e9
    counts = loop.driver.commitment(loop.now)
    assert (counts.rows_executed, counts.rows_dropped_late, len(counts.positions)) == (16, 0, 0)


def test_a_dead_driver_leaves_motion_for_three_ticks_only():
    loop = moving(15)
    trajectory = loop.trajectories[loop.now - TICK]
    brake = trajectory.velocities[2:]
    limit = np.abs(brake[0]) / (0.9 * spec().acceleration) + 0.02
    assert (len(brake) - 1) * TICK / 1e9 <= limit.max() + TICK / 1e9


def test_a_frozen_driver_that_wakes_up_replays_nothing():
    loop = moving(15)
    executed = loop.driver.clock.executed
    rest = loop.trajectories[loop.now - TICK].positions[-1]
    loop.now += 10 * PERIOD  # SIGSTOP
    loop.driver.measure(measured(loop.now, rest))
    loop.q = loop.driver.commanded(loop.now)
    np.testing.assert_allclose(loop.q, rest, atol=1e-6)
    loop.tick(60)
    counts = loop.driver.commitment(loop.now)
    assert counts.rows_executed_late == 0
    assert counts.rows_dropped_late >= 16 - executed - 6
    q = np.array(loop.positions[14:])
    assert (np.abs(np.diff(q, axis=0))[1:] <= spec().velocity * TICK / 1e9).all()


def test_rows_that_went_far_while_the_driver_slept_are_not_chased():
    loop = moving(5, max_gap=0.05)
    loop.now += 7 * PERIOD
    loop.tick(20)
    assert loop.still and "off the path" in loop.driver.stop_reason


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (lambda now: None, "old"),
        (lambda now: measured(now, np.full(7, np.nan)), "finite"),
        (lambda now: measured(now, np.zeros(6)), "finite"),
        (lambda now: measured(now + 1_000_000_000), "future"),
        (lambda now: measured(now, HOME + 1.5), "behind its command"),
    ],
)
def test_a_bad_measured_state_ends_motion_under_the_limits_then_silence(fault, text):
    loop = moving(12)
    before = len(loop.positions)
    for _ in range(40):
        state = fault(loop.now)
        if state is not None:
            loop.driver.measure(state)
        loop.tick(sense=False)
    assert text in loop.driver.stop_reason
    assert len(loop.driver.commitment(loop.now).positions) == 0
    q = np.array(loop.positions[before - 2 :])
    assert (np.abs(np.diff(q, n=2, axis=0)) <= spec().acceleration * (TICK / 1e9) ** 2).all()
    assert loop.still and loop.now - TICK not in loop.trajectories


def test_one_lost_state_message_does_not_stop_the_arm():
    loop = moving(12)
    loop.tick(3, sense=False)
    assert loop.driver.stop_reason == ""


def refused(loop: Loop, **changes) -> set[str]:
    fields = {"positions": np.tile(loop.q, (16, 1)), "stamp": loop.now, "chunk": 99}
    return {reason.check for reason in loop.offer(rows(**(fields | changes)))}


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"expiry": START - 1}, "expired"),
        ({"stamp": START + 100_000_000}, "future"),
        ({"stamp": START - 16 * PERIOD, "expiry": START + 1}, "late"),
        ({"epoch": 4}, "epoch"),
        ({"positions": np.tile(HOME + 0.5, (16, 1))}, "gap"),
        ({"positions": np.full((16, 7), np.nan)}, "finite"),
        ({"positions": np.zeros((16, 6))}, "format"),
        ({"positions": np.zeros((0, 7)), "gripper": np.zeros(0)}, "format"),
        ({"joint_names": spec().joints[::-1]}, "format"),
        ({"row_period": 40_000_000}, "format"),
    ],
)
def test_rows_that_do_not_belong_here_and_now_are_refused(changes, check):
    loop = Loop()
    loop.driver.enter_epoch(5)
    fields = {"epoch": 5, "stamp": START} | changes
    assert refused(loop, **fields) == {check}
    assert loop.tick(5).trajectories == {}


def test_rows_that_repeat_what_is_not_committed_are_refused():
    """The driver keeps its own rows in their place: what was vetted would not be what is executed."""
    loop = moving()
    stamp = loop.now
    prefix, _ = loop.driver.commitment(stamp).prefix(stamp, 3)
    positions = towards(GOAL, prefix[-1])
    positions[:3] = prefix
    other = positions.copy()
    other[1, 3] += 0.06
    (reason,) = loop.offer(rows(other, stamp, 2, 3))
    assert (reason.check, reason.row, reason.subject) == ("committed_rows", 1, spec().joints[3])
    assert loop.offer(rows(positions, stamp, 3, 3)) == ()


def test_rows_are_refused_without_a_fresh_measured_state():
    driver = ArmDriver(spec())
    of = rows(np.tile(HOME, (16, 1)))
    assert driver.offer(of, START)[0].check == "measured_state"
    driver.measure(measured(START - 200_000_000))
    assert driver.offer(of, START)[0].check == "measured_state"


def test_reordered_and_repeated_chunks_are_refused():
    loop = moving(5)
    first = rows(towards(GOAL, HOME))
    assert {r.check for r in loop.offer(first)} == {"order"}
    assert refused(loop, stamp=START - PERIOD) == {"order"}


@given(st.integers(2, 25), st.sampled_from(["stop", "epoch"]))
def test_a_stop_drops_the_committed_rows_and_needs_a_new_look_at_the_resting_arm(ticks, kind):
    loop = Loop()
    loop.offer(rows(towards(GOAL, HOME)))
    loop.tick(ticks)
    stamp = loop.now - TICK
    if kind == "stop":
        loop.driver.stop("veto")
    else:
        loop.driver.enter_epoch(loop.driver.epoch + 1)
    epoch = loop.driver.epoch
    assert len(loop.driver.commitment(loop.now).positions) == 0 and loop.driver.gripper(loop.now) is None
    assert refused(loop, stamp=stamp, epoch=epoch) == {"before_stop"}
    loop.tick(20)
    assert loop.still
    assert refused(loop, stamp=stamp, epoch=epoch) == {"before_stop"}
    assert refused(loop, epoch=epoch) == set()


def test_a_stop_right_after_the_first_tick_counts_as_a_stop_in_motion():
    loop = Loop()
    loop.offer(rows(towards(GOAL, HOME)))
    loop.tick(1)
    loop.driver.stop("veto")
    assert refused(loop) == {"before_stop"}


def test_a_latched_stop_takes_no_rows_until_released():
    loop = moving(10)
    loop.driver.stop("e-stop", latch=True)
    loop.tick(30)
    assert loop.still and refused(loop) == {"stopped"}
    loop.driver.release()
    assert refused(loop) == set()


def test_rows_of_a_later_epoch_bring_the_news_of_it():
    loop = Loop()
    assert refused(loop, epoch=3) == set()
    assert loop.driver.epoch == 3
    assert refused(loop, epoch=2, stamp=loop.now + 1) == {"epoch"}


@given(st.integers(0, 6), st.floats(0.0, 0.1), st.sampled_from([-1.0, 1.0]))
def test_a_new_motion_starts_where_the_arm_rests(joint, offset, sign):
    loop = Loop()
    loop.offer(rows(towards(HOME + 0.02, HOME)))
    loop.tick(80)
    commanded = loop.driver.commanded(loop.now)
    loop.q = loop.q.copy()
    loop.q[joint] += sign * offset  # somebody pushed it
    loop.driver.measure(measured(loop.now, loop.q))
    assert refused(loop) == set()
    start = loop.driver.commanded(loop.now)
    np.testing.assert_array_equal(start, commanded if abs(loop.q[joint] - commanded[joint]) <= 0.02 else loop.q)


def test_a_resting_arm_that_is_moved_away_is_not_pulled_back():
    loop = Loop()
    loop.offer(rows(np.tile(HOME, (16, 1))))
    loop.tick(80)
    for _ in range(3):
        loop.driver.measure(measured(loop.now, HOME + 0.3))
        loop.tick(sense=False)
    assert loop.driver.commanded(loop.now) is None


def test_a_clock_that_goes_back_drops_everything():
    loop = moving(10)
    loop.now -= 5 * TICK
    assert loop.driver.tick(loop.now) is None
    assert len(loop.driver.commitment(loop.now).positions) == 0
    loop.tick(40)
    assert refused(loop) == set()


def test_a_restart_in_motion_drops_everything():
    loop = moving(10)
    loop.now += 20 * TICK
    loop.driver.restart(loop.now, "clock went forward")
    assert loop.driver.tick(loop.now) is None and loop.driver.stop_reason == "clock went forward"
    assert refused(loop) == {"before_stop"}
    loop.tick(40)
    assert refused(loop) == set()


@pytest.mark.parametrize("driver", ["restarted", "new"])
def test_an_arm_that_still_moves_is_no_start_of_a_motion(driver):
    """Incident: rows after a step of the clock began at rest 20 ms later, at 1 rad/s, with 35 rad/s^2."""
    loop = moving(10)
    if driver == "new":
        loop.driver = ArmDriver(spec())
    loop.driver.restart(loop.now, "")
    speed = np.array([0.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0])
    for moves in (speed, speed * np.nan, speed * 0.0):
        loop.now += 40 * TICK
        loop.driver.measure(measured(loop.now, loop.q, velocities=moves))
        assert refused(loop) == (set() if not moves.any() else {"in_motion"})


def test_silence_before_the_first_rows():
    assert Loop().tick(20).trajectories == {}


def openings(loop, count):
    """What the gripper is told at each of the next ticks, (count,); NaN: nothing."""
    told = []
    for _ in range(count):
        loop.tick()
        opening = loop.driver.gripper(loop.now - TICK)
        told.append(np.nan if opening is None else opening)
    return np.array(told)


def test_the_gripper_keeps_its_last_command_when_rows_end():
    loop = Loop()
    loop.offer(rows(np.tile(HOME, (16, 1)), gripper=np.linspace(OPEN, 0.02, 16)))
    told = openings(loop, 17 * PERIOD // TICK)
    assert told[8 * PERIOD // TICK] == pytest.approx(OPEN + 7 * (0.02 - OPEN) / 15) and np.isnan(told[-1])


def test_a_chunk_that_begins_elsewhere_than_the_gripper_is_moves_it_no_faster_than_it_may_go():
    """A chunk that said closed in all its rows closed an open gripper at once, whatever its limit of speed."""
    loop = Loop()
    loop.offer(rows(np.tile(HOME, (16, 1)), gripper=np.zeros(16)))
    told = np.r_[OPEN, openings(loop, 16 * PERIOD // TICK)]
    gone = np.arange(1, len(told)) * TICK / 1e9 * spec().gripper_speed
    assert (OPEN - told[1:] <= 1.03 * gone + 2.1 * spec().gripper_speed * PERIOD / 1e9).all()
    assert told[1] > 0.4 * OPEN and told[-1] == 0.0


@given(st.lists(st.floats(0.0, OPEN), min_size=16, max_size=16))
def test_openings_at_the_grippers_own_speed_are_commanded_when_they_are_due(wanted):
    step = spec().gripper_speed * PERIOD / 1e9
    path = [OPEN]
    for opening in wanted:
        path.append(float(np.clip(opening, path[-1] - step, path[-1] + step)))
    loop = Loop()
    loop.offer(rows(np.tile(HOME, (16, 1)), gripper=np.array(path[1:])))
    due = [loop.driver.clock.gripper(START + k * TICK) for k in range(15 * PERIOD // TICK)]
    np.testing.assert_allclose(openings(loop, len(due)), np.array(due, float), atol=1e-9)


@pytest.mark.parametrize("name", ["tick", "max_state_age", "max_gap", "motion_ticks"])
@pytest.mark.parametrize("bad", [float("nan"), -1.0, 1e9, "x"])
def test_a_setting_outside_its_range_is_refused_by_name(name, bad):
    with pytest.raises(ConfigError, match=name):
        DriverConfig(**{name: bad})


def test_a_stop_keeps_to_the_way_the_arm_was_going():
    """Incident: the tool moved 3 mm above the table; joints that stopped one before the other put it 14 mm below."""
    loop = moving(12)
    direction = loop.driver._plan.at(loop.now).v
    loop.driver.stop("test")
    before = loop.q
    loop.tick(40)
    way = loop.q - before
    across = way - direction * (way @ direction) / (direction @ direction)
    assert np.linalg.norm(way) > 0.01 and np.linalg.norm(across) < 0.1 * np.linalg.norm(way)


def test_a_measured_state_from_the_future_does_not_lock_out_good_ones():
    """Incident: one joint state stamped an hour ahead made the driver ignore all that followed."""
    loop = Loop()
    loop.driver.tick(loop.now)
    loop.driver.measure(measured(loop.now + 3_600_000_000_000))
    loop.driver.measure(measured(loop.now))
    assert loop.offer(rows(towards(GOAL, HOME))) == ()
