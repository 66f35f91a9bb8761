"""Rows by due time: late ones never come back, and the path runs through the others."""

import numpy as np
from arm_samples import PERIOD, START, rows, spec
from hypothesis import given
from hypothesis import strategies as st

from vla_mbpo.arm.rows import RowClock

Q = spec().home
STILL = np.zeros(7)


def clock_with(positions, now=START, **changes):
    clock = RowClock()
    clock.advance(now, now)
    clock.offer(rows(positions, **changes), now, Q, STILL)
    return clock


def ramp(count=16, slope=0.01):
    return Q + slope * np.arange(1, count + 1)[:, None] * np.ones(7)


@given(st.integers(0, 20 * PERIOD))
def test_rows_due_by_now_are_dropped_and_counted(elapsed):
    now = START + elapsed
    clock = clock_with(ramp(), now)
    late = min(elapsed // PERIOD, 16)
    assert clock.dropped_late == late
    assert clock.first_due(0) == (START + (late + 1) * PERIOD if late < 16 else None)


@given(st.integers(1, 16 * PERIOD))
def test_the_path_meets_each_row_when_it_is_due(offset):
    positions = Q + np.random.default_rng(offset).normal(0, 0.05, (16, 7))
    clock = clock_with(positions)
    for row in range(16):
        np.testing.assert_allclose(clock.target(START + (row + 1) * PERIOD).q, positions[row], atol=1e-12)
    assert clock.target(START + offset) is not None
    assert clock.target(START + 16 * PERIOD + 1) is None


@given(st.integers(2_000_000, 16 * PERIOD - 2_000_000))
def test_velocity_and_acceleration_are_derivatives_of_the_path(offset):
    clock = clock_with(Q + np.random.default_rng(1).normal(0, 0.05, (16, 7)))
    t, step = START + offset, 1_000_000
    before, here, after = (clock.target(t + k * step) for k in (-1, 0, 1))
    np.testing.assert_allclose((after.q - before.q) / 2e-3, here.v, atol=0.03)
    if (offset + step) // PERIOD == (offset - step) // PERIOD:  # the acceleration may jump at a row
        np.testing.assert_allclose((after.v - before.v) / 2e-3, here.a, atol=1e-6)


@given(st.integers(3, 13), st.integers(1, 3))
def test_a_new_chunk_replaces_what_is_due_after_its_committed_rows(look, committed):
    clock = clock_with(ramp(), chunk=1)
    now = START + look * PERIOD
    clock.advance(now, now)
    repeated = np.vstack([ramp(look + committed)[look:], np.tile(Q + 1.0, (16 - committed, 1))])
    clock.offer(rows(repeated, now, chunk=2, committed=committed), now, Q + 0.01 * look, STILL)
    _, positions, _ = clock.grid(now)
    kept = min(committed, 16 - look)
    np.testing.assert_allclose(positions[:kept], ramp()[look : look + kept])
    np.testing.assert_allclose(positions[committed:], np.tile(Q + 1.0, (16 - committed, 1)))
    assert clock.dropped_late == 0


def test_committed_rows_are_not_taken_twice():
    clock = clock_with(ramp())
    wrong = np.vstack([np.tile(Q + 9.0, (3, 1)), np.tile(Q, (13, 1))])
    clock.offer(rows(wrong, START, chunk=2, committed=3), START, Q, STILL)
    np.testing.assert_array_equal(clock.grid(START)[1][:3], ramp()[:3])


def test_committed_rows_are_taken_where_there_are_none():
    clock = clock_with(ramp(), committed=3)
    assert clock.first_due(START) == START + PERIOD


@given(st.integers(-20_000_000, 20_000_000))
def test_grids_that_are_off_by_some_ms_do_not_leave_two_rows_close_together(jitter):
    clock = clock_with(ramp())
    stamp = START + 8 * PERIOD + jitter
    now = START + 9 * PERIOD
    clock.advance(now, now)
    clock.offer(rows(ramp(), stamp, chunk=2, committed=3), now, Q, STILL)
    due, t = [], now
    while (t := clock.first_due(t)) is not None:
        due.append(t)
    assert min(np.diff(due)) >= PERIOD // 2


@given(st.lists(st.integers(0, 120_000_000), min_size=1, max_size=30))
def test_each_row_is_counted_once_as_executed_or_late(steps):
    clock, now = clock_with(ramp()), START
    for step in steps:
        told = now + 60_000_000
        now += step
        clock.advance(now, told)
    passed = min((now - START) // PERIOD, 16)
    assert clock.executed + clock.dropped_late == passed
    assert clock.executed_late == 0


def test_a_row_nobody_could_be_told_of_in_time_is_late():
    clock = clock_with(ramp())
    clock.advance(START + 10 * PERIOD, START + 60_000_000)
    assert (clock.executed, clock.dropped_late) == (1, 9)


def test_clear_leaves_nothing_to_come_back():
    clock = clock_with(ramp())
    clock.clear()
    assert clock.target(START + PERIOD) is None and clock.first_due(0) is None and clock.gripper(START) is None
    assert len(clock.grid(START)[1]) == 0


@given(st.integers(1, 16 * PERIOD))
def test_the_gripper_follows_the_row_of_the_moment(offset):
    openings = np.linspace(0.01, 0.08, 16)
    clock = clock_with(ramp(), gripper=openings)
    assert clock.gripper(START + offset) == openings[-(-offset // PERIOD) - 1]
    assert clock.gripper(START + 17 * PERIOD) is None


def test_rows_without_a_gripper_command_none():
    assert clock_with(ramp(), gripper=np.zeros(0)).gripper(START + 1) is None


@given(st.integers(1, 40_000_000))
def test_the_path_starts_without_a_step(ns):
    clock = clock_with(ramp(), START + ns)
    start = clock.target(START + ns)
    np.testing.assert_allclose(start.q, Q)
    np.testing.assert_allclose(start.v, STILL)


@given(st.integers(0, PERIOD - 1), st.integers(5_000_000, PERIOD), st.integers(0, 2 * PERIOD))
def test_targets_of_many_times_at_once_are_those_of_each(late, tick, look_ahead):
    """The gate asks at once what the driver asks tick by tick: judged and driven motion have to be the same."""
    clock = clock_with(ramp() + 0.02 * np.sin(np.arange(16 * 7).reshape(16, 7)), START + late)
    times = np.arange(START + late + tick, clock.last_due + 1, tick)
    for t, target in zip(times.tolist(), clock.aims(times, look_ahead), strict=True):
        alone = clock.aim(t, look_ahead)
        for name in ("q", "v", "a"):
            np.testing.assert_array_equal(getattr(target, name), getattr(alone, name))
