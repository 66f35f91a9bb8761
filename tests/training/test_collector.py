"""Chunks tried by workers: what comes back does not depend on how many there are, or on what they are."""

import copy
import importlib.util
from dataclasses import fields
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs torch: `make setup-dev`")

from toy_world import N, Toy  # noqa: E402  (after the check that torch is there)

from vla_mbpo.policy.bundle import Bundle  # noqa: E402
from vla_mbpo.spread import LOCAL, Place  # noqa: E402
from vla_mbpo.training import dream_rl  # noqa: E402
from vla_mbpo.training.collector import Collector, Hands, Part, joined  # noqa: E402
from vla_mbpo.training.dream_rl import DreamRlRecipe, Trainer  # noqa: E402
from vla_mbpo.training.sft import load_policy  # noqa: E402


@pytest.fixture(params=[Place(2), Place(1, LOCAL), Place(2, LOCAL)], ids=["processes", "ray1", "ray2"])
def place(request, monkeypatch):
    if request.param.ray:
        if importlib.util.find_spec("ray") is None:
            pytest.skip("needs Ray: `pip install -e '.[ray]'`")
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # Ray's workers import the toy from here
    return request.param


@pytest.fixture
def collector(tiny_bundle):
    torch.set_num_threads(1)
    start = load_policy(tiny_bundle).requires_grad_(False)
    return Collector(DreamRlRecipe((), group=4), start, Toy(None, None, Bundle.load(tiny_bundle), start, None))


def parts(collector):
    states, data = collector.world.read([])
    made = []
    for number, index in enumerate(torch.arange(N).split(5)):  # of unequal sizes
        some = states.at(index)
        pictures = tuple(torch.from_numpy(view)[some.row] for view in data.pictures)
        made.append(Part(some, pictures, 1, 70 + number))
    return made


def moved(net, seed):
    torch.manual_seed(seed)
    net = copy.deepcopy(net)
    for parameter in net.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    return net


def assert_same(ours, theirs):
    ours, theirs = joined(ours), joined(theirs)
    for field in fields(ours):
        mine, other = getattr(ours, field.name), getattr(theirs, field.name)
        if field.name == "chain":
            assert mine.index == other.index
            mine, other = (torch.cat([chain.before, chain.after]) for chain in (mine, other))
        assert torch.allclose(mine.float(), other.float(), atol=1e-4), field.name


def test_workers_try_what_one_process_would_under_the_weights_of_the_moment(collector, place):
    here, hands, work = Hands(collector, Place(1)), Hands(collector, place), parts(collector)
    with hands.hired():
        for seed in (1, 2):
            net = moved(collector.start, seed)
            assert_same(hands.columns(net, work), here.columns(net, work))


def test_trying_leaves_the_callers_noise_as_it_was(collector):
    torch.manual_seed(3)
    expected = torch.randn(4)
    torch.manual_seed(3)
    collector.tried(collector.start, parts(collector)[0])
    assert torch.equal(torch.randn(4), expected)


def test_a_run_does_not_depend_on_how_many_try(tiny_bundle, tiny_world_model, monkeypatch, tmp_path):
    monkeypatch.setattr(dream_rl, "DreamWorld", Toy)
    monkeypatch.setattr(dream_rl, "PART", 5)
    recipe = DreamRlRecipe(
        (), policy=str(tiny_bundle), vetting=str(tiny_world_model), group=4, states=12, updates=2, batch=12,
        samples=48, learning_rate=3e-3, warmup=1, eyes=0.0, threads=1, centred=0.0, kl=0.01,
    )  # fmt: skip
    runs = [Trainer(recipe, tmp_path / str(place.workers), place) for place in (Place(1), Place(2))]
    for run in runs:
        run.run()
    for one, two in zip(runs[0].net.state_dict().values(), runs[1].net.state_dict().values(), strict=True):
        assert torch.allclose(one.float(), two.float(), atol=1e-4)
