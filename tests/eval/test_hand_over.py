import pytest

from vla_mbpo.eval.hand_over import Attempt, load_cell
from vla_mbpo.gate.cell import CellGate


@pytest.fixture(scope="module")
def gate():
    return CellGate(load_cell())


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 8))])
def test_two_arms_finish_a_hand_over_through_one_gate(gate, seed):
    attempt = Attempt(gate.cell, gate, seed)
    outcome = attempt.run()
    assert outcome.success and attempt.robot.handed_over, outcome
    assert outcome.approved > 20 and outcome.refused == 0, outcome.reasons
    assert not outcome.touched and outcome.nearest >= gate.cell.margin
