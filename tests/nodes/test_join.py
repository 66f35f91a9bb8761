"""What belongs to one chunk set is brought together, whatever the order in which it comes."""

from vla_mbpo_msgs.msg import ActionChunk, ActionChunkSet, CandidateVerdict, ImaginationVerdict

from vla_mbpo.nodes.convert import to_time
from vla_mbpo.nodes.join import VettingJoin

MODEL = "world_model@1"


def chunk_set(number):
    return ActionChunkSet(chunk_set_id=number, observation_stamp=to_time(number), chunks=[ActionChunk()])


def verdict(number):
    return ImaginationVerdict(
        chunk_set_id=number,
        observation_stamp=to_time(number),
        model_version=MODEL,
        candidates=[CandidateVerdict(verdict=CandidateVerdict.SAFE)],
        order=[0],
    )


def test_an_answer_that_finds_the_set_before_expired_still_counts_for_its_own():
    """Incident: it was thrown away with the set whose time was over, and its own, 10 ms later, was UNKNOWN."""
    join = VettingJoin(0.1, MODEL)
    join.add_set(chunk_set(1), 0.0)
    late = join.add(verdict(2), 0.2)
    assert late is not None and late.message.chunk_set_id == 1 and "no verdict" in late.unknown
    before, vetted = join.add_set(chunk_set(2), 0.21)
    assert before is None and vetted is not None and (vetted.unknown, list(vetted.order)) == ("", [0])


def test_an_answer_that_comes_too_late_for_its_set_is_not_used():
    join = VettingJoin(0.1, MODEL)
    join.add_set(chunk_set(1), 0.0)
    late = join.add(verdict(1), 0.2)
    assert late is not None and "no verdict within 0.1 s" in late.unknown and not late.order
