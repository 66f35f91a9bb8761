"""Denoiser post-training: the random step's density, credit within groups, a toy with a known best, resuming."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import noise_attempts

torch = pytest.importorskip("torch", reason="needs torch: `make setup-dev`")

from torch.distributions import Independent, Normal, kl_divergence  # noqa: E402  (after the check that torch is there)

from vla_mbpo.cli import main  # noqa: E402
from vla_mbpo.core.errors import ConfigError  # noqa: E402
from vla_mbpo.imagination.autoencoder import TOKENS, Autoencoder, AutoencoderConfig  # noqa: E402
from vla_mbpo.imagination.network import WorldModel, WorldModelConfig  # noqa: E402
from vla_mbpo.imagination.perception import Perception  # noqa: E402
from vla_mbpo.training import vampo, world_model  # noqa: E402
from vla_mbpo.training.denoising import HEAD, WRIST, HybridSampler, denoise, imagined  # noqa: E402
from vla_mbpo.training.effective_rank import effective_rank, readout, response  # noqa: E402
from vla_mbpo.training.vampo import Trainer, VampoRecipe, group_advantages, latent_reward, pessimistic  # noqa: E402
from vla_mbpo.training.world_model import WorldModelRecipe, load_world_model  # noqa: E402

SIZE, LATENT = 32, 8
BEST = 0.5  # of the toy


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def net():
    """A small world model that has not learned anything, but whose outputs are not zero."""
    torch.manual_seed(0)
    made = WorldModel(WorldModelConfig(5, 3, latent=LATENT, eye=4, proprio=6, action=3, horizon=4, width=32, layers=1,
                                       heads=2)).eval()  # fmt: skip
    for layer in (made.leave, made.steer, made.beside):
        torch.nn.init.normal_(layer.weight, std=0.3)
    return made.requires_grad_(False)


@pytest.fixture(scope="module")
def context(net):
    return net.observe(torch.ones(2, 3, dtype=torch.int64), draws(2, 2, 4), draws(2, 2, TOKENS, LATENT), draws(2, 6))[
        :3
    ]


@given(steps=st.integers(2, 8), noise=st.floats(0.05, 1.0))
def test_the_log_density_is_that_of_a_gaussian(steps, noise):
    sampler, start, clean = HybridSampler(steps, noise), draws(2, 4, 3), draws(2, 4, 3, seed=1)
    mean, other = sampler.mean(clean, start), sampler.mean(clean + 0.1, start)
    after = sampler.draw(mean, 5)
    for b in range(2):
        gaussian = Independent(Normal(mean[b].double(), sampler.std), 2)
        expected = gaussian.log_prob(after[b].double()).float()
        torch.testing.assert_close(sampler.log_density(mean, after)[b], expected, rtol=1e-4, atol=1e-4)
        apart = kl_divergence(gaussian, Independent(Normal(other[b].double(), sampler.std), 2)).item()
        assert sampler.divergence(mean, other)[b].item() == pytest.approx(apart, rel=1e-4)


@pytest.mark.parametrize("noise", [0.3, 1.0])
def test_the_random_step_keeps_the_noise_level_that_the_network_knows(noise):
    sampler, clean = HybridSampler(4, noise), torch.full((20_000, 1, 1), 2.0)
    after = sampler.draw(sampler.mean(clean, draws(20_000, 1, 1)), 1)
    assert after.mean().item() == pytest.approx(0.25 * 2.0, abs=0.03)
    assert after.std().item() == pytest.approx(0.75, rel=0.03)


def test_with_hardly_any_noise_it_is_the_plain_euler_step(net, context):
    bins, start = torch.randint(0, 256, (2, 4, 3)), draws(2, 2, TOKENS, LATENT)
    whole = denoise(net, context, bins, start, HEAD, 3)[:, HEAD]
    clean = denoise(net, context, bins, start, HEAD, 1)[:, HEAD]  # one step from t = 1: the conditional mean
    first = HybridSampler(3, 1e-4).mean(clean, start[:, HEAD])
    rest = denoise(net, context, bins, torch.stack([first, start[:, WRIST]], 1), HEAD, 3, begin=1)[:, HEAD]
    torch.testing.assert_close(rest, whole, rtol=1e-4, atol=1e-5)


def test_the_head_view_does_not_depend_on_the_wrist_view(net, context):
    bins, start = torch.randint(0, 256, (2, 4, 3)), draws(2, 2, TOKENS, LATENT)
    other = torch.stack([start[:, HEAD], start[:, WRIST] + 1.0], 1)
    found, changed = (imagined(net, context, bins, noise, 2) for noise in (start, other))
    torch.testing.assert_close(found[:, HEAD], changed[:, HEAD])
    assert (found[:, WRIST] - changed[:, WRIST]).abs().max() > 0


@pytest.mark.parametrize(("steps", "noise"), [(1, 1.0), (4, 0.0), (4, 1.1)])
def test_a_sampler_without_a_density_is_refused(steps, noise):
    with pytest.raises(ConfigError):
        HybridSampler(steps, noise)


def test_the_reward_is_cosine_less_mean_absolute_error():
    seen, real = torch.tensor([[[1.0, 0.0]], [[3.0, 4.0]]]), torch.tensor([[[0.0, 2.0]], [[3.0, 4.0]]])
    torch.testing.assert_close(latent_reward(seen, real), torch.tensor([0.0 - 1.5, 1.0]))


def test_advantages_are_over_the_members_of_a_group():
    found = group_advantages(torch.tensor([[1.0, 2.0, 3.0], [101.0, 102.0, 103.0], [5.0, 5.0, 5.0]]))
    torch.testing.assert_close(found, torch.tensor([[-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]))
    assert group_advantages(torch.tensor([0.0] * 30 + [1.0])).max() == 2.0


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss"),
    [(1.5, 1.0, -1.2), (0.5, 1.0, -0.5), (1.5, -1.0, 1.5), (0.5, -1.0, 0.8), (1.1, 1.0, -1.1)],
)
def test_the_clip_is_pessimistic(ratio, advantage, loss):
    """VAMPO's released loss takes the other one of each pair, except where both are the same."""
    found = pessimistic(torch.tensor(ratio), torch.tensor(advantage), 0.2)
    assert found.item() == pytest.approx(loss)


def test_the_effective_rank_of_known_matrices():
    assert effective_rank(np.eye(7)) == pytest.approx(7.0)
    assert effective_rank(np.outer(np.arange(1, 5), np.arange(1, 9))) == pytest.approx(1.0)
    two = np.diag([3.0, 1.0, 0.0])
    expected = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert effective_rank(two) == effective_rank(100 * two.T) == pytest.approx(expected)
    assert effective_rank(np.zeros((3, 2))) == 0.0


def test_the_response_to_actions_is_the_derivative(net, context):
    """Against automatic differentiation, within what a difference quotient can do; nothing where nothing is heard."""
    one, bins = [c[:1] for c in context], torch.tensor([[0, 100, 255], [10, 20, 30], [128, 4, 250], [7, 7, 7]])

    def mean(actions):
        x = torch.zeros(1, 1, 2, TOKENS, LATENT)
        return net.imagine(one, actions[None, None], torch.ones(1, 1), x, torch.ones(1, 1, 2))[0].flatten()

    exact = torch.autograd.functional.jacobian(mean, bins.float()).flatten(1) * 256
    found = response(net, one, bins)
    assert found.shape == (2 * TOKENS * LATENT, 12)
    assert np.corrcoef(found.ravel(), exact.numpy().ravel())[0, 1] > 0.98
    deaf = WorldModel(net.config).eval()
    torch.nn.init.zeros_(deaf.leave.weight)
    assert effective_rank(response(deaf, one, bins)) == 0.0


def test_the_readout_has_the_rank_of_what_can_be_read():
    rng = np.random.default_rng(0)
    actions = rng.normal(size=(4000, 6))
    latents = actions[:, :2] @ rng.normal(size=(2, 10)) + 0.01 * rng.normal(size=(4000, 10))
    assert 1.5 < effective_rank(readout(latents, actions)) < 2.6


# --- the trainer ---


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return noise_attempts(tmp_path_factory.mktemp("rollouts"), 30, 32, SIZE)


@pytest.fixture
def make(data, tiny_net, monkeypatch, tmp_path):
    """Trainers that start from a world model which has seen a few samples, with untrained eyes."""
    torch.manual_seed(0)
    seeing = Perception(tiny_net, Autoencoder(AutoencoderConfig(image_size=SIZE, latent=LATENT, channels=(8, 8, 8))))
    monkeypatch.setattr(world_model, "load_perception", lambda _: seeing)
    small = {"width": 32, "layers": 1, "heads": 2}
    monkeypatch.setattr(world_model, "WorldModelConfig", lambda *args, **more: WorldModelConfig(*args, **more | small))
    world_model.Trainer(WorldModelRecipe((str(data),), "", "", samples=16, batch=8, threads=1), tmp_path / "wm").run()

    def build(steps=8, out="run", **options):
        recipe = {"group": 4, "states": 8, "updates": 4, "batch": 8, "steps": 2, "warmup": 1, "ema": 0.0, "threads": 1}
        return Trainer(
            VampoRecipe((str(data),), str(tmp_path / "wm"), samples=8 * steps, **recipe | options), tmp_path / out
        )

    return build


def test_the_ratio_is_exactly_one_before_the_first_update(make):
    trainer = make()
    trainer._refill = refill = trainer._dream()
    mean, logits = trainer._first_step(trainer.net, refill.index, refill.start, refill.head)
    again = trainer._density(mean, refill.after)
    assert torch.equal((again - refill.density).exp(), torch.ones(8, 2, 4))
    torch.testing.assert_close(mean, refill.reference)
    torch.testing.assert_close(logits, refill.logits)
    losses = trainer._loss(np.arange(8))
    assert losses["policy"].item() == pytest.approx(-trainer._refill.advantage.mean().item(), abs=1e-6)
    assert losses["kl"].item() == pytest.approx(0.0, abs=1e-6) == losses["heads"].item()


@pytest.fixture
def toy(monkeypatch):
    """A reward for first steps that land at BEST, from which dreams do not move any more; how far they are from it."""
    plain = vampo.denoise

    def stay(net, context, bins, x, view, steps, begin=0):
        return x if begin else plain(net, context, bins, x, view, steps)

    monkeypatch.setattr(vampo, "denoise", stay)
    monkeypatch.setattr(vampo, "latent_reward", lambda seen, real: -(seen - real + BEST).square().mean((-1, -2)))

    def distance(trainer):
        index = trainer._fixed
        start = draws(len(index), *trainer.latents.shape[1:])
        wanted = trainer.futures(index)[1][:, 0] - BEST
        with torch.no_grad():
            mean = trainer._first_step(trainer.net, index, start, 0 * start[:, HEAD])[0]
        return (mean - wanted).mean((0, 2, 3)).abs()

    return distance


TOY = {"learning_rate": 3e-3, "supervised": 0.0, "heads": 0.0, "group": 16}


def test_the_best_first_step_is_approached(make, toy):
    """In the mean of each view's latents, by the policy term alone."""
    trainer = make(steps=80, kl=0.0, **TOY)
    before = toy(trainer)
    trainer.run()
    assert before.min() > 0.4 and (toy(trainer) < 0.5 * before).all()


def test_the_divergence_holds_the_first_step_near_the_start(make, toy):
    free, held = make(steps=24, out="free", kl=0.0, **TOY), make(steps=24, out="held", kl=10.0, **TOY)
    before = toy(free)
    free.run()
    held.run()
    assert (before - toy(held) < 0.5 * (before - toy(free))).all()


@pytest.mark.parametrize("blocks", [0, 1])
def test_only_what_images_are_made_of_is_trained(make, blocks):
    trainer = make(blocks=blocks)
    trainer.run()
    before = trainer.start.state_dict()
    moved = {name.split(".")[0] for name, value in trainer.net.state_dict().items() if not value.equal(before[name])}
    assert "leave" in moved and moved <= set(vampo.IMAGES + vampo.SHARED * blocks)
    assert ("blocks" in moved) == bool(blocks)


def test_a_run_that_was_cut_off_comes_to_the_same_end(make, monkeypatch):
    monkeypatch.setattr(Trainer, "checkpoint_steps", 4)
    whole = make(out="whole")
    whole.run()
    first, update = make(out="cut"), Trainer._update

    def cut(self, index):
        if self.step == 6:
            raise KeyboardInterrupt
        return update(self, index)

    monkeypatch.setattr(Trainer, "_update", cut)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    monkeypatch.setattr(Trainer, "_update", update)
    again = make(out="cut")
    again.run(resume=True)
    assert again.step == whole.step == 8 and again.refills == whole.refills
    for name, value in whole.net.state_dict().items():
        assert torch.equal(again.net.state_dict()[name], value), name


def test_what_it_leaves_is_a_world_model_run(make, tmp_path, spec):
    make().run()
    net, state = load_world_model(tmp_path / "run")
    seen = world_model.load_perception(WorldModelRecipe(**state["recipe"]))
    from vla_mbpo.imagination.export import export_world_model
    from vla_mbpo.training.calibration import load_calibration

    found, familiar = load_calibration(tmp_path / "run")
    bundle = export_world_model(net, seen, familiar, state, spec, tmp_path / "bundle",
                                {"policies": [], "calibration": found})  # fmt: skip
    assert bundle.manifest["kind"] == "world_model" and state["vampo"]["group"] == 4
    assert (tmp_path / "run" / "state.json").is_file() and len(state["refills"]) == 2


def test_other_numbers_are_refused_when_a_run_goes_on(make):
    make().run()
    with pytest.raises(ConfigError, match="vampo.clip"):
        make(clip=0.3).run(resume=True)


def test_refills_and_checkpoints_have_to_meet(make):
    with pytest.raises(ConfigError, match="updates"):
        make(updates=3)


def test_numbers_that_the_recipe_does_not_have_are_refused(tmp_path, capsys):
    assert main(["train", "vampo", "--data", str(tmp_path), "--out", str(tmp_path / "run"), "--set", "x=1"]) == 64
    assert "--set" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_folders_with_branches_are_told_apart(tmp_path):
    for name, more in (("plain", {}), ("branched", {"hits": np.zeros(1)})):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "a.npz", task="button", **more)
    assert not vampo._branched(tmp_path / "plain") and vampo._branched(tmp_path / "branched")
