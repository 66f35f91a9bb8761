"""The ring holds the newest messages that fit, whatever comes."""

from hypothesis import given
from hypothesis import strategies as st

from vla_mbpo.record.message import Message
from vla_mbpo.record.ring import Ring

ARRIVALS = st.lists(st.tuples(st.integers(0, 3_000_000_000), st.integers(0, 60)), max_size=60)


def messages(arrivals):
    """Made of (time since the last one [ns], size [bytes])."""
    now, made = 1, []
    for number, (step, size) in enumerate(arrivals):
        now += step
        made.append(Message(0, now, 0, number, bytes(size)))
    return made


def filled(arrivals, seconds, limit):
    ring = Ring(seconds, limit)
    made = messages(arrivals)
    for message in made:
        ring.add(message)
    return ring, made


@given(ARRIVALS, st.floats(0, 5), st.integers(0, 200))
def test_a_ring_is_never_above_its_bytes(arrivals, seconds, limit):
    ring, _ = filled(arrivals, seconds, limit)
    assert ring.size == sum(len(message.data) for message in ring.since(0)) <= limit


@given(ARRIVALS, st.floats(0, 5), st.integers(0, 200))
def test_a_ring_is_never_longer_than_its_seconds(arrivals, seconds, limit):
    ring, _ = filled(arrivals, seconds, limit)
    kept = ring.since(0)
    assert not kept or kept[-1].received - kept[0].received <= seconds * 1e9


@given(ARRIVALS, st.floats(0, 5), st.integers(0, 200))
def test_a_ring_keeps_the_newest_in_order_and_no_less_than_fits(arrivals, seconds, limit):
    ring, made = filled(arrivals, seconds, limit)
    kept = ring.since(0)
    assert kept == made[len(made) - len(kept) :]
    if len(kept) < len(made):
        before = made[len(made) - len(kept) - 1]
        too_old = made[-1].received - before.received > int(seconds * 1e9)
        # A message may have been let go of for one that has itself been too old since.
        assert too_old or ring.size + len(before.data) > limit or not _would_stay(made, before, seconds, limit)


def _would_stay(made, message, seconds, limit):
    """Whether everything from ``message`` on fitted at every moment since it came."""
    start = made.index(message)
    return all(sum(len(m.data) for m in made[start : end + 1]) <= limit for end in range(start, len(made)))


@given(ARRIVALS, st.integers(0, 10_000_000_000))
def test_since_is_what_came_since(arrivals, time):
    ring, made = filled(arrivals, 1e3, 10**6)
    assert ring.since(time) == [message for message in made if message.received >= time]
