"""Chunks as integers."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vla_mbpo.imagination.actions import BEYOND, BINS, ActionBins, action_rows

RANGES = ActionBins(np.array([-1.0, 0.0]), np.array([1.0, 0.08]))
ROWS = arrays(np.float64, (5, 2), elements=st.floats(-2.0, 2.0))


@given(ROWS)
def test_a_value_within_the_range_lies_in_its_bin(rows):
    bins = RANGES.bins(rows).astype(float)
    low = RANGES.low + bins / BINS * (RANGES.high - RANGES.low)
    width = (RANGES.high - RANGES.low) / BINS
    inside = (rows >= RANGES.low) & (rows < RANGES.high)
    assert ((rows >= low - 1e-12) & (rows <= low + width + 1e-12))[inside].all()


@given(ROWS)
def test_what_is_outside_gets_the_outermost_bin(rows):
    bins = RANGES.bins(rows)
    assert (bins[rows < RANGES.low] == 0).all() and (bins[rows > RANGES.high] == BINS - 1).all()


@given(ROWS, st.integers(0, 4), st.sampled_from([-1, 1]), st.floats(0.01, 100.0))
def test_one_row_that_is_far_outside_puts_its_chunk_beyond(rows, at, side, further):
    tame = np.clip(rows, RANGES.low, RANGES.high)
    wild, width = tame.copy(), RANGES.high - RANGES.low
    wild[at, 1] = (RANGES.low if side < 0 else RANGES.high)[1] + side * (BEYOND + further) * width[1]
    assert RANGES.beyond(np.stack([tame, wild])).tolist() == [False, True]


def test_ranges_are_the_first_and_last_percentile_and_never_empty():
    rows = np.stack([np.linspace(0, 100, 1001), np.full(1001, 3.0)], 1)
    made = ActionBins.of(rows)
    np.testing.assert_allclose([made.low[0], made.high[0]], [1.0, 99.0])
    assert made.high[1] > made.low[1]


def test_rows_are_relative_to_the_measured_pose_and_the_tool():
    rng = np.random.default_rng(0)
    positions, opening, tool = rng.normal(size=(3, 16, 7)), rng.random((3, 16)), rng.normal(size=(3, 16, 3))
    joints, tool_now = rng.normal(size=7), rng.normal(size=3)
    rows = action_rows(positions, opening, tool, joints, tool_now)
    np.testing.assert_allclose(rows[..., :7] + joints, positions)
    np.testing.assert_allclose(rows[..., 7], opening)
    np.testing.assert_allclose(rows[..., 8:] + tool_now, tool)
