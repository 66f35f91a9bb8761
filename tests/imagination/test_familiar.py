"""How unlike training a view is."""

import pytest

torch = pytest.importorskip("torch", reason="needs torch: `make setup-dev`")

from vla_mbpo.imagination.familiar import Familiar  # noqa: E402  (torch first)


def looks(n, seed=0):
    """Latents of two views, each varying along directions of its own around a mean of its own."""
    make = torch.Generator().manual_seed(7)
    mean, way = torch.randn(2, 1, 512, generator=make), torch.randn(2, 8, 512, generator=make)
    draw = torch.Generator().manual_seed(seed)
    flat = mean + torch.randn(2, n, 8, generator=draw) @ way + 0.1 * torch.randn(2, n, 512, generator=draw)
    return flat.transpose(0, 1).unflatten(2, (16, 32))


@pytest.fixture(scope="module")
def familiar():
    return Familiar.fit(looks(2000))


def test_looks_like_those_of_training_are_about_one(familiar):
    strange = familiar(looks(500, seed=1))
    assert strange.shape == (500, 2)
    torch.testing.assert_close(strange.mean(0), torch.ones(2), atol=0.25, rtol=0)
    assert strange.max() < 3.0


@pytest.mark.parametrize(
    "change", [lambda x: x.flip(1), torch.zeros_like, lambda x: torch.randn_like(x), lambda x: x.roll(1, 2)],
    ids=["swapped", "nothing", "noise", "another place"],
)  # fmt: skip
def test_other_pictures_are_far_beyond(familiar, change):
    torch.manual_seed(0)
    assert (familiar(change(looks(200, seed=2))) > 5.0).all()


def test_numbers_that_are_none_are_not_familiar(familiar):
    spoiled = looks(1)
    spoiled[0, 1, 3, 2] = float("nan")
    assert not familiar(spoiled)[0, 1] <= 1e9
