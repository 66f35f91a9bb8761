"""Wilson intervals, paired differences."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_mbpo.eval.statistics import paired, paired_ratio, wilson

trials = st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@pytest.mark.parametrize(
    ("successes", "n", "interval"),
    [
        (0, 10, (0.0, 0.2775)),
        (5, 10, (0.2366, 0.7634)),
        (10, 10, (0.7225, 1.0)),
        (1, 1, (0.2065, 1.0)),
        (45, 50, (0.7864, 0.9565)),
        (0, 0, (0.0, 1.0)),
    ],
)
def test_known_values(successes, n, interval):
    assert wilson(successes, n) == pytest.approx(interval, abs=1e-4)


@given(trials)
def test_the_interval_holds_the_rate_and_is_one_of_probabilities(trial):
    successes, n = trial
    low, high = wilson(successes, n)
    assert 0 <= low <= successes / n + 1e-4
    assert successes / n - 1e-4 <= high <= 1


@given(trials)
def test_failures_mirror_successes(trial):
    successes, n = trial
    low, high = wilson(successes, n)
    assert wilson(n - successes, n) == pytest.approx((1 - high, 1 - low), abs=2e-4)


@given(trials)
def test_more_trials_narrow_the_interval(trial):
    successes, n = trial
    (low, high), (lower, higher) = wilson(4 * successes, 4 * n), wilson(successes, n)
    assert high - low < higher - lower


@given(trials)
def test_more_confidence_widens_the_interval(trial):
    (low, high), (lower, higher) = wilson(*trial, 0.90), wilson(*trial, 0.99)
    assert higher - lower > high - low


def test_scenes_that_have_their_chance_in_common_count_as_one():
    """Alarms by chance were the same in all ten tasks of a seed, and the interval was too narrow by a factor of 3."""
    rng = np.random.default_rng(0)
    common = np.repeat(rng.integers(0, 2, 40), 10)
    seeds, nothing = np.repeat(np.arange(40), 10), np.zeros(400)
    alone, together = paired(nothing, common), paired(nothing, common, group=seeds)
    assert alone[0] == together[0] and together[2] - together[1] > 2.5 * (alone[2] - alone[1])
    ratios = [paired_ratio(nothing + 1, common + 1, group=group) for group in (None, seeds)]
    assert ratios[0][0] == ratios[1][0] and ratios[1][2] - ratios[1][1] > 2.5 * (ratios[0][2] - ratios[0][1])


def test_without_groups_each_scene_is_one_of_its_own():
    before, after = np.arange(20) % 3 == 0, np.arange(20) % 2 == 0
    assert paired(before, after) == paired(before, after, group=np.arange(20))
