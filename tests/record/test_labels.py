"""Labels come from the messages themselves."""

import pytest
from record_samples import attempt, said

from vla_mbpo.record.labels import SETTLED, Labels
from vla_mbpo.record.message import Approved, Attempt, Decided, Person, Proposed, Rows

BEGIN = 10**12


def labels(*notes, step=SETTLED):
    """Of one note per ``step`` [ns]."""
    made = Labels()
    for number, note in enumerate(notes):
        made.add(said("", BEGIN + number * step, note=note))
    return made


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "aborted"])
def test_an_attempt_gives_instruction_and_outcome(outcome):
    made = Labels()
    for message in (attempt(True), attempt(False, outcome)):
        made.add(message)
    report = made.report()
    assert (report["instruction"], report["outcome"]) == ("open the drawer", outcome)


def test_the_outcome_of_another_attempt_is_none_of_it():
    made = Labels()
    for message in (attempt(False, "failed", "press the button"), attempt(True)):
        made.add(message)
    assert made.report()["outcome"] == ""


def test_a_task_node_that_is_started_ends_the_attempt_of_the_one_before():
    """Incident (review): of one that died nobody said the end, and its recording grew until the disk was full."""
    made = Labels()
    started = Attempt(BEGIN, 0, False, "", "aborted", "the task node was started")
    for message in (attempt(True), said("", BEGIN, note=started)):
        made.add(message)
    assert (made.report()["outcome"], made.report()["message"]) == ("aborted", "the task node was started")


def test_what_comes_shortly_before_and_after_an_attempt_is_none_of_it():
    """Incident (review): a jog to the start had helped, and a set of the policy before made it an attempt of two."""
    around = [Person(1, True), Proposed(1, "old@1"), Decided(1, 0, False, ("jerk",)), Person(2, False)]
    made = Labels(one_attempt=True)
    notes = [*around, attempt(True).note, Proposed(2, "new@2"), Decided(2, 0, True), attempt(False, "succeeded").note]
    for number, note in enumerate(
        [*notes, Person(2**62, True), Proposed(3, "next@3"), Decided(3, 0, False, ("reach",))]
    ):
        made.add(said("", BEGIN + number, note=note))
    made.close(2**62 + 1)
    told = made.report()
    assert (told["policy_versions"], told["chunk_sets"], told["vetoes"]) == (["new@2"], 1, {})
    assert told["decisions"] == {"accepted": 1, "rejected": 0}
    assert all(
        not span["begin_ns"] < told["ended_ns"] or span["end_ns"] <= told["began_ns"] for span in told["interventions"]
    )


def test_a_persons_spans_begin_and_end_with_the_gates_word():
    made = labels(*(Person(stamp, there) for stamp, there in ((1, False), (2, True), (3, True), (5, False), (7, True))))
    made.close(9)
    assert made.spans == [[2, 5], [7, 9]]


def test_decisions_are_counted_with_the_check_that_refused():
    report = labels(
        Decided(1, 0, False, ("reach", "jerk")), Decided(1, 1, False, ("reach",)), Decided(1, 2, True)
    ).report()
    assert report["decisions"] == {"accepted": 1, "rejected": 2} and report["vetoes"] == {"reach": 2}


def test_policy_versions_are_listed_once():
    assert labels(*(Proposed(n, v) for n, v in enumerate("aab")), step=0).report()["policy_versions"] == ["a", "b"]


def test_rows_are_those_of_the_episode():
    report = labels(Rows(0, 100, 5, 0), Rows(1, 130, 6, 0)).report()
    assert report["rows"] == {"executed": 30, "dropped_late": 1, "executed_late": 0}


def test_rows_before_and_after_an_attempt_are_none_of_it():
    """Incident: those of the attempt before, driven to their end, counted."""
    made = Labels(one_attempt=True)
    notes = [Rows(1, 5, 0, 0), Rows(1, 20, 2, 0), attempt(True).note, Rows(2, 30, 2, 0)]
    for number, note in enumerate([*notes, attempt(False, "succeeded").note, Rows(0, 40, 3, 0)]):
        made.add(said("", BEGIN + number, note=note))
    assert made.report()["rows"] == {"executed": 10, "dropped_late": 0, "executed_late": 0}


def test_an_arm_driver_that_is_activated_anew_counts_from_zero():
    """Incident: an episode had executed -897 rows."""
    report = labels(Rows(0, 900, 5, 0), Rows(1, 910, 5, 0), Rows(0, 3, 0, 0), Rows(1, 8, 0, 0)).report()
    assert report["rows"] == {"executed": 18, "dropped_late": 0, "executed_late": 0}


def test_executed_rows_with_a_decision_are_explained():
    decided = (Decided(4, 2, True), Approved(4, 2), Rows(4, 1, 0, 0), Rows(4, 2, 0, 0))
    assert labels(Rows(0, 0, 0, 0), *decided).unexplained() == []


def test_executed_rows_without_an_approved_chunk_are_not():
    (reason,) = labels(Rows(0, 0, 0, 0), Rows(0, 0, 0, 0), Rows(4, 1, 0, 0)).unexplained()
    assert "4" in reason


def test_an_approved_chunk_without_a_decision_is_not_explained():
    (reason,) = labels(Rows(0, 0, 0, 0), Decided(4, 1, True), Approved(4, 2)).unexplained()
    assert "4/2" in reason


def test_rows_that_were_under_way_at_the_begin_need_no_decision():
    assert labels(Rows(3, 7, 0, 0), Rows(4, 8, 0, 0), step=SETTLED // 2).unexplained() == []
