"""Credit of chunks: against a hand computation, after the end, and the multiplier of the limit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs torch: `make setup-dev`")

from vla_mbpo.training.advantages import Multiplier, generalised, per_chunk, within_groups  # noqa: E402  (after the check that torch is there)


def test_generalised_advantages_by_hand():
    reward, value = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, 0.25]])
    advantage, returns, mask = generalised(reward, value, torch.tensor([4.0]), torch.zeros(1, 2), 0.9, 0.5)
    second = 2.0 + 0.9 * 4.0 - 0.25
    first = 1.0 + 0.9 * 0.25 - 0.5 + 0.9 * 0.5 * second
    torch.testing.assert_close(advantage, torch.tensor([[first, second]]))
    torch.testing.assert_close(returns, advantage + value)
    assert mask.tolist() == [[1.0, 1.0]]


def test_what_comes_after_the_end_does_not_count():
    reward, value = torch.tensor([[1.0, 9.0, 9.0]]), torch.tensor([[0.5, 7.0, 7.0]])
    done = torch.tensor([[1.0, 0.0, 0.0]])
    advantage, returns, mask = generalised(reward, value, torch.tensor([9.0]), done, 0.9, 0.95)
    assert mask.tolist() == [[1.0, 0.0, 0.0]]
    torch.testing.assert_close(advantage, torch.tensor([[0.5, 0.0, 0.0]]))
    torch.testing.assert_close(returns, torch.tensor([[1.0, 0.0, 0.0]]))


def test_the_end_of_a_branch_is_bootstrapped_unless_the_attempt_is_over():
    one = torch.zeros(1, 1)
    assert generalised(one, one, torch.tensor([2.0]), one, 0.5, 1.0)[0].item() == pytest.approx(1.0)
    assert generalised(one, one, torch.tensor([2.0]), one + 1, 0.5, 1.0)[0].item() == 0.0


def test_gamma_is_converted_once():
    assert per_chunk(0.99, 16) == pytest.approx(0.8515, abs=1e-4)


@given(st.lists(st.floats(-3, 3), min_size=8, max_size=8))
def test_samples_are_compared_with_those_of_their_own_state(values):
    value = torch.tensor(values)
    advantage, kept = within_groups(value, 4, 1e-3)
    moved, _ = within_groups(value + torch.tensor([5.0] * 4 + [-2.0] * 4), 4, 1e-3)
    torch.testing.assert_close(advantage, moved, atol=1e-3, rtol=1e-3)
    sums = advantage.unflatten(0, (2, 4)).sum(1)
    torch.testing.assert_close(sums, torch.zeros(2), atol=1e-4, rtol=0)
    assert not advantage[~kept].any()


def test_a_group_that_agrees_says_nothing():
    advantage, kept = within_groups(torch.tensor([1.0, 1.0, 0.0, 1.0]), 2, 1e-3)
    assert kept.tolist() == [False, False, True, True] and advantage[:2].tolist() == [0.0, 0.0]


def test_the_multiplier_rises_above_the_limit_and_never_falls_below_zero():
    one = Multiplier(limit=0.1, rate=2.0)
    one.update(0.3)
    assert one.value == pytest.approx(0.4)
    one.update(0.0)
    assert one.value == pytest.approx(0.2)
    one.update(0.0)
    one.update(0.0)
    assert one.value == 0.0


def test_cost_counts_by_the_multiplier():
    one = Multiplier(limit=0.1, rate=1.0, value=1.0)
    assert one.combined(torch.tensor(1.0), torch.tensor(3.0)).item() == pytest.approx(-1.0)
