import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import betabinom

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.failure.bands import Band, Curve, Shape, needed, pad, rank, vote


def walks(rng, count, members=3, longest=30):
    """Attempts whose scores stray at random: exchangeable."""
    lengths = rng.integers(5, longest, count)
    return [np.cumsum(rng.normal(0.1, 1.0, (members, n)), 1) for n in lengths]


def raises(band, curve, width):
    watched = Curve(band)
    return any(watched.add(curve[:, t], t)[0] > width for t in range(curve.shape[1]))


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2])
def test_false_alarms_of_exchangeable_attempts_are_at_most_alpha(alpha):
    """10,000 trials: 200 calibrations of 60 attempts, 50 fresh attempts each."""
    rng, alarms, trials = np.random.default_rng(5), 0, 0
    for number in range(200):
        band = Band.fit(walks(rng, 60), votes=2, seed=number)
        width = band.width(alpha)
        for curve in walks(rng, 50):
            alarms += raises(band, curve, width)
            trials += 1
    # Fresh attempts that share a calibration are not independent: each calibration's rate varies by itself.
    n = 42
    spread = betabinom(50, n + 1 - rank(n, alpha), rank(n, alpha)).std() * np.sqrt(200) / trials
    assert trials == 10_000
    assert alarms / trials <= alpha + 3 * spread


@pytest.mark.parametrize("alpha", [0.02, 0.05, 0.1, 0.15, 0.2, 0.5])
def test_fewest_attempts_are_enough_and_one_less_is_not(alpha):
    rng, n = np.random.default_rng(1), needed(alpha)
    curves = walks(rng, n)
    assert np.isfinite(Band.fit(curves, 2).width(alpha))
    with pytest.raises(ConfigError, match=f"at least {n}|at least {needed(0.5)}"):
        Band.fit(curves[:-1], 2).width(alpha)


@given(st.integers(1, 500), st.floats(0.01, 0.9))
def test_rank_is_the_finite_sample_one(n, alpha):
    assert rank(n, alpha) - 1 < (n + 1) * (1 - alpha) + 1e-6
    assert rank(n, alpha) >= (n + 1) * (1 - alpha) - 1e-6


def test_shorter_attempts_are_padded_with_their_last_value():
    padded = pad([np.array([[1.0, 2.0]]), np.array([[3.0, 4.0, 5.0]])], 4)
    assert padded[:, 0].tolist() == [[1.0, 2.0, 2.0, 2.0], [3.0, 4.0, 5.0, 5.0]]


def test_the_band_goes_on_where_no_calibration_attempt_was_as_long():
    shape = Shape(np.array([[0.0, 1.0]]), np.array([[1.0, 2.0]]))
    assert shape.standardised(np.array([5.0]), 9) == shape.standardised(np.array([5.0]), 1) == [2.0]


@given(st.lists(st.floats(-10, 10), min_size=3, max_size=3), st.floats(-10, 10))
def test_two_of_three_members_must_be_above_for_the_vote_to_be(highest, width):
    above = vote(np.array(highest), 2) > width
    assert above == (sum(one > width for one in highest) >= 2)


def test_a_member_that_was_above_once_counts_for_the_rest_of_the_attempt():
    band = Band(Shape(np.zeros((2, 3)), np.ones((2, 3))), np.array([1.0]), 2)
    curve = Curve(band)
    assert curve.add(np.array([9.0, 0.0]), 0)[0] == 0.0
    assert curve.add(np.array([0.0, 5.0]), 1)[0] == 5.0
    curve.reset()
    assert curve.add(np.array([0.0, 5.0]), 0)[0] == 0.0


def test_a_member_that_is_alike_at_first_does_not_alarm_by_a_trifle():
    """Incident of the method: the modulation at the first look was zero, and rounding exceeded any band."""
    rng = np.random.default_rng(0)
    curves = walks(rng, 40, members=1)
    for curve in curves:
        curve[:, 0] = 0.0
    band = Band.fit(curves, 1)
    assert Curve(band).add(np.array([1e-3]), 0)[0] < band.width(0.1)


def test_a_whole_attempt_reaches_what_it_does_look_by_look():
    rng = np.random.default_rng(3)
    band, curve = Band.fit(walks(rng, 40), 2), walks(rng, 1)[0]
    watched = Curve(band)
    found = [watched.add(curve[:, t], t)[0] for t in range(curve.shape[1])]
    np.testing.assert_array_equal(band.reached(curve), found)


def test_nan_scores_are_not_taken_for_calm():
    band = Band(Shape(np.zeros((1, 3)), np.ones((1, 3))), np.array([1.0]), 1)
    reached, _ = Curve(band).add(np.array([np.nan]), 0)
    assert not reached <= 1.0
