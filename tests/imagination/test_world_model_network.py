"""The network: who sees whom, and that one evaluation of all candidates is what one by one gives."""

import pytest

torch = pytest.importorskip("torch", reason="needs torch: `make setup-dev`")

from vla_mbpo.imagination.network import WorldModel, WorldModelConfig  # noqa: E402  (torch first)

SIZES = {"latent": 8, "eye": 32, "width": 32, "layers": 2, "heads": 2}
K = 3


def model(**options) -> WorldModel:
    torch.manual_seed(0)
    net = WorldModel(WorldModelConfig(10, 4, **SIZES, **options)).eval()
    for layer in (net.leave, net.moved, net.beside, net.steer):
        torch.nn.init.normal_(layer.weight, std=0.3)
    return net


def context(net):
    torch.manual_seed(1)
    words = torch.tensor([[1, 2, 0, 0]])
    return net.observe(words, torch.randn(1, 2, 32), torch.randn(1, 2, 16, 8), torch.randn(1, 18))[:3]


def steps(k=K):
    torch.manual_seed(2)
    return {
        "bins": torch.randint(0, 256, (k, 2, 16, 11)), "known": torch.ones(k, 2),
        "noisy": torch.randn(k, 2, 2, 16, 8), "time": torch.full((k, 2, 2), 0.5),
    }  # fmt: skip


def imagine(net, **changes):
    with torch.no_grad():
        images, body, outcome, cost, _ = net.imagine(context(net), **(steps() | changes))
    return images, body, outcome, cost


def changed(before, after):
    return not torch.allclose(before, after, atol=1e-5)


def test_candidates_do_not_see_one_another():
    net, given = model(), steps()
    together = imagine(net)
    with torch.no_grad():
        alone = net.imagine(context(net), **{name: value[:1] for name, value in given.items()})
    torch.testing.assert_close(together[0][:1], alone[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together[2][:, :1], alone[2], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "interleaved, noised, head, wrist",
    [(True, 0, True, True), (True, 1, False, True), (False, 0, True, False), (False, 1, False, True)],
    ids=["wrist sees head", "head does not see wrist", "independent: not even that", "independent: nor back"],
)
def test_within_a_step_the_wrist_view_sees_the_head_view_and_never_the_reverse(interleaved, noised, head, wrist):
    net = model(interleaved=interleaved)
    noisy = steps()["noisy"].clone()
    noisy[:, 0, noised] += 1.0
    before, after = imagine(net)[0], imagine(net, noisy=noisy)[0]
    assert changed(before[:, 0, 0], after[:, 0, 0]) == head
    assert changed(before[:, 0, 1], after[:, 0, 1]) == wrist


def test_the_first_step_does_not_depend_on_the_second():
    net = model()
    bins, noisy = steps()["bins"].clone(), steps()["noisy"].clone()
    bins[:, 1], noisy[:, 1] = 0, 0.0
    before, after = imagine(net), imagine(net, bins=bins, noisy=noisy)
    torch.testing.assert_close(before[0][:, 0], after[0][:, 0])
    torch.testing.assert_close(before[2][:, :, 0], after[2][:, :, 0])
    assert changed(before[2][:, :, 1], after[2][:, :, 1])


def test_actions_that_are_not_known_do_not_count():
    net = model()
    known, bins = torch.tensor([[1.0, 0.0]] * K), steps()["bins"].clone()
    before = imagine(net, known=known)
    bins[:, 1] = 255 - bins[:, 1]
    after = imagine(net, known=known, bins=bins)
    torch.testing.assert_close(before[2], after[2])


def test_outcomes_depend_on_the_actions():
    net, bins = model(), steps()["bins"]
    assert changed(imagine(net)[2], imagine(net, bins=255 - bins)[2])
    assert changed(imagine(net)[3], imagine(net, bins=255 - bins)[3])


def test_where_nothing_is_known_the_noise_says_nothing():
    """Else the fast mode's zeros would be a state the model has never seen."""
    net, time = model(), torch.ones(K, 2, 2)
    one = imagine(net, time=time)
    other = imagine(net, time=time, noisy=torch.zeros(K, 2, 2, 16, 8))
    torch.testing.assert_close(one[0], other[0])


def test_padding_of_the_instruction_is_not_seen():
    net = model()
    with torch.no_grad():
        net.places[2:] += 1.0
        before = imagine(net)
        net.places[2:] -= 2.0
        after = imagine(net)
    torch.testing.assert_close(before[2], after[2])
