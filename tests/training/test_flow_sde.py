"""The flow policy's density: against numerical Gaussians, the plain sampler, and itself."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs torch: `make setup-dev`")

from torch.distributions import Independent, Normal, kl_divergence  # noqa: E402  (after the check that torch is there)

from vla_mbpo.training.flow_sde import Chain, FlowSde  # noqa: E402

H, A = 5, 3
FREE = torch.tensor([[0.0, 0.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0, 1.0]])


def policy(seed: int):
    """A made-up velocity field."""
    make = torch.Generator().manual_seed(seed)
    weight = torch.randn(A, A, generator=make)
    return lambda rows, time: torch.tanh(rows @ weight) * (1.0 + time[..., None])


def noise(seed: int = 0):
    return torch.randn(2, H, A, generator=torch.Generator().manual_seed(seed))


def sampled(flow: FlowSde, index: int):
    torch.manual_seed(1)
    before = flow.integrate(policy(3), noise(), FREE, end=index)
    chain = flow.branch(policy(3), before, FREE, index)
    return flow.integrate(policy(3), chain.after, FREE, begin=index + 1), chain


@given(steps=st.integers(2, 8), index=st.integers(0, 7))
def test_without_noise_the_random_step_is_the_plain_one(steps, index):
    flow, rows = FlowSde(steps, noise=0.0), noise()
    index %= steps
    u = policy(3)(rows, flow.time(FREE, index))
    torch.testing.assert_close(flow.mean(rows, u, index), rows + u / steps)


def test_without_a_random_step_it_integrates_as_the_robot_does():
    rows = FlowSde(4).integrate(policy(3), noise(), FREE)
    expected = noise()
    for i in range(4):
        time = torch.where(FREE > 0, i / 4, 1.0)
        expected = torch.where(FREE[..., None] > 0, expected + policy(3)(expected, time) / 4, expected)
    torch.testing.assert_close(rows, expected)


@pytest.mark.parametrize("index", range(5))
def test_committed_rows_stay_as_they_are(index):
    rows, chain = sampled(FlowSde(), index)
    torch.testing.assert_close(rows[0, :2], noise()[0, :2], rtol=0, atol=0)
    torch.testing.assert_close(chain.after[0, :2], chain.before[0, :2], rtol=0, atol=0)


@pytest.mark.parametrize("index", range(5))
def test_the_log_density_is_that_of_a_gaussian_over_free_rows(index):
    flow = FlowSde()
    _, chain = sampled(flow, index)
    mean = flow.step_mean(policy(3), chain)
    for b in range(2):
        free = FREE[b] > 0
        gaussian = Independent(Normal(mean[b][free], flow.std(index)), 2)
        expected = gaussian.log_prob(chain.after[b][free])
        assert flow.log_density(mean, chain)[b].item() == pytest.approx(expected.item(), rel=1e-5)


def test_rows_that_nobody_drives_may_be_left_out_of_the_density():
    flow = FlowSde()
    _, chain = sampled(flow, 1)
    mean, some = flow.step_mean(policy(3), chain), FREE.clone()
    some[:, 4:] = 0.0
    moved = chain.after.clone()
    moved[:, 4:] += 1.0
    other = Chain(chain.before, moved, chain.free, chain.index)
    torch.testing.assert_close(flow.log_density(mean, chain, some), flow.log_density(mean, other, some))


@pytest.mark.parametrize("index", range(5))
def test_the_samples_spread_as_their_density_says(index):
    flow, many = FlowSde(), 4000
    torch.manual_seed(0)
    rows, free = noise()[1:].expand(many, -1, -1), FREE[1:].expand(many, -1)
    chain = flow.branch(policy(3), rows, free, index)
    assert chain.after.std(0).mean().item() == pytest.approx(flow.std(index), rel=0.03)
    torch.testing.assert_close(chain.after.mean(0), flow.step_mean(policy(3), chain)[0], atol=0.05, rtol=0.05)


def test_the_ratio_is_exactly_one_before_the_first_update():
    flow = FlowSde()
    _, chain = sampled(flow, 2)
    before, again = (flow.log_density(flow.step_mean(policy(3), chain), chain) for _ in range(2))
    assert torch.equal((again - before).exp(), torch.ones(2))


def test_the_divergence_is_that_of_two_gaussians():
    flow = FlowSde()
    _, chain = sampled(flow, 1)
    mean, reference = (flow.step_mean(policy(seed), chain) for seed in (3, 4))
    free = FREE[0] > 0
    pair = (Independent(Normal(m[0][free], flow.std(1)), 2) for m in (mean, reference))
    expected = kl_divergence(*pair).item()
    assert flow.divergence(mean, reference, chain)[0].item() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(flow.divergence(mean, mean, chain), torch.zeros(2))


def test_the_std_is_capped():
    assert FlowSde(5, noise=50.0, cap=0.3).std(0) == pytest.approx(0.3)
    assert FlowSde(3, noise=0.5).std(0) == pytest.approx(0.5 * math.sqrt(3) * math.sqrt(1 / 3), rel=1e-6)  # published


@pytest.mark.parametrize("modes", [1, 2, 3])
def test_smooth_noise_has_the_density_of_its_heights(modes):
    flow = FlowSde(modes=modes, rise=3)
    _, chain = sampled(flow, 2)
    mean, curves = flow.step_mean(policy(3), chain), flow.curves(FREE)
    heights = torch.linalg.lstsq(curves, (chain.after - mean)).solution
    torch.testing.assert_close(curves @ heights, (chain.after - mean) * FREE[..., None], atol=1e-5, rtol=1e-4)
    expected = Independent(Normal(torch.zeros(modes, A), flow.std(2)), 2).log_prob(heights)
    torch.testing.assert_close(flow.log_density(mean, chain), expected, atol=1e-3, rtol=1e-3)


def test_smooth_noise_begins_at_the_first_free_row_and_rises():
    curves = FlowSde(modes=1, rise=3).curves(FREE)[..., 0]
    assert curves[0, :2].tolist() == [0.0, 0.0] and (curves[0, 2:].diff() > 0).all()
    assert curves[1, 2:].tolist() == [1.0, 1.0, 1.0] and 0.0 < curves[1, 0] < curves[1, 1] < 1.0
