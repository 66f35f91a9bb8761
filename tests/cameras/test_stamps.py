import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_mbpo.cameras.stamps import SLEW, WARM_UP, Rising, Stamps

HOST, STEADY, PERIOD = 1_800_000_000_000_000_000, 5_000_000_000_000, 33_333_333
DELAY = 8_000_000


def frames(count, drift=0.0, delay=lambda i: DELAY):
    """Exposure and arrival since some moment, and the device's stamp [ns]."""
    for i in range(count):
        exposed = i * PERIOD
        yield exposed, exposed + delay(i), round(exposed * (1 + drift)) + 5


def stamped(stamps, sequence, on_host=False, set_by=0):
    """Exposure, stamp, arrival of every frame that gets a stamp; the host's clock is ahead by ``set_by``."""
    for exposed, arrival, raw in sequence:
        stamp = stamps.stamp(raw, on_host, HOST + set_by + arrival, STEADY + arrival)
        if stamp is not None:
            yield exposed, stamp - HOST - set_by, arrival


def test_stamps_on_the_host_s_clock_are_taken_as_they_are():
    stamps = Stamps()
    seen = [stamps.stamp(HOST + e, True, HOST + a, STEADY + a) for e, a, _ in frames(5)]
    assert seen == [HOST + e for e, _, _ in frames(5)] and stamps.clock == "host"


def test_a_stamp_is_never_later_than_the_arrival():
    assert Stamps().stamp(HOST + 5_000_000, True, HOST, STEADY) == HOST


@settings(max_examples=10)
@given(st.integers(0, 2**32), st.floats(-1e-4, 1e-4), st.integers(0, 40_000_000))
def test_a_device_s_clock_is_followed_whatever_the_delays_are(seed, drift, jitter):
    """The error is at most the largest delay; it falls at once when a frame proves it too large, and rises slowly."""
    chance = random.Random(seed)
    sequence = list(frames(900, drift, lambda i: 6_000_000 + chance.randint(0, jitter) * (chance.random() < 0.9)))
    seen = list(stamped(Stamps(), sequence))
    assert len(seen) >= 900 - WARM_UP // PERIOD - 2
    errors = [stamp - exposed for exposed, stamp, _ in seen]
    assert all(exposed < stamp <= arrival for exposed, stamp, arrival in seen) and max(errors) <= 6_000_000 + jitter
    for before, after, (_, stamp, arrival) in zip(errors, errors[1:], seen[1:], strict=False):
        slow = (SLEW + abs(drift)) * PERIOD + 2
        assert after - before <= slow and (before - after <= slow or stamp == arrival)


def test_the_known_latency_is_taken_off():
    late, plain = (list(stamped(Stamps(latency), frames(40))) for latency in (6_000_000, 0))
    assert {b[1] - a[1] for a, b in zip(late, plain, strict=True)} == {6_000_000}


@pytest.mark.parametrize("on_host", [True, False])
@pytest.mark.parametrize("late", [300_000_000, 5_000_000_000])
def test_frames_that_come_late_for_long_look_as_old_as_they_are(on_host, late):
    """No picture becomes fresh because the machine was busy, not even after ten seconds of it."""
    sequence = list(frames(600, delay=lambda i: DELAY + late * (100 <= i < 400)))
    if on_host:
        sequence = [(exposed, arrival, HOST + exposed) for exposed, arrival, _ in sequence]
    errors = [stamp - exposed for exposed, stamp, _ in stamped(Stamps(), sequence, on_host)]
    assert max(errors) - min(errors) < 3_000_000


def test_a_start_on_a_busy_machine_is_put_right_by_the_first_frame_that_comes_in_time():
    sequence = frames(200, delay=lambda i: DELAY + 900_000_000 * (i < 60))
    errors = [stamp - exposed for exposed, stamp, _ in stamped(Stamps(), sequence)]
    assert max(errors) == DELAY + 900_000_000 and set(errors[50:]) == {DELAY}


@pytest.mark.parametrize("step", [-750_000_000, 3600 * 10**9])
def test_setting_the_host_s_clock_does_not_disturb_a_device_s(step):
    stamps, sequence = Stamps(), list(frames(200))
    errors = [stamp - exposed for exposed, stamp, _ in stamped(stamps, sequence[:100])]
    errors += [stamp - exposed for exposed, stamp, _ in stamped(stamps, sequence[100:], set_by=step)]
    assert set(errors) == {DELAY} and len(errors) > 180


def test_a_device_s_counter_that_begins_anew_loses_no_more_than_the_warm_up():
    sequence = [(e, a, raw - 150 * PERIOD * (e >= 150 * PERIOD)) for e, a, raw in frames(300)]
    seen = list(stamped(Stamps(), sequence))
    assert {stamp - exposed for exposed, stamp, _ in seen} == {DELAY}
    assert len(seen) >= 300 - 2 * (WARM_UP // PERIOD + 2)


def test_a_camera_whose_stamps_get_onto_the_host_s_clock_has_no_jump_in_what_it_publishes():
    stamps, seen = Stamps(), []
    for i, (exposed, arrival, raw) in enumerate(frames(60)):
        stamp = stamps.stamp(HOST + exposed if i >= 10 else raw, i >= 10, HOST + arrival, STEADY + arrival)
        seen += [] if stamp is None else [stamp - HOST - exposed]
    assert seen == [0] * 50


def test_stamps_that_are_said_to_be_the_host_s_and_are_not_are_not_believed():
    stamps = Stamps()
    sequence = [(exposed, arrival, HOST + exposed - 5 * 10**9) for exposed, arrival, _ in frames(60)]
    seen = list(stamped(stamps, sequence, on_host=True))
    assert stamps.clock == "device" and len(seen) < 60
    assert {stamp - exposed for exposed, stamp, _ in seen} == {DELAY}


def test_a_frame_that_comes_twice_gets_no_second_stamp():
    stamps = Stamps()
    assert stamps.stamp(HOST, True, HOST + 1, STEADY + 1) == HOST
    assert stamps.stamp(HOST, True, HOST + 2, STEADY + 2) is None and stamps.refused == 1


def test_published_stamps_rise_unless_the_clock_was_set_back():
    time = [HOST]
    rising = Rising(lambda: time[0])
    assert rising.accept(HOST) and not rising.accept(HOST) and not rising.accept(HOST - PERIOD)
    assert rising.refused == 2
    time[0] = HOST - 10**12
    assert rising.accept(time[0])
