"""Training of the world model: noise levels, what carries loss, what a run leaves."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from made_up import noise_attempts

torch = pytest.importorskip("torch", reason="needs torch: `make setup-dev`")

from vla_mbpo.core.errors import ConfigError  # noqa: E402  (after the check that torch is there)
from vla_mbpo.imagination.autoencoder import Autoencoder, AutoencoderConfig  # noqa: E402
from vla_mbpo.imagination.perception import Perception  # noqa: E402
from vla_mbpo.sim.tasks import CALIBRATION_SEEDS  # noqa: E402
from vla_mbpo.training import autoencoder, world_model  # noqa: E402
from vla_mbpo.training.calibration import OWN, VALUE, calibrate, load_calibration, predictions  # noqa: E402
from vla_mbpo.training.logged import _unseen  # noqa: E402
from vla_mbpo.training.loop import CALIBRATION, slim  # noqa: E402
from vla_mbpo.training.rollout_data import UNTRIED  # noqa: E402
from vla_mbpo.training.world_model import (  # noqa: E402
    Trainer,
    WorldModelRecipe,
    held_out,
    load_world_model,
    seen_before,
    to_calibrate,
)

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
        options = {"data": (str(data),), **options}
        recipe = WorldModelRecipe(autoencoder="", eyes="", samples=steps * 8, batch=8, threads=1, **options)
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
    assert (tmp_path / "slim" / CALIBRATION).read_text() == (tmp_path / "run" / CALIBRATION).read_text()
    (whole, _), (half, state) = load_world_model(tmp_path / "run"), load_world_model(tmp_path / "slim")
    for name, value in whole.state_dict().items():
        np.testing.assert_allclose(half.state_dict()[name], value, rtol=1e-3, atol=1e-6)
    assert state["step"] == 2
    with pytest.raises(ConfigError, match="a kept one has no familiar.safetensors"):
        load_calibration(tmp_path / "slim")


def test_a_run_that_starts_from_another_reads_its_numbers_as_that_did(make, tmp_path, data):
    """Else bins and proprioception would mean something else to the network than what it learned."""
    first = make()
    first.run()
    (tmp_path / "run").rename(tmp_path / "first")
    (tmp_path / "data").mkdir()
    for file in sorted(data.glob("*_[12]*.npz")):  # fewer rollouts: other ranges
        shutil.copy(file, tmp_path / "data")
    recipe = WorldModelRecipe((str(tmp_path / "data"),), "", "", init=str(tmp_path / "first"), batch=8, threads=1)
    second = Trainer(recipe, tmp_path / "second")
    np.testing.assert_allclose(second.mean, first.mean, rtol=1e-6)
    np.testing.assert_allclose(second.rollouts.action_bins.low, first.rollouts.action_bins.low)
    for name, value in first.average.items():
        torch.testing.assert_close(second.net.state_dict()[name], value)
    with pytest.raises(ConfigError, match="autoencoder"):
        Trainer(WorldModelRecipe((str(data),), "other", "", init=str(tmp_path / "first")), tmp_path / "third")


def test_a_run_names_what_those_were_trained_on_that_it_goes_on_from(make, tmp_path, data):
    """Scenes of a log were taken for unseen as soon as a run had gone on with other data."""
    make().run()
    (tmp_path / "run").rename(tmp_path / "first")
    recipe = WorldModelRecipe((str(data),), "", "", init=str(tmp_path / "first"), samples=8, batch=8, threads=1)
    state = json.loads((tmp_path / "first/state.json").read_text())
    assert state["trained_on"] == [str(data)]
    state["trained_on"] = ["older/log"]
    (tmp_path / "first/state.json").write_text(json.dumps(state))
    Trainer(recipe, tmp_path / "second").run()
    named = json.loads((tmp_path / "second/state.json").read_text())
    assert seen_before(named) == {str(Path("older/log").resolve()), str(data)}
    assert seen_before({"recipe": {"data": ["a/../b"]}}) == {str(Path("b").resolve())}  # before it was kept


def fast_logits(trainer, net):
    return predictions(trainer, net.eval(), trainer.validation)[0]


@pytest.fixture
def started(make, tmp_path):
    """Logits and constants of a run whose data nobody has labelled with the time to go, and what begins from it."""
    first = make()
    first.run()
    (tmp_path / "run").rename(tmp_path / "first")
    file = tmp_path / "first" / CALIBRATION
    found = json.loads(file.read_text())
    found["outcome"][0][VALUE], found["outcome"][1][VALUE] = 0.839, -0.300
    file.write_text(json.dumps(found))
    return fast_logits(first, load_world_model(tmp_path / "first")[0]), found, file


def test_what_nothing_here_has_labels_of_stays_as_it_was(make, started, tmp_path):
    """A refresh let the time to go drift, which is dream RL's reward, and forgot its constants."""
    before, found, _ = started
    drift = {}
    for held in (0.0, 10.0):
        trainer = make(10, init=str(tmp_path / "first"), held=held, learning_rate=3e-3, warmup=1, ema=0.0)
        trainer.run()
        drift[held] = np.abs(fast_logits(trainer, trainer.net) - before).mean((0, 1, 2))
    assert drift[10.0][VALUE] < 0.75 * drift[0.0][VALUE] and drift[10.0][2] > drift[10.0][VALUE]
    constants = np.array(json.loads((tmp_path / "run" / CALIBRATION).read_text())["outcome"])
    np.testing.assert_allclose(constants[:, VALUE], [0.839, -0.300])
    np.testing.assert_allclose(constants, found["outcome"])  # also where too few attempts have labels


def test_few_finished_branches_leave_the_constants_of_the_value_as_they_were(make, started, branches, tmp_path):
    """Incident: a fit to none of them gave scale 1 and shift 0 for those of the run that was gone on from."""
    trainer = make(init=str(tmp_path / "first"), branches=(str(branches),))
    calibrate(trainer, trainer.net.eval())
    constants = np.array(json.loads((tmp_path / "run" / CALIBRATION).read_text())["outcome"])
    np.testing.assert_allclose(constants[:, VALUE], [0.839, -0.300])


def test_without_an_expert_candidates_are_ranked_by_the_time_of_who_drove(make, branches, tmp_path):
    """Incident (review): on recordings of an arm the reward of dream RL was a head that nothing had trained."""

    def ranked_by(trainer):
        calibrate(trainer, trainer.net.eval())
        return json.loads((tmp_path / "run" / CALIBRATION).read_text())["value"]

    trainer = make()
    trainer.run()
    assert ranked_by(trainer) == OWN
    (tmp_path / "run").rename(tmp_path / "first")
    assert ranked_by(make(branches=(str(branches),))) == VALUE
    again = make(init=str(tmp_path / "first"))
    assert ranked_by(again) == OWN
    file = tmp_path / "first" / CALIBRATION
    found = json.loads(file.read_text())
    del found["value"]  # as runs before it was kept, which had seen experts
    file.write_text(json.dumps(found))
    assert ranked_by(again) == VALUE


def test_what_no_finished_branch_tells_is_none(make, branches, tmp_path):
    """Incident: it was NaN, which is no JSON."""
    trainer = make(branches=(str(branches),))
    trainer.tried.branches.finished[:] = False
    calibrate(trainer, trainer.net.eval())
    text = (tmp_path / "run" / CALIBRATION).read_text()
    choice = json.loads(text, parse_constant=lambda number: pytest.fail(f"{number} is no JSON"))["choice"]
    assert choice["rows_saved"] is choice["rows_saved_at_best"] is None and choice["cost_random"] == 0.5


def test_heads_without_labels_are_not_taken_over_without_their_constants(make, started, tmp_path):
    started[2].unlink()
    with pytest.raises(ConfigError, match=CALIBRATION):
        make(init=str(tmp_path / "first"))


def test_what_admits_a_world_model_has_no_part_in_its_constants(make, tmp_path):
    """After a refresh the gap was 0.0 whatever the model said: constants had been fitted to the looks that tell."""
    trainer = make()
    trainer.run()
    net, outcome = load_world_model(tmp_path / "run")[0], trainer.rollouts.outcome

    def constants():
        calibrate(trainer, net)
        return json.loads((tmp_path / "run" / CALIBRATION).read_text())["outcome"]

    first, other = constants(), np.setdiff1d(trainer.validation, trainer.calibration)
    assert len(other) and len(trainer.calibration)
    outcome[other] = 1 - outcome[other]
    assert constants() == first
    outcome[trainer.calibration] = 1 - outcome[trainer.calibration]
    assert constants() != first


@pytest.mark.parametrize("folder", ["data/log", "data/../data/log", "data", "data/log/one"])
def test_a_log_that_a_model_was_trained_on_admits_it_where_nothing_was_fitted(folder):
    seeds = np.arange(400)
    data = SimpleNamespace(facts=[{"seed": int(seed)} for seed in seeds], episode=seeds)
    unseen = _unseen(data, seeds, (folder,), SimpleNamespace(trained_on=("data/log",)))
    assert len(unseen) > 10 and held_out(unseen).all() and not to_calibrate(unseen).any()
    assert len(_unseen(data, seeds, (folder,), SimpleNamespace(trained_on=("data/other", "data/log2")))) == (
        400 if folder != "data" else len(unseen)
    )


def test_scenes_that_decide_on_a_promotion_are_not_learned_from(data, make, tmp_path):
    folder = tmp_path / "calibration"
    folder.mkdir()
    with np.load(next(iter(data.glob("*.npz")))) as episode:
        np.savez(folder / "one.npz", **{**episode, "source": "live", "seed": CALIBRATION_SEEDS.start + 7})
    with pytest.raises(ConfigError, match="1000007"):
        make(data=(str(folder),))


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


@pytest.fixture
def branches(tmp_path):
    """At every look the second chunk, which moves, leaves 40 rows less."""
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
    return folder


def test_it_learns_from_branches_which_candidate_leaves_less_to_do(make, branches, tmp_path):
    """Also at looks that it was not trained on."""
    trainer = make(60, branches=(str(branches),), branched=1.0)
    assert len(trainer.tried.branches) == 32
    trainer.run()
    choice = json.loads((tmp_path / "run" / CALIBRATION).read_text())["choice"]
    assert choice["looks"] == 2 * choice["finished"] == len(trainer.tried_validation) > 0
    assert choice["rows_saved"] == choice["rows_saved_at_best"] == 20.0
    assert choice["cost_safest_chosen"] == choice["cost_safest"] == 0.0 and choice["cost_random"] == 0.5


def test_branches_are_named_among_what_a_model_was_trained_on(make, branches, data):
    """Incident: only folders of rollouts were named, and dream RL took scenes of branches for unseen ones."""
    assert make(branches=(str(branches),)).trained_on == {str(data), str(branches)}


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
