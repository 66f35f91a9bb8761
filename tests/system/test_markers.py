"""`vla-mbpo up --markers`: what RViz shows of the whole stack, and that motion does not depend on it."""

import os
import signal

import pytest
from helpers import Up
from visualization_msgs.msg import Marker

from vla_mbpo.nodes import qos

pytestmark = pytest.mark.slow  # a real stack

SAY = "press the button"


def test_motion_goes_on_whatever_becomes_of_the_markers(graph, bundle, tmp_path):
    """Shown, then frozen, then killed, then ended by hand: the attempt goes on to its end, and no row is late."""
    graph.start()
    graph.listen(qos.COMMITMENT, qos.MARKERS, qos.VOLUMES, qos.OVERLAY)
    said, scenes = graph.heard[qos.COMMITMENT.name], graph.heard[qos.MARKERS.name]

    def goes_on():
        executed = said[-1].rows_executed
        graph.until(lambda: said[-1].rows_executed > executed + 10, 10.0)

    def pid():
        graph.until(lambda: "markers" in process.children(), 10.0)
        return process.children()["markers"]

    process = Up(
        tmp_path / "up.log", "--headless", "--bundle", str(bundle), "--markers", "--task", SAY, "--timeout", "20"
    )
    try:
        graph.until(lambda: bool(said) and said[-1].rows_executed > 10, 60.0)
        graph.until(lambda: any(m.ns == "candidates" and m.scale.x > 0.005 for m in scenes[-1].markers), 10.0)
        graph.until(lambda: bool(graph.heard[qos.OVERLAY.name]) and bool(graph.heard[qos.VOLUMES.name]), 10.0)
        assert any(m.type == Marker.TEXT_VIEW_FACING and m.text == SAY for m in scenes[-1].markers)
        os.kill(pid(), signal.SIGSTOP)
        goes_on()
        os.kill(pid(), signal.SIGKILL)
        goes_on()
        count = len(scenes)
        graph.until(lambda: len(scenes) > count, 15.0)  # it was started again
        os.kill(pid(), signal.SIGTERM)
        goes_on()
        assert process.wait(60.0) == 2, process.output  # this bundle never presses it
        assert said[-1].rows_executed_late == 0 and "going on without it" in process.output
    finally:
        process.close()
