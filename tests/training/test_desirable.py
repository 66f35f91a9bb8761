"""Action preferences: weights and loss against a computation by hand, and what the gradient does."""

import math

import pytest

torch = pytest.importorskip("torch", reason="needs torch: `make setup-dev`")

from vla_mbpo.training.desirable import BASELINE, FURTHEST, LEAST, SHARPNESS, losses, weights  # noqa: E402

WANTED = torch.tensor([True, True, False, False])


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_weights_are_those_of_the_paper():
    found = weights(torch.tensor([1.0, 3.0, 2.0, 6.0]), WANTED)
    shares = [1 / 4, 3 / 4, 2 / 8, 6 / 8]
    expected = [1 - math.exp(-shares[0]), 1 - math.exp(-shares[1]), math.exp(-shares[2]), math.exp(-shares[3])]
    assert torch.allclose(found, torch.tensor(expected), atol=10 * LEAST)


def test_a_batch_of_one_kind_has_weights_too():
    assert torch.allclose(weights(torch.zeros(2), torch.tensor([False, False])), torch.full((2,), math.exp(-0.5)))


def test_the_loss_is_that_computed_by_hand():
    ratio, level, weight = torch.tensor([2.0, -1.0, 4.0, 0.0]), torch.tensor(1.0), torch.tensor([1.0, 3.0, 1.0, 1.0])
    each = [1 - sigmoid(SHARPNESS * gain) for gain in (2 - 1, -1 - 1, 1 - 4, 1 - 0)]
    expected = ((each[0] + 3 * each[1]) / 4 + (each[2] + each[3]) / 2) / 2
    assert losses(ratio, level, WANTED, weight).item() == pytest.approx(expected, abs=1e-6)


def test_the_baseline_is_bounded():
    ratio, weight = torch.zeros(4), torch.ones(4)
    assert losses(ratio, torch.tensor(1e6), WANTED, weight) == losses(ratio, torch.tensor(BASELINE), WANTED, weight)


def test_what_was_desirable_becomes_likelier_and_what_was_not_less_so():
    ratio = torch.zeros(4, requires_grad=True)
    losses(ratio, torch.tensor(0.0), WANTED, torch.ones(4)).backward()
    assert (ratio.grad[:2] < 0).all() and (ratio.grad[2:] > 0).all()


def test_an_undesirable_chunk_is_not_fled_from_for_ever():
    ratio = torch.full((4,), -2 * FURTHEST / SHARPNESS, requires_grad=True)
    loss = losses(ratio, torch.tensor(0.0), WANTED, torch.ones(4))
    loss.backward()
    assert not ratio.grad[2:].any() and 0 <= loss <= 1
    assert (ratio.grad[:2] < 0).all()  # but what is desirable is fetched back from as far


def test_a_sample_of_no_weight_does_not_count():
    weight = torch.tensor([1.0, 0.0, 1.0, 0.0])
    one = losses(torch.tensor([1.0, 5.0, 2.0, 7.0]), torch.tensor(0.0), WANTED, weight)
    other = losses(torch.tensor([1.0, -9.0, 2.0, 3.0]), torch.tensor(0.0), WANTED, weight)
    assert one == other
