"""What was said then and now is joined by the observation, and what has no partner is counted."""

import json

import numpy as np
import pytest

from vla_mbpo.core.verdict import Verdict
from vla_mbpo.replay.comparison import compare, joined
from vla_mbpo.replay.report import text
from vla_mbpo.replay.said import Judgement, Proposal, Risk, Said

SAFE, RISKY, UNSAFE, UNKNOWN = Verdict.SAFE, Verdict.RISKY, Verdict.UNSAFE, Verdict.UNKNOWN
S = 10**9


def proposal(first=0.0, second=0.0, rows=4, **more):
    """Two candidates of three joints, off by ``first`` and ``second`` in one row of one joint."""
    positions = np.zeros((2, rows, 3))
    positions[0, 2, 1], positions[1, 3, 0] = first, second
    return Proposal("p", positions, np.full((2, rows), 0.04), more.pop("measured", np.zeros(3)), **more)


def judgement(verdicts, order=(), scores=None, reason=""):
    return Judgement("w", tuple(verdicts), tuple(scores or [0.0] * len(verdicts)), tuple(order), reason)


def test_what_has_no_partner_is_counted_and_not_compared():
    then = Said({1: proposal(), 2: proposal(9.0), 3: proposal()})
    now = Said({1: proposal(), 3: proposal(), 4: proposal(9.0), 5: proposal(9.0)})
    found = compare(then, now)["sets"]
    counts = {name: found[name] for name in ("then", "now", "joined", "only_then", "only_now")}
    assert counts == {"then": 3, "now": 4, "joined": 2, "only_then": 1, "only_now": 2}
    assert found["first_rad"] == {"median": 0.0, "p95": 0.0, "max": 0.0}


def test_differences_are_the_largest_over_rows_and_joints():
    found = compare(Said({1: proposal(0.2, 0.1)}), Said({1: proposal(0.5, 0.1)}))["sets"]
    assert found["first_rad"]["max"] == pytest.approx(0.3) and found["mean_rad"]["max"] == pytest.approx(0.15)
    assert found["spread_then_rad"]["max"] == pytest.approx(0.2)


def test_sets_of_different_numbers_of_candidates_are_compared_by_first_and_mean():
    one = proposal(0.2)
    fewer = Proposal("p", one.positions[:1], one.gripper[:1], one.measured)
    found = compare(Said({1: one}), Said({1: fewer}))["sets"]
    assert found["first_rad"]["max"] == 0.0 and found["mean_rad"]["max"] == pytest.approx(0.1)


def test_sets_of_another_horizon_are_counted_and_not_compared():
    found = compare(Said({1: proposal()}), Said({1: proposal(rows=8)}))["sets"]
    assert (found["joined"], found["other_shape"], found["first_rad"]) == (1, 1, {})


@pytest.mark.parametrize("other", [{"measured": np.full(3, 0.1)}, {"committed": 2}])
def test_sets_made_of_other_inputs_are_told_apart(other):
    then, now = Said({1: proposal(), 2: proposal()}), Said({1: proposal(), 2: proposal(0.3, **other)})
    found = compare(then, now)["sets"]
    assert (found["same_inputs"], found["first_rad_same_inputs"]["max"], found["first_rad"]["max"]) == (1, 0.0, 0.3)


def test_verdicts_are_a_table_of_candidates_then_and_now():
    then = Said(verdicts={1: judgement([SAFE, SAFE, UNSAFE]), 2: judgement([UNKNOWN])})
    now = Said(verdicts={1: judgement([SAFE, RISKY, UNSAFE]), 2: judgement([SAFE, SAFE])})
    found = compare(then, now)["verdicts"]
    assert found["table"]["SAFE"] == {"UNKNOWN": 0, "SAFE": 1, "RISKY": 1, "UNSAFE": 0}
    assert (found["agree"], found["candidates"], found["unpaired"]) == (2, 4, 1)


def test_orders_are_compared_where_both_have_one():
    then = Said(verdicts={1: judgement([SAFE] * 2, (0, 1)), 2: judgement([SAFE] * 2, (0, 1)), 3: judgement([UNSAFE])})
    now = Said(
        verdicts={1: judgement([SAFE] * 2, (0, 1)), 2: judgement([SAFE] * 2, (1, 0)), 3: judgement([SAFE], (0,))}
    )
    found = compare(then, now)["verdicts"]
    assert (found["ordered"], found["same_first"], found["same_order"]) == (2, 1, 1)


def test_what_the_gate_accepted_is_compared_with_the_first_choice_now():
    then = Said(chosen={1: 0, 2: 1, 3: 0, 4: 0})
    now = Said(verdicts={1: judgement([SAFE], (0,)), 2: judgement([SAFE], (0,)), 3: judgement([UNSAFE])})
    found = compare(then, now)["verdicts"]
    assert (found["decided"], found["chosen_is_first_now"], found["nothing_now"]) == (3, 1, 1)


def test_sets_of_which_nothing_was_known_are_counted_by_reason():
    then = Said(verdicts={n: judgement([UNKNOWN] * 2, reason="late") for n in (1, 2)} | {3: judgement([UNKNOWN, SAFE])})
    assert compare(then, Said())["verdicts"]["all_then"]["unknown_sets"] == {"late": 2}


def test_scores_that_are_not_numbers_are_left_out():
    then = Said(verdicts={1: judgement([UNKNOWN, SAFE], scores=[float("nan"), 0.5])})
    now = Said(verdicts={1: judgement([SAFE, SAFE], scores=[0.1, 0.7])})
    found = compare(then, now)
    assert found["verdicts"]["score"]["max"] == pytest.approx(0.2)
    json.dumps(found, allow_nan=False)


def test_risks_say_when_the_alarm_came_then_and_now():
    then = Said(risks={n * S: Risk("b", True, 1.0 + n, alarm=n > 2) for n in range(1, 5)})
    now = Said(risks={n * S: Risk("b", n > 1, 1.5 + n, alarm=False) for n in range(1, 5)})
    found = compare(then, now)["risks"]
    assert found["alarms"] == {"then": 2, "now": 0, "both": 0} and found["known"] == 3
    assert found["first_alarm_s"] == {"then": 2.0, "now": None}
    assert found["score"] == {"median": 0.5, "p95": 0.5, "max": 0.5}


def test_nothing_in_common_is_nothing_joined():
    found = compare(Said({1: proposal()}), Said({2: proposal()}))
    assert joined(found) == 0 and len(found["looks"]) == 2
    assert joined(compare(Said(), Said())) == 0


def test_a_part_keeps_what_is_about_its_observations():
    said = Said({1: proposal(), 2: proposal(), 3: proposal()}, chosen={1: 0, 3: 0})
    kept = said.about({2, 3})
    assert (set(kept.sets), kept.chosen) == ({2, 3}, {3: 0}) and len(said.sets) == 3


def test_the_table_names_what_has_no_partner():
    lines = text(compare(Said({1: proposal(), 2: proposal()}), Said({1: proposal()}))).splitlines()
    assert next(line for line in lines if line.startswith("chunk sets")).split()[2:] == ["2", "1", "1", "1", "0"]
