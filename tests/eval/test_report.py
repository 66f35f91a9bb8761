"""The summary of an evaluation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_mbpo.eval.lockstep import Outcome
from vla_mbpo.eval.report import percentiles, summarise
from vla_mbpo.eval.statistics import wilson
from vla_mbpo.sim.tasks import HELD_OUT_TASKS, TASKS, TRAINING_TASKS

outcomes = st.builds(
    Outcome,
    task=st.sampled_from(list(TASKS)),
    seed=st.integers(2_000_000, 2_000_100),
    success=st.booleans(),
    seconds=st.floats(0, 15),
    cost_events=st.lists(st.sampled_from(["drop", "table_hit"]), max_size=2),
    vetoes=st.integers(0, 9),
    stops=st.integers(0, 3),
)


def test_held_out_tasks_are_listed_beside_the_average():
    report = summarise(
        [Outcome("button", 1, True), Outcome("button", 2, False), *(Outcome(name, 1, False) for name in HELD_OUT_TASKS)]
    )
    assert set(report["tasks"]) == {"button"}
    assert set(report["unseen_tasks"]) == set(HELD_OUT_TASKS)
    assert report["success_rate"] == 0.5
    assert report["interval"] == wilson(1, 2)


@given(st.lists(outcomes, min_size=1, max_size=30))
def test_the_averages_are_those_of_the_training_tasks(group):
    report = summarise(group)
    seen = [o for o in group if o.task in TRAINING_TASKS]
    assert sum(row["n"] for row in report["tasks"].values()) == len(seen)
    if not seen:
        assert report["success_rate"] is None
        assert report["interval"] == (0.0, 1.0)
        return
    assert report["success_rate"] == pytest.approx(sum(o.success for o in seen) / len(seen), abs=1e-4)
    costs = sum(len(o.cost_events) for o in seen)
    assert report["cost_events_per_episode"] == pytest.approx(costs / len(seen), abs=1e-4)


@given(st.lists(outcomes, min_size=1, max_size=30))
def test_no_episode_is_lost_or_counted_twice(group):
    report = summarise(group)
    for name, row in {**report["tasks"], **report["unseen_tasks"]}.items():
        mine = [o for o in group if o.task == name]
        assert (row["n"], row["successes"]) == (len(mine), sum(o.success for o in mine))
        assert sum(row["cost_events"].values()) == sum(len(o.cost_events) for o in mine)
        assert row["interval"] == wilson(row["successes"], row["n"])


def test_a_stop_in_an_episode_with_a_cost_event_is_not_a_false_one():
    row = summarise([Outcome("button", 1, stops=2), Outcome("button", 2, stops=3, cost_events=["drop"])])["tasks"][
        "button"
    ]
    assert row["false_stops"] == 2


def test_veto_reasons_are_added_up():
    group = [Outcome("button", 1, reasons={"velocity": 2}), Outcome("button", 2, reasons={"velocity": 1, "table": 4})]
    assert summarise(group)["tasks"]["button"]["veto_reasons"] == {"velocity": 3, "table": 4}


def test_the_worst_seam_is_the_worst_of_all():
    report = summarise([Outcome("button", 1, seams=2, worst_seam=0.3), Outcome("drawer", 1, seams=5, worst_seam=0.1)])
    assert report["seams"] == {"switches": 7, "worst_ratio": 0.3}


@given(st.lists(st.floats(0, 1e4), min_size=1))
def test_percentiles_are_in_order_and_end_at_the_largest(values):
    found = percentiles(values)
    assert list(found) == ["p50", "p95", "p99", "max"]
    assert sorted(found.values()) == list(found.values())
    assert found["max"] == pytest.approx(max(values), abs=1e-3)


def test_nothing_measured_has_no_percentiles():
    assert percentiles([]) == {}
