"""Ranking and calibration metrics, against their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_mbpo.training.judge import Reliability, average_precision, interval_by_group, platt, recall_at, roc_auc

CASES = st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40)


@given(CASES)
def test_roc_auc_is_the_share_of_pairs_in_the_right_order(cases):
    score, label = np.array([c[0] for c in cases], float), np.array([c[1] for c in cases])
    good, bad = score[label], score[~label]
    if not len(good) or not len(bad):
        assert np.isnan(roc_auc(score, label))
        return
    pairs = np.sign(good[:, None] - bad[None]).mean() / 2 + 0.5
    assert roc_auc(score, label) == pytest.approx(pairs)


@given(CASES)
def test_another_scale_of_the_score_changes_nothing(cases):
    score, label = np.array([c[0] for c in cases], float), np.array([c[1] for c in cases])
    np.testing.assert_equal(roc_auc(score, label), roc_auc(np.exp(score) * 3, label))
    np.testing.assert_equal(average_precision(score, label), average_precision(np.exp(score) * 3, label))


def test_average_precision_of_a_known_order():
    score, label = np.array([4.0, 3.0, 2.0, 1.0]), np.array([True, False, True, False])
    assert average_precision(score, label) == pytest.approx((1 + 2 / 3) / 2)


@given(st.integers(0, 1000), st.sampled_from([0.05, 0.1, 0.2]))
def test_recall_is_taken_where_no_more_than_the_false_alarms_are_raised(seed, share):
    rng = np.random.default_rng(seed)
    label = rng.random(200) < 0.4
    score = rng.normal(0, 1, 200) + label
    recall, threshold = recall_at(score, label, share)
    assert (score[~label] > threshold).mean() <= share
    assert recall == (score[label] > threshold).mean()


@given(st.integers(0, 20))
def test_calibration_undoes_a_wrong_temperature_and_bias(seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, 4000)
    label = (rng.random(4000) < 1 / (1 + np.exp(-logits))).astype(float)
    scale, shift = platt(((logits + 1.0) * 3.0)[None], label)
    made = 1 / (1 + np.exp(-(scale * (logits + 1.0) * 3.0 + shift)))
    assert np.abs(made - 1 / (1 + np.exp(-logits))).mean() < 0.05
    assert Reliability.of(made, label > 0.5).error < 0.05


def test_the_reliability_of_what_is_always_sure_and_half_right():
    made = Reliability.of(np.ones(10), np.arange(10) < 5)
    assert made.count == [10] and made.error == 0.5


def test_the_interval_counts_attempts_and_not_looks():
    """Ten looks of one attempt say no more than one."""
    rng = np.random.default_rng(0)
    values, groups = rng.normal(size=20), np.arange(20)
    narrow = interval_by_group(lambda i: values[i].mean(), groups)
    repeated = interval_by_group(lambda i: np.repeat(values, 10)[i].mean(), np.repeat(groups, 10))
    assert np.diff(repeated) == pytest.approx(np.diff(narrow), rel=0.15)
