import numpy as np
import pytest

from vla_mbpo.cameras.returning import RETRY, Returning
from vla_mbpo.cameras.source import Frame, Lost, Opened


class Scripted:
    """A camera that does what a list says: a frame, a loss at reading, or an answer to open."""

    def __init__(self, opens, reads):
        self.opens, self.reads, self.closed = list(opens), list(reads), 0

    def open(self):
        return self._next(self.opens)

    def read(self, timeout):
        return self._next(self.reads)

    def close(self):
        self.closed += 1

    def report(self):
        return {"serial": "1"}

    def _next(self, answers):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


FRAME, HERE = Frame(1, np.zeros((4, 4, 3), np.uint8)), Opened(4, 4, serial="1")


def test_a_lost_camera_comes_back_by_itself_and_is_asked_once_a_second():
    time = [0.0]
    camera = Scripted([HERE, OSError("not\nyet"), HERE], [FRAME, Lost("unplugged"), FRAME])
    source = Returning(camera, lambda: time[0])
    assert source.open() == HERE
    assert source.read(0.0) is FRAME and source.lost == ""
    assert source.read(0.0) is None and source.lost == "camera lost: unplugged" and camera.closed == 1
    for seconds in (0.1, RETRY + 0.1, RETRY + 0.2):
        time[0] = seconds
        assert source.read(0.0) is None
    assert len(camera.opens) == 1 and source.lost == "camera lost, and not back yet: not yet"
    time[0] = 2 * RETRY + 0.2
    assert source.read(0.0) is FRAME
    assert source.lost == "" and source.report() == {"serial": "1", "losses": 1}


def test_a_camera_that_is_not_there_at_first_is_an_error():
    with pytest.raises(OSError, match="nobody"):
        Returning(Scripted([OSError("nobody")], [])).open()


def test_another_camera_in_its_place_is_not_taken():
    time = [0.0]
    camera = Scripted([HERE, Opened(4, 4, serial="2")], [Lost("unplugged")])
    source = Returning(camera, lambda: time[0])
    source.open()
    source.read(0.0)
    time[0] = 2 * RETRY
    assert source.read(0.0) is None and "another camera" in source.lost and camera.closed == 2


def test_other_faults_are_not_taken_for_an_unplug():
    source = Returning(Scripted([HERE], [ValueError("a defect")]))
    source.open()
    with pytest.raises(ValueError, match="a defect"):
        source.read(0.0)


def test_opened_again_by_hand_it_is_not_lost():
    source = Returning(Scripted([HERE, HERE], [Lost("unplugged"), FRAME]))
    source.open()
    source.read(0.0)
    source.close()
    source.open()
    assert not source.lost and source.read(0.0) is FRAME
