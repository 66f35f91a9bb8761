"""How far apart a look's candidates are: what the world model learns from branches."""

import pytest

torch = pytest.importorskip("torch", reason="needs torch: `make setup-dev`")

from vla_mbpo.training.rollout_data import HALF_TIME  # noqa: E402  (after the check that torch is there)
from vla_mbpo.training.tried import FURTHEST, between, losses  # noqa: E402

ROWS = torch.tensor([[20.0, 26.0, 31.0]])


def discounted(rows):
    return 0.5 ** (rows / HALF_TIME)


def apart(told, known):
    soon = torch.logit(discounted(told))[None]
    one = torch.ones(1, 1)
    return losses(soon, soon, discounted(known), torch.zeros_like(known), torch.ones(1), one)["apart"].item()


def test_between_counts_in_half_times():
    assert torch.allclose(between(torch.log(discounted(ROWS)))[0, 0], (ROWS[0] - ROWS[0, 0]) / HALF_TIME, atol=1e-6)


def test_the_right_differences_cost_nothing_wherever_they_begin():
    assert apart(ROWS, ROWS) == pytest.approx(0.0, abs=1e-7)
    assert apart(ROWS + 15.0, ROWS) == pytest.approx(0.0, abs=1e-7)


def test_a_wrong_order_costs_more_than_none():
    same = torch.full_like(ROWS, 25.0)
    assert apart(ROWS.flip(1), ROWS) > apart(same, ROWS) > 0.01


def test_one_spoiled_candidate_does_not_drown_the_others():
    """A task that one candidate spoils is 225 rows from its end: 2 % of the looks were most of the loss."""
    spoiled = torch.tensor([[20.0, 26.0, 5000.0]])
    far = torch.tensor([[20.0, 26.0, 23.0 + FURTHEST * HALF_TIME]])
    assert apart(far, spoiled) < 0.02
