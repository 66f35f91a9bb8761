"""Attempts as a failure detector sees them after the fact are what it saw of them on the robot."""

from dataclasses import replace

import numpy as np
import pytest
from made_up import FEATURES, calm_attempt

from vla_mbpo.failure.attempts import curve, period
from vla_mbpo.failure.detector import FailureDetector
from vla_mbpo.failure.scores import Elapsed


@pytest.fixture
def detector(tiny_detector):
    return FailureDetector.load(str(tiny_detector), 0.1, "", str(tiny_detector.with_name("bands.json")))


def test_other_samples_for_the_same_look_are_no_looks():
    attempt = calm_attempt(5, FEATURES)
    twice = tuple(one for look in attempt.looks for one in (look, replace(look, row=look.row + 3)))
    np.testing.assert_array_equal(curve(replace(attempt, looks=twice), [Elapsed()]), curve(attempt, [Elapsed()]))


def test_a_look_that_is_missing_leaves_the_others_at_their_times():
    """Incident: attempts with six looks missing were compared with the bands of earlier moments, and alarmed."""
    attempt = calm_attempt(6, FEATURES)
    found = curve(replace(attempt, looks=attempt.looks[:4] + attempt.looks[6:]), [Elapsed()])
    np.testing.assert_array_equal(found, [[0, 8, 16, 24, 24, 24, 48, 56, 64, 72, 80, 88]])


def test_each_look_counts_where_a_policy_looks_more_often():
    """Incident (review): of a policy that looks every two rows three looks in four were left out of its curves."""
    attempt = calm_attempt(7, FEATURES)
    often = replace(attempt, looks=tuple(replace(look, row=look.row / 4) for look in attempt.looks))
    assert period([attempt, often, often]) == 2 and period([attempt]) == 8
    assert curve(often, [Elapsed()], 2).shape[1] == len(attempt.looks) > curve(often, [Elapsed()]).shape[1]


@pytest.mark.parametrize("seed", range(20))
def test_what_looks_between_the_periods_reach_is_no_less_either(detector, seed):
    """Incident (review): of two looks half a period off, which had the same number, only the second counted."""
    attempt, rows = calm_attempt(seed, FEATURES, looks=21), [0, *range(12, 172, 8)]
    late = replace(attempt, looks=tuple(replace(k, row=row) for k, row in zip(attempt.looks, rows, strict=True)))
    lived = max(detector.add(look).score for look in late.looks)
    assert detector.calibration.band.reached(curve(late, detector._scores))[-1] >= lived - 1e-9


@pytest.mark.parametrize("seed", range(20))
def test_what_the_vote_reaches_is_no_less_than_on_the_robot(detector, tiny_detector, seed):
    """So that bands made of attempts with missing looks do not alarm more often than alpha."""
    rng = np.random.default_rng(seed)
    attempt = calm_attempt(seed, FEATURES, looks=30)
    kept = [look for look in attempt.looks if look.row == 0 or rng.random() < 0.7]
    again = [replace(look, row=look.row + 2) for look in kept if rng.random() < 0.3]
    mixed = tuple(sorted((*kept, *again), key=lambda look: look.row))
    lived = [detector.add(look).score for look in mixed][-1]
    scores = detector._scores
    assert detector.calibration.band.reached(curve(replace(attempt, looks=mixed), scores))[-1] >= lived - 1e-9
    whole = [detector.reset(), *(detector.add(look).score for look in kept)][-1]
    assert detector.calibration.band.reached(curve(replace(attempt, looks=tuple(kept)), scores))[-1] >= whole - 1e-9
