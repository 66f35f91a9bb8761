"""Verdicts and choice among imagined candidates."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.core.verdict import Verdict
from vla_mbpo.imagination.planner import Imagined, PlannerConfig, choose

CONFIG = PlannerConfig()
FIT = (Verdict.SAFE, Verdict.RISKY)
SHARE = st.floats(0.0, 1.0)


def imagined(success=(0.5, 0.5), value=None, cost=None, uncertainty=None):
    k = len(success)
    arrays = (success, success if value is None else value, cost or [0.0] * k, uncertainty or [0.0] * k)
    return Imagined(*(np.array(values, float) for values in arrays))


def choice(made, distance=None, config=CONFIG):
    return choose(made, np.zeros(len(made.success)) if distance is None else np.array(distance), config)


@st.composite
def anything(draw):
    k = draw(st.integers(1, 8))
    numbers = st.lists(SHARE | st.just(float("nan")), min_size=k, max_size=k)
    return Imagined(*(np.array(draw(numbers)) for _ in range(4)))


@given(anything(), st.integers(0, 9))
def test_only_safe_and_risky_candidates_are_offered_and_each_once(made, seed):
    distance = np.random.default_rng(seed).random(len(made.success))
    found = choose(made, distance, CONFIG)
    assert sorted(found.order) == [k for k, verdict in enumerate(found.verdicts) if verdict in FIT]


@given(anything())
def test_whatever_is_not_finite_is_unknown(made):
    found = choice(made)
    for k, verdict in enumerate(found.verdicts):
        if not np.isfinite([made.success[k], made.value[k], made.cost[k], made.uncertainty[k]]).all():
            assert verdict == Verdict.UNKNOWN
            assert found.reasons[k]


@given(anything())
def test_the_preferred_score_is_at_most_the_margin_below_the_best(made):
    found = choice(made)
    if found.order:
        assert found.scores[found.order[0]] >= found.scores[list(found.order)].max() - CONFIG.margin


def test_the_best_value_goes_first():
    assert choice(imagined(value=(0.2, 0.8))).order == (1, 0)


def test_a_likely_cost_is_unsafe_and_says_so():
    found = choice(imagined(cost=[0.0, CONFIG.unsafe_cost]))
    assert found.verdicts == (Verdict.SAFE, Verdict.UNSAFE)
    assert found.order == (0,)
    assert f"cost probability {CONFIG.unsafe_cost:.2f} (limit {CONFIG.unsafe_cost:.2f})" in found.reasons[1]


def test_some_cost_or_little_hope_is_risky_but_may_be_executed():
    found = choice(imagined(success=(0.5, CONFIG.risky_success / 2), cost=[CONFIG.risky_cost, 0.0]))
    assert found.verdicts == (Verdict.RISKY, Verdict.RISKY)
    assert len(found.order) == 2


def test_too_much_disagreement_is_unknown():
    found = choice(imagined(uncertainty=[0.0, CONFIG.max_uncertainty + 0.01]))
    assert found.verdicts[1] == Verdict.UNKNOWN
    assert found.order == (0,)


@given(st.floats(0.0, 0.0099), st.booleans())
def test_among_equal_candidates_the_one_under_way_stays(difference, first):
    """Incident: two candidates of one value take turns in being the better one by rounding, and the arm dithers."""
    value = (0.5, 0.5 + difference) if first else (0.5 + difference, 0.5)
    config = PlannerConfig(margin=0.01)
    assert choice(imagined(value=value), distance=[0.0, 0.1], config=config).order[0] == 0
    assert choice(imagined(value=value), distance=[0.1, 0.0], config=config).order[0] == 1


def test_a_clearly_better_candidate_takes_over():
    assert choice(imagined(value=(0.5, 0.6)), distance=[0.0, 1.0]).order[0] == 1


@pytest.mark.parametrize("field, value", [("margin", -0.1), ("unsafe_cost", 1.1), ("risky_cost", 0.9)])
def test_a_value_out_of_range_is_refused_by_name(field, value):
    with pytest.raises(ConfigError, match=f"imagination.{field}"):
        PlannerConfig(**{field: value})


def test_a_candidate_beyond_what_the_model_was_shown_is_unknown_whatever_it_expects():
    """Incident: far rows get the outermost bin, so that a jump by a radian was imagined as a tame chunk and SAFE."""
    found = choice(replace(imagined(success=(0.9, 0.5)), beyond=np.array([True, False])))
    assert found.verdicts == (Verdict.UNKNOWN, Verdict.SAFE) and found.order == (1,)
    assert "far from all" in found.reasons[0][0]
