"""Whether a world model may be trained in, by numbers that are known."""

import numpy as np
import pytest

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.training.admission import Admission


def test_failures_are_counted_at_the_false_alarms_that_are_allowed():
    succeeded = np.arange(200) < 100
    success = np.where(succeeded, np.linspace(0.5, 0.9, 200), np.where(np.arange(200) < 160, 0.1, 0.8))
    found = Admission.of(success, succeeded)
    assert (found.looks, found.failure_recall) == (200, 0.6)


def test_the_gap_is_what_is_promised_beyond_what_there_was():
    succeeded = np.arange(10) < 4
    assert Admission.of(np.full(10, 0.7), succeeded).gap == pytest.approx(0.3)


def test_a_log_of_one_outcome_says_nothing():
    with pytest.raises(ConfigError, match="both outcomes"):
        Admission.of(np.full(4, 0.5), np.ones(4, bool))


def test_an_optimist_is_refused():
    with pytest.raises(ConfigError, match=r"world_model\.gap.*0\.3"):
        Admission(10, 0.9, 0.3, 0.9).check(0.1)


def test_an_optimist_within_the_limit_that_was_asked_for_is_not():
    assert Admission(10, 0.9, 0.3, 0.9).check(0.35)["gap"] == 0.3
