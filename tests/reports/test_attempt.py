"""Numbers of attempts that are made up, and which vetoes are the worst."""

import math

import pytest
from report_samples import (
    BEGIN,
    RISKY,
    SAFE,
    UNKNOWN,
    UNSAFE,
    S,
    Said,
    chunk_set,
    decision,
    header,
    judged,
    labels,
    verdict,
)

from vla_mbpo.core.verdict import Verdict
from vla_mbpo.eval.statistics import wilson
from vla_mbpo.reports import numbers
from vla_mbpo.reports.attempt import ACCEPTED, PASSED_OVER, REFUSED, Told, told
from vla_mbpo.reports.vetoes import worst

LIMIT = "cost probability 0.40 (limit 0.15)"
SAY = "press the button"


def heard(**more):
    """Begins at 0 s; set 1 is left over from the attempt before."""
    begin = Said(header=header(0.0), running=True, instruction=SAY)
    return {"/task/attempt": [begin], "/policy/action_chunks": [chunk_set(1, -0.5), chunk_set(2, 0.1)]} | {
        f"/{name.replace('__', '/')}": messages for name, messages in more.items()
    }


def look(name, sets):
    """An attempt: ``sets`` are (observation [s], costs of refused candidates, NaN: by a check of the gate)."""
    chunks, verdicts, decisions = [], [], []
    for number, (at, costs) in enumerate(sets, 1):
        chunks.append(chunk_set(number, at, 8))
        for k, cost in enumerate(costs):
            imagined = judged(k, UNSAFE if cost > 0.15 else SAFE, cost) if math.isfinite(cost) else None
            decisions.append(decision(number, k, "imagination" if imagined else "table", LIMIT, imagined))
    said = heard() | {"/policy/action_chunks": chunks, "/imagination/verdict": verdicts, "/gate/decision": decisions}
    return told(name, labels(), said)


def test_sets_of_the_attempt_before_do_not_count():
    assert [found.set_id for found in told("a", labels(), heard()).looks] == [2]


def test_ages_are_from_the_observation_to_the_first_message_of_each_stage():
    def of(number, at):
        return Said(header=header(at), chunk_set_id=number)

    said = heard(
        imagination__verdict=[verdict(2, 0.16, judged(0, SAFE, 0.0))],
        gate__approved_chunk=[of(2, 0.175)],
        arm_driver__commitment=[
            Said(header=header(at), chunk_set_id=number, commanded_velocities=[], gripper=[])
            for number, at in ((0, 0.15), (2, 0.19), (2, 0.21))
        ],
    )
    (one,) = told("a", labels(), said).looks
    found = {name: round(age) for name, age in one.ages.items()}
    assert found == {"chunk set": 40, "world model's verdict": 60, "approved rows": 75, "rows in command": 90}
    assert numbers.ages([told("a", labels(), said)])[0] == ("chunk set", "40", "40", "40", "1")


def test_each_candidate_has_its_verdict_its_decision_and_its_reasons():
    said = heard(
        imagination__verdict=[verdict(2, 0.2, judged(0, UNSAFE, 0.4, reasons=[LIMIT]), judged(1, RISKY, 0.1))],
        gate__decision=[
            decision(2, 0, "imagination", "imagination: verdict 0.4", judged(0, UNSAFE, 0.4, reasons=[LIMIT])),
            decision(2, 1),
        ],
    )
    (one,) = told("a", labels(), said).looks
    first, second, third = one.candidates
    assert (first.decision, first.verdict, first.reasons) == (REFUSED, Verdict.UNSAFE, (LIMIT,))
    assert (second.decision, second.verdict, second.cost) == (ACCEPTED, Verdict.RISKY, 0.1)
    assert third.decision == PASSED_OVER and math.isnan(third.cost)
    assert one.dangerous == [first]


def test_a_set_refused_as_a_whole_refuses_no_candidate():
    said = heard(gate__decision=[decision(2, 0, "vetting", "UNKNOWN: no verdict")])
    (one,) = told("a", labels(), said).looks
    assert one.whole == "UNKNOWN: no verdict" and not one.dangerous
    assert {c.decision for c in one.candidates} == {PASSED_OVER}


def test_risk_and_costs_are_those_of_this_attempt():
    def risk(at, score, alarm=False, known=True):
        return Said(header=header(at), chunk_set_id=2, known=known, score=score, band=1.0, alarm=alarm)

    said = heard(
        failure_detector__risk=[
            risk(-0.2, 9.0, True), risk(0.2, 0.5), risk(0.6, math.nan, known=False), risk(1, 2, True),
        ],
        task__status=[Said(header=header(at), cost_events=events)
                      for at, events in ((-1, ["drop"] * 3), (0.5, []), (1, ["drop"]), (2, ["drop", "table_hit"]))],
    )  # fmt: skip
    one = told("a", labels(), said)
    assert one.risk == ((0.2, 0.5, 1.0, False), (0.6, None, None, False), (1.0, 2.0, 1.0, True))
    assert one.alarm == 1.0 and one.costs == ((1.0, "drop"), (2.0, "table_hit"))


@pytest.mark.parametrize("first", [-0.5, 0.1])
def test_costs_are_charged_to_the_attempt_in_which_they_were_added(first):
    """Incident: events listed since the last reset were another attempt's, and those after a reset were missed."""
    lists = ["drop"] * 2, ["drop", "drop", "spill"], [], ["late"]
    status = [Said(header=header(first + n), cost_events=events) for n, events in enumerate(lists)]
    assert told("a", labels(), heard(task__status=status)).costs == ((first + 1, "spill"), (first + 3, "late"))


def test_takeovers_are_counted_with_their_duration():
    spans = [
        {"begin_ns": BEGIN + S, "end_ns": BEGIN + 3 * S},
        {"begin_ns": BEGIN + 4 * S, "end_ns": BEGIN + 4 * S + S // 2},
    ]
    one = told("a", labels(interventions=spans), heard())
    assert one.takeovers == ((1.0, 3.0), (4.0, 4.5))
    assert dict(numbers.outcomes([one]))["takeovers by a person"] == "2, 2.5 s in all, longest 2.0 s"


def test_success_has_its_interval_and_leaves_out_what_was_aborted_or_no_attempt():
    outcomes = ["succeeded"] * 3 + ["failed"] + ["aborted"] * 2
    every = [Told(str(n), labels(outcome=outcome)) for n, outcome in enumerate(outcomes)]
    every.append(Told("by hand", labels(kind="manual")))
    low, high = wilson(3, 4)
    rows = dict(numbers.outcomes(every))
    assert rows["success, of those that succeeded or failed"] == f"3 of 4, 75.0% ({low:.3f} to {high:.3f})"
    assert (rows["attempts"], rows["succeeded"], rows["failed"], rows["aborted"]) == ("6", "3", "1", "2")
    assert rows["success, of all, aborted ones too"].startswith("3 of 6, 50.0%")


def test_vetoes_are_added_up_by_reason():
    one = labels(decisions={"accepted": 2, "rejected": 3}, vetoes={"table": 3})
    two = labels(decisions={"accepted": 1, "rejected": 2}, vetoes={"join": 1, "table": 1})
    found = numbers.vetoes([Told("a", one), Told("b", two)])
    assert found == [("accepted", "3", "37.5%"), ("refused: table", "4", "50.0%"), ("refused: join", "1", "12.5%")]


def test_what_is_missing_is_told_by_topic_the_worst_first():
    topics = {
        "/joint_states": {"recorded": 600, "lost": 0, "dropped": 0, "unwritten": 0, "longest_gap_s": 0.02},
        "/gate/decision": {"recorded": 60, "lost": 2, "dropped": 1, "unwritten": 0, "longest_gap_s": 0.5},
        "/task/status": {"recorded": 60, "lost": 0, "dropped": 0, "unwritten": 0, "longest_gap_s": 0.1},
    }
    found = numbers.losses([Told("a", labels(topics=topics)), Told("b", labels(topics=topics))])
    assert found == [
        ("/gate/decision", "120", "10.0", "4", "2", "0", "0.50"),
        ("/joint_states", "1200", "100.0", "0", "0", "0", "0.02"),
    ]


# The worst vetoes


def test_the_worst_veto_is_the_costliest_refused_candidate():
    many, costly = [0.2] * 7, [0.3, 0.6]
    first, second = worst([look("a", [(1, many), (3, costly)])], 5)
    assert (first.look.set_id, first.worst.number, first.worst.cost) == (2, 1, 0.6)
    assert second.look.set_id == 1 and first.time == 3.0


def test_without_a_world_model_the_number_of_refused_candidates_counts():
    found = worst([look("a", [(1, [math.nan]), (3, [math.nan] * 4)]), look("b", [(1, [math.nan] * 2)])], 2)
    assert [(m.attempt.name, len(m.look.dangerous)) for m in found] == [("a", 4), ("b", 2)]


def test_moments_of_one_attempt_are_apart_those_of_others_need_not_be():
    one = look("a", [(1.0, [0.5]), (1.4, [0.6]), (2.5, [0.2])])
    other = look("b", [(1.4, [0.4])])
    assert [(m.attempt.name, m.look.set_id) for m in worst([one, other], 9)] == [("a", 2), ("b", 1), ("a", 3)]
    assert len(worst([one, other], 2)) == 2


def test_what_was_refused_because_it_was_old_or_unknown_is_no_veto_of_a_danger():
    said = heard(
        gate__decision=[
            decision(2, 0, "age", "too old"),
            decision(2, 1, "imagination", "not finite", judged(1, UNKNOWN, math.nan)),
        ]
    )
    assert worst([told("a", labels(), said)], 3) == []
