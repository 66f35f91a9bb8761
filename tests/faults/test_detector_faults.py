"""The failure detector dies, hangs or raises the alarm: what it has not vouched for is not executed."""

import json
import signal

import pytest
from stack import BRAKE, ROWS, SLACK, started
from vla_mbpo_msgs.msg import GateState

from vla_mbpo.nodes import qos

WAIT = 0.5  # s; the gate's patience, with rows on their way


@pytest.fixture(scope="module")
def detector(detector_for, bundle, tmp_path_factory):
    return detector_for(
        tmp_path_factory.mktemp("models") / "untrained", bundle, 15
    )  # as many features as proprioception has numbers


def bands(detector, reached):
    """Bands like the detector's own, but of attempts whose votes have reached this."""
    made = json.loads(detector.with_name("bands.json").read_text())
    file = detector.with_name(f"bands_{reached:g}.json")
    file.write_text(json.dumps(made | {"statistics": [reached] * len(made["statistics"])}))
    return file


def watched(graph, bundle, detector, file, tmp_path, record):
    graph.start()
    where = [f"{node}={file}" for node in ("failure_detector.calibration", "gate.vetting.calibration")]
    options = ("--detector", str(detector))
    return started(graph, bundle, tmp_path / "up.log", record, *where, "gate.vetting.deadline=0.5", options=options)


@pytest.fixture
def calm(graph, bundle, detector, tmp_path, record_property):
    """A stack in motion whose detector never raises the alarm."""
    yield from watched(graph, bundle, detector, bands(detector, 1e9), tmp_path, record_property)


def test_kill_failure_detector(calm, graph):
    """Nothing it has not spoken on is executed; it is started again and the task goes on."""
    assert list(calm.gate.vetting_off) == ["imagination"]
    calm.signal("failure_detector", signal.SIGKILL)
    calm.time_to_rest(ROWS + BRAKE + SLACK)
    assert calm.gate.mode == GateState.AUTONOMOUS
    calm.until_moving(30.0)
    assert "failure_detector ended (signal SIGKILL); restarting it" in calm.up.output


def test_freeze_and_continue_failure_detector(calm, graph):
    """Silence is UNKNOWN and holds; a risk that comes after its deadline approves nothing."""
    calm.signal("failure_detector", signal.SIGSTOP)
    calm.time_to_rest(ROWS + BRAKE + SLACK)
    graph.spin(WAIT)
    refused = [d.reasons[0] for d in calm.of(qos.GATE_DECISION) if not d.accepted and d.reasons]
    assert any(r.check == "vetting" and "no risk" in r.text for r in refused)
    calm.signal("failure_detector", signal.SIGCONT)
    calm.until_moving()
    assert calm.late == 0


def test_failure_alarm(graph, bundle, detector, tmp_path, record_property):
    """The attempt is over before the arm has gone anywhere; nothing moves until somebody engages again."""
    file = bands(detector, -1e9)
    with pytest.raises(AssertionError, match="in time|failure detector"):
        next(watched(graph, bundle, detector, file, tmp_path, record_property))
    state = graph.heard[qos.GATE_STATE.name][-1]
    assert state.mode == GateState.HOLD and "failure detector: risk" in state.reason
    assert not any(d.accepted for d in graph.heard[qos.GATE_DECISION.name])
