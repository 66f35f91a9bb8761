"""What is missing is known by the writers' numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_samples import STATE, STOP, TOPICS, WORDS, said

from vla_mbpo.record.audit import Audit, Sequences
from vla_mbpo.record.message import TopicInfo


@given(st.lists(st.booleans(), min_size=1, max_size=80))
def test_every_message_that_is_missing_between_two_others_is_counted(came):
    sequences = Sequences()
    numbers = [number for number, there in enumerate(came, 1) if there]
    missed = sum(sequences.missed(0, b"a", number) for number in numbers)
    between = came[numbers[0] - 1 : numbers[-1]] if numbers else []
    assert missed == between.count(False)


def test_writers_of_one_topic_do_not_disturb_each_other():
    sequences = Sequences()
    assert sum(sequences.missed(0, writer, number) for number in range(1, 20) for writer in (b"a", b"b")) == 0


def test_what_a_writer_said_before_its_first_message_came_is_not_known():
    assert Sequences().missed(0, b"a", 500) == 0


def test_a_message_that_comes_twice_is_no_loss():
    sequences = Sequences()
    assert [sequences.missed(0, b"a", number) for number in (1, 2, 2, 1, 3)] == [0] * 5


def test_without_numbers_nothing_is_known():
    sequences = Sequences()
    assert [sequences.missed(0, b"a", number) for number in (0, 0, 0)] == [0] * 3


def test_an_episode_that_lacks_nothing_has_no_reason():
    audit = Audit(TOPICS)
    audit.add(said("a"))
    audit.written([1, 0, 0], [1, 0, 0])
    assert audit.reasons(True) == []


@pytest.mark.parametrize("how", ["lost", "dropped", "unwritten"])
def test_each_kind_of_loss_is_a_reason_that_names_topic_and_count(how):
    audit = Audit(TOPICS)
    audit.add(said("a", lost=3 if how == "lost" else 0))
    if how == "dropped":
        audit.drop({WORDS: 3})
    audit.written([1, 0, 0], [4 if how == "unwritten" else 1, 0, 0])
    (reason,) = audit.reasons(True)
    assert reason.startswith("3 messages lost") and "/words 3" in reason


def test_an_attempt_without_a_required_topic_is_not_complete():
    topics = (*TOPICS, TopicInfo("/camera", "sensor_msgs/msg/Image", required=True))
    audit = Audit(topics)
    assert audit.reasons(True) == ["no message of /camera"] and audit.reasons(False) == []


def test_the_longest_gap_is_reported():
    audit = Audit(TOPICS)
    for received in (10**9, 2 * 10**9, 5 * 10**9):
        audit.add(said("a", received))
    audit.add(said("a", 10**9, STOP))
    audit.written([3, 1, 0], [3, 1, 0])
    report = audit.report()
    assert report["/words"]["longest_gap_s"] == 3.0 and "/state" not in report
    assert STATE not in report
