"""Properties of the network that the runtime and the real-time chunking rely on."""

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="needs torch: `make setup-dev`")

from vla_mbpo.policy.network import FlowPolicy  # noqa: E402  (after the check that torch is there)


@pytest.fixture(scope="module")
def inputs(tiny_net):
    c, make = tiny_net.config, torch.Generator().manual_seed(1)
    images = [
        torch.randint(0, 256, (2, 3, c.image_size, c.image_size), generator=make, dtype=torch.uint8) for _ in "hw"
    ]
    words = torch.randint(1, c.words + 1, (2, c.text_length), generator=make)
    words[0, 3:], words[1, 5:] = 0, 0
    return (*images, words, torch.randn(2, c.proprio, generator=make))


@pytest.fixture(scope="module")
def rows(tiny_net):
    make = torch.Generator().manual_seed(2)
    return torch.randn(2, tiny_net.config.horizon, tiny_net.config.action, generator=make)


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def test_later_rows_depend_on_the_committed_ones(tiny_net, inputs, rows):
    cache, mask, _ = tiny_net.encode(*inputs)
    time = torch.full((2, 16), 0.3)
    time[:, :3] = 1.0
    moved = rows.clone()
    moved[:, :3] += 0.5
    before, after = tiny_net.velocity(cache, mask, rows, time), tiny_net.velocity(cache, mask, moved, time)
    assert (before - after)[:, 3:].abs().amax(dim=(0, 2)).min() > 1e-5


def test_the_time_of_a_row_matters(tiny_net, inputs, rows):
    cache, mask, _ = tiny_net.encode(*inputs)
    time = torch.full((2, 16), 0.3)
    committed = time.clone()
    committed[:, 0] = 1.0
    assert (
        tiny_net.velocity(cache, mask, rows, time) - tiny_net.velocity(cache, mask, rows, committed)
    ).abs().max() > 1e-4


def test_more_padding_does_not_change_the_output(tiny_net, inputs, rows):
    c = tiny_net.config
    wide = FlowPolicy(replace(c, text_length=c.text_length + 4)).eval()
    state = tiny_net.state_dict()
    state["places"] = torch.cat([state["places"], torch.randn(4, c.width)])
    wide.load_state_dict(state)
    head, wrist, words, proprio = inputs
    padded = torch.cat([words, torch.zeros(2, 4, dtype=words.dtype)], 1)
    time = torch.full((2, 16), 0.3)
    cache, mask, features = tiny_net.encode(head, wrist, words, proprio)
    wide_cache, wide_mask, wide_features = wide.encode(head, wrist, padded, proprio)
    torch.testing.assert_close(wide_features, features, atol=1e-5, rtol=0)
    expected = tiny_net.velocity(cache, mask, rows, time)
    torch.testing.assert_close(wide.velocity(wide_cache, wide_mask, rows, time), expected, atol=1e-5, rtol=0)


def test_a_word_instead_of_padding_changes_the_output(tiny_net, inputs):
    head, wrist, words, proprio = inputs
    longer = words.clone()
    longer[0, 3] = 1
    features, other = (tiny_net.encode(head, wrist, w, proprio)[2] for w in (words, longer))
    assert (features[0] - other[0]).abs().max() > 1e-4
    torch.testing.assert_close(other[1], features[1])


def test_one_cache_serves_all_candidates(tiny_net, inputs):
    one = [x[:1] for x in inputs]
    cache, mask, _ = tiny_net.encode(*one)
    make = torch.Generator().manual_seed(3)
    rows, time = torch.randn(5, 16, 8, generator=make), torch.rand(5, 16, generator=make)
    shared = tiny_net.velocity(cache, mask, rows, time)
    repeated = tiny_net.velocity(cache.repeat(5, 1, 1, 1, 1, 1), mask.repeat(5, 1), rows, time)
    torch.testing.assert_close(shared, repeated, atol=1e-6, rtol=0)


def test_candidates_do_not_see_each_other(tiny_net, inputs, rows):
    cache, mask, _ = tiny_net.encode(*[x[:1] for x in inputs])
    time = torch.full((2, 16), 0.3)
    both = tiny_net.velocity(cache, mask, rows, time)
    torch.testing.assert_close(tiny_net.velocity(cache, mask, rows[:1], time[:1]), both[:1], atol=1e-6, rtol=0)


def test_observations_of_a_batch_do_not_see_each_other(tiny_net, inputs):
    both = tiny_net.encode(*inputs)
    alone = tiny_net.encode(*[x[1:] for x in inputs])
    for batch, single in zip(both, alone, strict=True):
        torch.testing.assert_close(batch[1:], single, atol=1e-5, rtol=0)


def test_the_prefix_does_not_see_the_rows(tiny_net, inputs, rows):
    """Otherwise its keys and values could not be computed once per observation."""
    cache, mask, _ = tiny_net.encode(*inputs)
    before = cache.clone()
    tiny_net.velocity(cache, mask, rows, torch.zeros(2, 16))
    torch.testing.assert_close(cache, before, atol=0, rtol=0)


def test_an_untrained_network_says_zero_velocity(tiny_net, inputs, rows):
    fresh = FlowPolicy(tiny_net.config)
    cache, mask, _ = fresh.encode(*inputs)
    assert fresh.velocity(cache, mask, rows, torch.zeros(2, 16)).abs().max() == 0


def test_every_observation_input_reaches_the_velocity(tiny_net, inputs, rows):
    time = torch.full((2, 16), 0.3)

    def velocity(*changed):
        cache, mask, _ = tiny_net.encode(*changed)
        return tiny_net.velocity(cache, mask, rows, time)

    head, wrist, words, proprio = inputs
    base = velocity(*inputs)
    others = [(255 - head, wrist, words, proprio), (head, 255 - wrist, words, proprio),
              (head, wrist, words.flip(0), proprio), (head, wrist, words, proprio + 1)]  # fmt: skip
    for other in others:
        assert (velocity(*other) - base).abs().max() > 1e-5
