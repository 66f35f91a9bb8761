"""The world model dies, hangs or judges for another bundle: what it has not vouched for is not executed."""

import signal

import pytest
from stack import BRAKE, ROWS, SLACK, started
from vla_mbpo_msgs.msg import GateState

from vla_mbpo.nodes import qos

# An untrained model says anything; what is tested is that its silence stops the arm.
LENIENT = ("imagination.unsafe_cost=1.0", "imagination.max_uncertainty=1.0", "imagination.dream_period=0.0",
           "imagination.deadline=0.5", "imagination.max_age=1.0", "gate.vetting.deadline=0.5")  # fmt: skip
WAIT = 0.5  # s; the gate's patience, with rows on their way


@pytest.fixture(scope="module")
def world_model(world_model_for, bundle, tmp_path_factory):
    return world_model_for(tmp_path_factory.mktemp("models") / "untrained", bundle)


@pytest.fixture
def vetted(graph, bundle, world_model, tmp_path, record_property):
    """A stack in motion whose chunks are all vetted."""
    graph.start()
    options = ("--world-model", str(world_model))
    yield from started(graph, bundle, tmp_path / "up.log", record_property, *LENIENT, options=options)


def test_with_imagination_every_accepted_chunk_has_a_verdict(vetted, graph):
    graph.until(lambda: sum(d.accepted for d in vetted.of(qos.GATE_DECISION)) >= 3, 20.0)
    accepted = [d for d in vetted.of(qos.GATE_DECISION) if d.accepted]
    assert all(d.imagination.verdict in (d.imagination.SAFE, d.imagination.RISKY) for d in accepted)
    assert "imagination" not in vetted.gate.vetting_off


def test_kill_imagination(vetted, graph):
    """Nothing unvetted is executed; it is started again and the task goes on."""
    vetted.signal("imagination", signal.SIGKILL)
    vetted.time_to_rest(ROWS + BRAKE + SLACK)
    assert vetted.gate.mode == GateState.AUTONOMOUS
    vetted.until_moving(30.0)
    assert "imagination ended (signal SIGKILL); restarting it" in vetted.up.output


def test_freeze_and_continue_imagination(vetted, graph):
    """Silence is UNKNOWN and holds; a verdict that comes after its deadline approves nothing."""
    vetted.signal("imagination", signal.SIGSTOP)
    vetted.time_to_rest(ROWS + BRAKE + SLACK)
    graph.spin(WAIT)
    refused = [d.reasons[0] for d in vetted.of(qos.GATE_DECISION) if not d.accepted and d.reasons]
    assert any(r.check == "vetting" and "no verdict" in r.text for r in refused)
    vetted.signal("imagination", signal.SIGCONT)
    vetted.until_moving()
    assert vetted.late == 0
