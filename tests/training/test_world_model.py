"""Training of the world model: noise levels, what carries loss, what a run leaves."""

import json
import shutil

import numpy as np
import pytest
from made_up import noise_attempts

torch = pytest.importorskip("torch", reason="needs torch: `make setup-dev`")

from vla_mbpo.core.errors import ConfigError  # noqa: E402  (after the check that torch is there)
from vla_mbpo.imagination.autoencoder import Autoencoder, AutoencoderConfig  # noqa: E402
from vla_mbpo.imagination.perception import Perception  # noqa: E402
from vla_mbpo.training import autoencoder, world_model  # noqa: E402
from vla_mbpo.training.calibration import CALIBRATION  # noqa: E402
from vla_mbpo.training.loop import slim  # noqa: E402
from vla_mbpo.training.rollout_data import UNTRIED  # noqa: E402
from vla_mbpo.training.world_model import Trainer, WorldModelRecipe, load_world_model  # noqa: E402

SIZE = 32


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return noise_attempts(tmp_path_factory.mktemp("rollouts"), 40, 48, SIZE)


@pytest.fixture
def make(data, tiny_net, monkeypatch, tmp_path):
    """A trainer that sees with untrained eyes."""
    torch.manual_seed(0)
    seeing = Perception(tiny_net, Autoencoder(AutoencoderConfig(image_size=SIZE, latent=8, channels=(8, 8, 8))))
    monkeypatch.setattr(world_model, "load_perception", lambda _: seeing)

    def build(steps=2, **options):
        recipe = WorldModelRecipe((str(data),), "", "", samples=steps * 8, batch=8, threads=1, **options)
        return Trainer(recipe, tmp_path / "run")

    return build


def test_a_run_leaves_a_network_a_state_and_its_calibration(make, tmp_path):
    trainer = make()
    trainer.run()
    net, state = load_world_model(tmp_path / "run")
    assert state["step"] == 2 and state["rollouts"] == 40 and 0.3 < state["failures"] < 0.7
    assert all(torch.isfinite(value).all() for value in net.state_dict().values())
    calibration = json.loads((tmp_path / "run" / CALIBRATION).read_text())
    assert np.array(calibration["outcome"]).shape == (2, 4) and len(calibration["cost"]) == 2


def test_a_slim_run_loads_as_the_whole_one_does(make, tmp_path):
    make().run()
    slim(tmp_path / "run", tmp_path / "slim")
    (whole, _), (half, state) = load_world_model(tmp_path / "run"), load_world_model(tmp_path / "slim")
    for name, value in whole.state_dict().items():
        np.testing.assert_allclose(half.state_dict()[name], value, rtol=1e-3, atol=1e-6)
    assert state["step"] == 2


def test_a_run_that_starts_from_another_reads_its_numbers_as_that_did(make, tmp_path, data):
    """Else bins and proprioception would mean something else to the network than what it learned."""
    first = make()
    first.run()
    (tmp_path / "run").rename(tmp_path / "first")
    (tmp_path / "data").mkdir()
    for file in sorted(data.glob("*_1*.npz")):  # fewer rollouts: other ranges
        shutil.copy(file, tmp_path / "data")
    recipe = WorldModelRecipe((str(tmp_path / "data"),), "", "", init=str(tmp_path / "first"), batch=8, threads=1)
    second = Trainer(recipe, tmp_path / "second")
    np.testing.assert_allclose(second.mean, first.mean, rtol=1e-6)
    np.testing.assert_allclose(second.rollouts.action_bins.low, first.rollouts.action_bins.low)
    for name, value in first.average.items():
        torch.testing.assert_close(second.net.state_dict()[name], value)
    with pytest.raises(ConfigError, match="autoencoder"):
        Trainer(WorldModelRecipe((str(data),), "other", "", init=str(tmp_path / "first")), tmp_path / "third")


def test_what_the_eyes_saw_is_kept_for_the_next_start(make, monkeypatch):
    first = make()
    monkeypatch.setattr(world_model, "perceive", lambda *_: pytest.fail("looked again"))
    second = make()
    np.testing.assert_array_equal(first.latents, second.latents)


def test_validation_and_training_share_no_attempt(make):
    trainer = make()
    episode = trainer.rollouts.episode
    assert len(trainer.validation) and not set(episode[trainer.train]) & set(episode[trainer.validation])
    assert len(trainer.train) + len(trainer.validation) == len(episode)


def test_every_kind_of_noise_level_is_drawn(make):
    level, own = make(fast=0.4, chained=0.3, imagined=0.1)._levels(4000)
    assert own.float().mean() == pytest.approx(0.1, abs=0.02) and (level[own] == 0).all()
    level = level[~own]
    fast = (level == 1).all((1, 2))
    chained = (level[..., 0] == 0).all(1) & (level[..., 1] > 0).all(1)
    assert fast.float().mean() == pytest.approx(0.4 / 0.9, abs=0.04)
    assert chained.float().mean() == pytest.approx(0.3 / 0.9, abs=0.04)
    rest = level[~fast & ~chained]
    assert ((rest > 0) & (rest < 1)).all()
    assert np.abs(np.corrcoef(rest.flatten(1).T)[0, 1:]).max() < 0.1  # independent per view and step


def test_it_learns_that_attempts_which_move_succeed(make):
    """The only difference between the two kinds of attempt is what was done."""
    trainer = make(60, blind=0.0)
    before = float(trainer._loss(np.arange(64))["outcome"].detach())
    trainer.run()
    after = float(trainer._loss(np.arange(64))["outcome"].detach())
    assert after < 0.7 * before


def test_it_learns_from_branches_which_candidate_leaves_less_to_do(make, tmp_path):
    """At every look the second chunk, which moves, leaves 40 rows less; also at looks it was not trained on."""
    folder, rng = tmp_path / "branches", np.random.default_rng(1)
    folder.mkdir()
    for seed in range(16):
        chunks = np.zeros((2, 3, 16, 8), np.float32)
        chunks[:, 1:, :, :7] = 0.2 * np.linspace(0, 1, 16)[:, None]
        np.savez(
            folder / f"few_button_{seed}.npz", source="few", task="button", seed=seed, chunks=chunks,
            head=rng.integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8),
            wrist=rng.integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8),
            joints=np.zeros((2, 7), np.float32), velocities=np.zeros((2, 7), np.float32),
            gripper=np.full(2, 0.04, np.float32), hits=np.array([[1, 0, 0]] * 2),
            to_go=np.array([[60, 20, 20], [UNTRIED] * 3]),
        )  # fmt: skip
    np.savez(folder / "few_button_19.npz", source="few", task="button", seed=19)  # nothing was branched
    trainer = make(60, branches=(str(folder),), branched=1.0)
    assert len(trainer.tried.branches) == 32
    trainer.run()
    choice = json.loads((tmp_path / "run" / CALIBRATION).read_text())["choice"]
    assert choice["looks"] == 2 * choice["finished"] == len(trainer.tried_validation) > 0
    assert choice["rows_saved"] == choice["rows_saved_at_best"] == 20.0
    assert choice["cost_safest_chosen"] == choice["cost_safest"] == 0.0 and choice["cost_random"] == 0.5


def test_without_its_runs_training_says_which_is_missing(data, tmp_path):
    with pytest.raises(ConfigError, match="autoencoder.*nowhere"):
        Trainer(WorldModelRecipe((str(data),), "nowhere", "nowhere"), tmp_path)


def test_the_autoencoder_learns_and_standardises_its_latents(data, tmp_path):
    recipe = autoencoder.AutoencoderRecipe((str(data),), samples=60 * 16, batch=16, threads=1)
    trainer = autoencoder.Trainer(recipe, tmp_path / "ae")
    trainer.run()
    net = autoencoder.load_autoencoder(tmp_path / "ae")
    latents = autoencoder.encode(net, trainer._pictures)
    assert latents.mean((0, 1)).abs().max() < 0.2
    assert (latents.std((0, 1)) - 1).abs().max() < 0.3
    assert trainer.history[0]["pixels"] < 10  # and finite
    with torch.no_grad():
        assert net.decode(latents[:2]).shape == (2, 3, SIZE, SIZE)
