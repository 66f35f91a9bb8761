"""Limits hold whatever is asked for, and what can be followed is followed."""

import numpy as np
import pytest
from arm_samples import PERIOD, TICK, rows, spec
from hypothesis import given
from hypothesis import strategies as st

from vla_mbpo.arm.config import DriverConfig
from vla_mbpo.arm.rows import RowClock, Target
from vla_mbpo.arm.smoother import JointState, Smoother

DT, LOOK_AHEAD = TICK / 1e9, round(DriverConfig().look_ahead * 1e9)
SMOOTHER = Smoother(spec())
CONFIGS = st.builds(DriverConfig, settle=st.floats(0.01, 0.5), look_ahead=st.floats(0.0, 0.2))


def follow(path, ticks, start, config=None):
    """States of a smoother that follows ``path(t [ns]) -> Target``."""
    state, states = start, [start]
    smoother = Smoother(spec(), config) if config else SMOOTHER
    ahead = round(config.look_ahead * 1e9) if config else LOOK_AHEAD
    for k in range(1, ticks + 1):
        _, state = smoother.step(state, path(k * TICK + ahead), DT)
        states.append(state)
    return states


def wild(seed):
    """Targets that jump anywhere, inside the limits or not, with any velocity."""
    rng = np.random.default_rng(seed)

    def path(_):
        return Target(rng.uniform(spec().lower - 0.5, spec().upper + 0.5), rng.uniform(-4, 4, 7), np.zeros(7))

    return path


@given(st.integers(0, 100_000), CONFIGS)
def test_limits_hold_for_any_target(seed, config):
    states = follow(wild(seed), 40, JointState.rest(spec().home), config)
    v = np.array([state.v for state in states])
    q = np.array([state.q for state in states])
    assert (np.abs(v) <= spec().velocity).all()
    assert (np.abs(np.diff(v, axis=0)) <= spec().acceleration * DT).all()
    assert (np.abs(np.diff(q, n=2, axis=0)) <= spec().acceleration * DT**2).all()
    assert (q >= spec().lower).all() and (q <= spec().upper).all()


@given(st.integers(0, 100_000))
def test_jerk_holds_within_a_tick(seed):
    rng = np.random.default_rng(seed)
    state = follow(wild(seed), 10, JointState.rest(spec().home))[-1]
    motion, _ = SMOOTHER.step(state, wild(seed)(0), DT)
    t = np.sort(rng.uniform(0, DT, 50))
    a = np.array([motion.at(x).a for x in t])
    assert (np.abs(np.diff(a, axis=0)) <= spec().jerk * np.diff(t)[:, None] * 1.001 + 1e-9).all()


@given(st.integers(0, 100_000), st.integers(1, 40), CONFIGS)
def test_every_state_can_be_braked_inside_the_limits(seed, ticks, config):
    state = follow(wild(seed), ticks, JointState.rest(spec().home), config)[-1]
    brake = SMOOTHER.brake(state)
    along = [brake.at(t) for t in np.linspace(0, brake.duration, 40)]
    q = np.array([point.q for point in along])
    assert (q >= spec().lower).all() and (q <= spec().upper).all()
    assert brake.at(brake.duration).at_rest
    assert brake.duration < 0.5


@given(st.integers(0, 100_000))
def test_a_brake_is_as_quick_as_the_limits_allow(seed):
    state = follow(wild(seed), 20, JointState.rest(spec().home))[-1]
    ideal = (np.abs(state.v) / (0.9 * spec().acceleration)).max()
    assert SMOOTHER.brake(state).duration <= ideal + 0.02


@given(st.integers(0, 6), st.sampled_from([-1.0, 1.0]))
def test_a_joint_at_its_limit_stands_there_and_hinders_no_other(joint, sign):
    goal = spec().home + 0.2 * np.sign(spec().upper + spec().lower - 2 * spec().home + 1e-9)
    goal[joint] = (spec().upper if sign > 0 else spec().lower)[joint] + sign
    path = lambda _: Target(goal, np.zeros(7), np.zeros(7))  # noqa: E731
    end = follow(path, 250, JointState.rest(spec().home))[-1]
    reachable = np.clip(goal, spec().lower, spec().upper)
    np.testing.assert_allclose(end.q, reachable, atol=2e-3)


@pytest.mark.parametrize(("noise", "bound"), [(0.0, 0.005), (0.003, 0.015)])
def test_a_sine_is_followed(noise, bound):
    """0.3 rad at 0.5 Hz, rows at 20 Hz; error against the path, and with noise against what it hides."""
    t = np.arange(1, 201)[:, None] * PERIOD / 1e9
    swing = np.where(np.arange(7) == 5, 1.0, 0.8) * np.minimum(t, 1.0)
    clean = spec().home + 0.3 * np.sin(np.pi * t) * swing
    clocks = []
    for level in (0.0, noise):
        clock = RowClock()
        noisy = clean + np.random.default_rng(0).normal(0, level, clean.shape) if level else clean
        clock.offer(rows(noisy, 0), 0, spec().home, np.zeros(7))
        clocks.append(clock)
    states = follow(clocks[1].target, 400, JointState.rest(spec().home))
    error = max(np.abs(s.q - clocks[0].target(k * TICK).q).max() for k, s in enumerate(states))
    assert error < bound


def test_a_shake_is_followed_as_it_is_with_a_settling_time_of_a_tick():
    """0.01 rad at 4 Hz, rows at 20 Hz. As for an arm much of it is averaged away."""
    t = np.arange(1, 61)[:, None] * PERIOD / 1e9
    clock = RowClock()
    clock.offer(rows(spec().home + 0.01 * np.sin(8 * np.pi * t) * np.ones(7), 0), 0, spec().home, np.zeros(7))
    left = {}
    for config in (DriverConfig(), DriverConfig(settle=0.02, look_ahead=0.0)):
        states = follow(clock.target, 140, JointState.rest(spec().home), config)
        apart = [np.abs(s.q - clock.target(k * TICK).q).max() for k, s in enumerate(states) if k > 10]
        left[config.settle] = float(np.sqrt(np.mean(np.square(apart))))
    assert left[0.02] < 0.001 and left[0.06] > 0.002


@given(st.floats(0.02, 0.19), st.integers(0, 6))
def test_a_step_is_taken_without_swinging_past_it(size, joint):
    goal = spec().home.copy()
    goal[joint] += size
    path = lambda _: Target(goal, np.zeros(7), np.zeros(7))  # noqa: E731
    q = np.array([state.q for state in follow(path, 80, JointState.rest(spec().home))])
    assert q[:, joint].max() <= goal[joint] + 0.05 * size
    assert abs(q[-1, joint] - goal[joint]) < 1e-3
