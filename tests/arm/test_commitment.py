"""What a policy is told of the rows to come."""

import numpy as np
from arm_samples import PERIOD, START, TICK, Loop, rows, spec, towards
from hypothesis import given
from hypothesis import strategies as st

HOME = spec().home
GOAL = HOME + 0.15


def test_nothing_is_committed_before_the_first_rows():
    commitment = Loop().driver.commitment(START)
    positions, gripper = commitment.prefix(START, 3)
    assert positions.shape == (0, 7) and gripper.shape == (0,) and commitment.chunk_set_id == 0


@given(st.integers(0, 12))
def test_the_prefix_on_the_same_grid_is_the_rows_themselves(look):
    path = towards(GOAL, HOME)
    loop = Loop()
    loop.offer(rows(path))
    while loop.now < START + look * PERIOD:
        loop.tick()
    stamp = START + look * PERIOD
    positions, gripper = loop.driver.commitment(loop.now).prefix(stamp, 3)
    ahead = path[look : look + 3]
    if loop.now == stamp:
        np.testing.assert_array_equal(positions, ahead)
    np.testing.assert_allclose(positions, ahead, atol=2e-3)
    np.testing.assert_allclose(gripper, 0.04)


def test_the_prefix_ends_where_the_rows_end():
    path = towards(GOAL, HOME)
    loop = Loop()
    loop.offer(rows(path))
    loop.tick(35)  # 700 ms: rows 14 and 15 are left
    positions, _ = loop.driver.commitment(loop.now).prefix(loop.now, 3)
    np.testing.assert_allclose(positions, path[14:], atol=1e-9)


@given(st.integers(0, 10), st.integers(-15_000_000, 30_000_000))
def test_a_jittering_camera_gets_points_of_the_same_path(look, jitter):
    loop = Loop()
    loop.offer(rows(towards(GOAL, HOME)))
    loop.tick(1 + look * 2)
    commitment = loop.driver.commitment(loop.now)
    positions, _ = commitment.prefix(loop.now + jitter, 3)
    assert len(positions) == 3
    for k, point in enumerate(positions):
        target = loop.driver.clock.target(loop.now + jitter + (k + 1) * PERIOD)
        np.testing.assert_allclose(point, target.q, atol=5e-3)


def test_a_commitment_made_late_extrapolates_the_row_that_has_gone():
    loop = Loop()
    loop.offer(rows(towards(GOAL, HOME)))
    loop.tick(10)
    old = loop.driver.commitment(loop.now).prefix(loop.now, 3)[0]
    stamp = loop.now
    loop.tick(4)
    late = loop.driver.commitment(stamp + 4 * TICK).prefix(stamp, 3)[0]
    assert late.shape == (3, 7)
    np.testing.assert_allclose(late, old, atol=0.02)


def test_two_chunks_on_shifted_grids_are_reported_on_one():
    path = towards(GOAL, HOME)
    loop = Loop()
    loop.offer(rows(path))
    loop.tick(20)
    prefix, openings = loop.driver.commitment(loop.now).prefix(loop.now + 7_000_000, 3)
    following = np.vstack([prefix, np.tile(prefix[-1], (13, 1))])
    loop.tick(1)
    taken = rows(following, loop.now - TICK + 7_000_000, 2, 3)
    assert loop.offer(taken) == ()
    commitment = loop.driver.commitment(loop.now)
    assert len(commitment.positions) == len(commitment.gripper) > 10
    assert np.isfinite(commitment.positions).all() and commitment.chunk_set_id == 1
