"""The pipe to the dreaming process: whoever asks never waits for it."""

import os
import signal
import struct
import time
from multiprocessing.connection import Pipe
from pathlib import Path
from threading import Timer

import numpy as np
import pytest

from vla_mbpo.core.observation import Observation
from vla_mbpo.imagination.dreaming import Dreamer

AT_ONCE = 0.5  # s
LARGE = 1000  # px; 6 MB for both views, of which the pipe takes 200 kB


def ask(dreamer, pixels):
    """Have it dream of a picture of this size; the seconds that it took to say so."""
    picture = np.zeros((pixels, pixels, 3), np.uint8)
    seen = Observation(1, picture, picture, np.zeros(7), np.zeros(7), 0.04)
    begin = time.monotonic()
    dreamer.ask(seen, "press the button", np.zeros((16, 7)), np.zeros(16))
    return time.monotonic() - begin


@pytest.fixture
def dreamer():
    """One whose process does nothing, as one that waits for the processor."""
    made = Dreamer(Path("not read"), "sim_panda", 1)
    os.kill(made._process.pid, signal.SIGSTOP)
    yield made
    made.close()


def test_a_picture_larger_than_the_pipe_does_not_make_who_asks_wait(dreamer):
    """Incident: above 200 kB the executor's thread stood still until the process had loaded and read."""
    guard = Timer(5.0, dreamer._process.kill)  # so that a test that fails also ends
    guard.start()
    took = ask(dreamer, LARGE)
    assert took < AT_ONCE and dreamer.answer() is None and not dreamer.fault
    guard.cancel()


def test_a_question_that_nobody_reads_does_not_hold_up_the_end(dreamer):
    ask(dreamer, LARGE)
    begin = time.monotonic()
    dreamer.close()
    assert time.monotonic() - begin < AT_ONCE and not dreamer._talk.is_alive()


def test_half_an_answer_does_not_make_who_looks_for_it_wait(dreamer):
    """Incident: the first bytes were there, and the executor's thread waited for the rest."""
    dreamer._pipe.close()
    dreamer._pipe, there = Pipe()
    ask(dreamer, 8)
    there.recv_bytes()
    os.write(there.fileno(), struct.pack("!i", 1_000_000) + b"PK")
    guard = Timer(2.0, there.close)  # so that a test that fails also ends
    guard.start()
    end, longest = time.monotonic() + 0.3, 0.0
    while time.monotonic() < end:
        begin = time.monotonic()
        assert dreamer.answer() is None and not dreamer.fault
        longest = max(longest, time.monotonic() - begin)
        time.sleep(0.01)
    assert longest < AT_ONCE
    guard.cancel()
    there.close()
