"""Policies whose output is wrong from the first chunk on: no motion, and reasons with row and count."""

import numpy as np
import pytest
from helpers import Up
from scripted_bundle import write_bundle
from stack import GENEROUS, RESTING
from std_msgs.msg import String

from vla_mbpo.nodes import qos

ROW, JOINT = 5, 3


def put(value):
    def spoil(rows):
        rows[ROW, JOINT] = value

    return spoil


@pytest.mark.parametrize(
    ("spoil", "check"),
    [
        (put(np.nan), "finite"),
        pytest.param(put(np.inf), "finite", marks=pytest.mark.slow),
        pytest.param(put(1.5), "joint_velocity", marks=pytest.mark.slow),
    ],
)
def test_bad_rows(graph, spec, tmp_path, spoil, check):
    bundle = write_bundle(tmp_path / "bundle", spec, spoil)
    graph.start()
    words = [word for setting in GENEROUS for word in ("--set", setting)]
    up = Up(tmp_path / "up.log", "--bundle", str(bundle), "--headless", *words)
    try:
        graph.listen(qos.READY, qos.GATE_DECISION, qos.JOINT_STATES, qos.DIAGNOSTICS)
        graph.until(lambda: bool(graph.heard[qos.READY.name]), 60.0)
        say, decisions = graph.talk(qos.INSTRUCTION), graph.heard[qos.GATE_DECISION.name]
        timer = graph.probe.create_timer(1.0, lambda: say(String(data="press the button")))
        graph.until(lambda: len(decisions) >= 24, 20.0)  # three sets of eight candidates
        graph.spin(1.5)
        graph.probe.destroy_timer(timer)
        vetoes = [
            int(value.value)
            for message in graph.heard[qos.DIAGNOSTICS.name]
            for status in message.status
            for value in status.values
            if status.name == "gate" and value.key == f"vetoes.{check}"
        ]
    finally:
        up.close()
        print(up.output)
    reasons = [d.reasons[0] for d in decisions if d.reasons[0].check != "instruction"]
    assert not any(d.accepted for d in decisions) and {reason.check for reason in reasons} == {check}
    assert {reason.row for reason in reasons} <= {ROW, ROW + 1} and vetoes[-1] >= 16
    speeds = [np.abs(m.velocity).max() for m in graph.heard[qos.JOINT_STATES.name]]
    assert max(speeds[20:]) < RESTING  # the arm settles when it is switched on
