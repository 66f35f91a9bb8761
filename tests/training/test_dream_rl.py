"""Dream RL on a world whose best chunk is known: it is reached, within the anchors' reach, and a run resumes."""

import json

import numpy as np
import pytest
from made_up import noise_attempts
from PIL import Image

torch = pytest.importorskip("torch", reason="needs torch: `make setup-dev`")

from safetensors.torch import load_file, save_file  # noqa: E402  (after the check that torch is there)
from toy_world import Toy  # noqa: E402

from vla_mbpo.cli import main  # noqa: E402
from vla_mbpo.core.errors import ConfigError  # noqa: E402
from vla_mbpo.sim.tasks import CALIBRATION_SEEDS  # noqa: E402
from vla_mbpo.training import dream_rl, logged  # noqa: E402
from vla_mbpo.training.admission import Admission  # noqa: E402
from vla_mbpo.training.collector import PLAIN  # noqa: E402


@pytest.fixture
def make(toy_run):
    def build(refills=2, **options):
        plain = {"cloning": 0.0, "budget": 1e9, "centred": 0.0, "multiplier": 0.0, "multiplier_rate": 0.0}
        return toy_run(4 * refills, **plain | options)

    return build


def level(trainer):
    """Mean distance of the plainly sampled chunks from the best ones."""
    return trainer._at_fixed(trainer.net).to_go.mean().item()


def test_the_best_chunk_is_approached(make):
    trainer = make(refills=20)
    before = level(trainer)
    trainer.run()
    assert level(trainer) < 0.6 * before


def test_the_best_chunks_are_cloned_where_that_is_asked_for(make):
    trainer = make(refills=20, policy_weight=0.0, imitation=1.0)
    before = level(trainer)
    trainer.run()
    assert level(trainer) < 0.8 * before


def test_what_the_start_was_trained_on_holds_it(make, tiny_demos):
    """Eyes that learned from the log alone left the actions behind."""
    trainer = make(refills=15, demos=(str(tiny_demos),), policy_weight=0.0, demonstrated=1.0)
    trainer.run()
    losses = [row["demonstrated"] for row in trainer.history]
    before = [float(sum(trainer.anchors.taught.losses(trainer.start, np.arange(30)))) for _ in range(5)]
    after = [float(sum(trainer.anchors.taught.losses(trainer.net, np.arange(30)))) for _ in range(5)]
    assert np.mean(after) < np.mean(before), losses


def test_what_is_better_everywhere_teaches_nothing_where_that_is_taken_off(make):
    """Time to go said "higher" in nearly all observations; the policy rose and never came down."""
    trainer = make(centred=1.0, modes=1)
    refill = trainer._try()
    noise = trainer.flow.heights(refill.tried.chain.free, refill.tried.chain.after).flatten(1)
    noise = (noise.unflatten(0, (-1, 8)) - noise.unflatten(0, (-1, 8)).mean(1, keepdim=True)).flatten(0, 1)
    kept = refill.advantage != 0
    assert kept.any()
    assert (noise[kept].T @ refill.advantage[kept]).abs().max() < 1e-3 * len(noise)


def test_a_stage_goes_on_from_the_network_of_another_and_diverges_from_it(make):
    first = make(out="first")
    first.run()
    second = make(out="second", init=str(first.out))
    for net in (second.net, second.reference):
        assert all(
            torch.allclose(value.float(), first.average[name].float()) for name, value in net.state_dict().items()
        )
    assert not second.start.leave.weight.equal(second.net.leave.weight)


def test_eyes_that_are_not_those_of_the_log_look_anew_also_where_they_do_not_learn(make):
    """A stage with ``init`` and eyes=0 was trained behind what the eyes of the log's policy had seen."""
    first = make(out="first", eyes=1.0, locating=1.0)
    first.run()
    second = make(out="second", init=str(first.out))
    states = second.log.states
    shown = second._shown(states)
    text, gist, pad = second.net.read(states.words)
    pictures = [PLAIN.images(view) for view in shown]
    views = second.net.look(*pictures, gist)
    seen = second.collector.prefix(second.net, states, shown)
    for ours, theirs in zip(seen, second.net.prefix(text, pad, views, states.body), strict=True):
        assert torch.equal(ours, theirs)
    assert not torch.equal(views[0], second.start.look(*pictures, gist)[0])
    second.run()


def test_the_divergence_is_from_what_the_anchors_made_of_the_start(make):
    trainer = make(refills=2, anchored=4, eyes=1.0, locating=1.0, kl=1e-6, ema=0.5)
    trainer.run()
    reference, start = trainer.reference.state_dict(), trainer.start.state_dict()
    assert any(not value.equal(start[name]) for name, value in reference.items())
    assert [refill["step"] for refill in trainer.refills if "cost" in refill] == [4]


def test_the_ratio_is_one_before_the_first_update(make):
    trainer = make()
    trainer._refill = refill = trainer._try()
    tried = refill.tried
    velocity = trainer.collector.velocity(trainer.net, refill.states, trainer._shown(refill.states), 8)
    mean = trainer.flow.step_mean(velocity, tried.chain)
    again = trainer.flow.log_density(mean, tried.chain, tried.driven)
    assert torch.equal((again - tried.density).exp(), torch.ones(96))


@pytest.mark.parametrize(("chunks", "eyes"), [(1, 0.0), (2, 0.0), (2, 1.0)])
def test_what_shows_only_after_a_chunk_is_learned_by_branches_that_go_on(make, monkeypatch, chunks, eyes):
    monkeypatch.setattr(Toy, "later", True)
    trainer = make(refills=20 if eyes == 0.0 else 1, chunks=chunks, eyes=eyes)
    before = level(trainer)
    trainer.run()
    if chunks == 1:
        assert all(refill["kept"] == 0.0 for refill in trainer.refills)
    elif eyes == 0.0:
        assert level(trainer) < 0.6 * before
    else:  # the eyes see what is imagined
        assert trainer.refills[0]["kept"] == 1.0


def test_dreams_are_kept_and_can_be_looked_at(make, tmp_path, capsys):
    trainer = make(refills=6)
    trainer.run()
    files = sorted((trainer.out / "dreams").iterdir())
    assert [file.name for file in files] == ["000000.npz", "000020.npz"]  # every fifth refill
    assert main(["dream", "--dreams", str(files[0]), "--out", str(tmp_path / "strip.png")]) == 0
    with np.load(files[0]) as dreams, Image.open(tmp_path / "strip.png") as strip:
        assert dreams["head"].shape[:2] == (6, 5) and dreams["to_go"].shape == (6, 4)
        assert (dreams["head"][:, 0] == 50).all() and (dreams["wrist"][:, 0] == 90).all()  # what was seen
        assert strip.width == 5 * dreams["head"].shape[2]
    np.savez(tmp_path / "other.npz", head=np.zeros(3))
    assert main(["dream", "--dreams", str(tmp_path / "other.npz")]) == 64
    assert "without cost, done, success, to_go, wrist" in capsys.readouterr().err
    np.savez(tmp_path / "short.npz", at=np.arange(10))
    assert main(["dream", "--episode", str(tmp_path / "short.npz"), "--start", "30"]) == 64  # incident: a traceback
    assert "--start: 30 is not valid; 0 to 8" in capsys.readouterr().err


@pytest.mark.parametrize("anchor", [{"kl": 30.0}, {"budget": 0.0, "kl": 1.0}])
def test_an_anchor_holds_the_policy_near_its_start(make, anchor):
    free, held = make(refills=8, out="free"), make(refills=8, out="held", **anchor)
    before = level(free)
    free.run()
    held.run()
    assert before - level(held) < 0.5 * (before - level(free))


def test_cost_turns_the_policy_away(make, monkeypatch):
    monkeypatch.setattr(Toy, "costly", True)
    monkeypatch.setattr(Toy, "best", 0.05)
    trainer = make(refills=20, multiplier=5.0)
    trainer.run()
    costs = [refill["cost"] for refill in trainer.refills]
    assert np.mean(costs[-4:]) < 0.6 * np.mean(costs[:2])


def test_what_the_gate_would_refuse_is_not_rewarded(make, monkeypatch):
    """Faster and jerkier chunks were rewarded: the world model finds them good, the gate never lets them pass."""
    monkeypatch.setattr(Toy, "unfit", True)
    trainer = make(refills=20)
    trainer.run()
    shares = [refill["unfit"] for refill in trainer.refills]
    assert np.mean(shares[-4:]) < 0.6 * np.mean(shares[:2])


@pytest.mark.parametrize("eyes", [0.0, 1.0])
def test_what_the_policy_sees_with_learns_only_where_it_is_asked_to(make, eyes):
    trainer = make(eyes=eyes)
    trainer.run()
    moved = {
        name for name, value in trainer.net.state_dict().items() if not value.equal(trainer.start.state_dict()[name])
    }
    assert moved and not any(name.startswith(dream_rl.FROZEN) for name in moved)
    assert any(name.startswith(dream_rl.EYES) for name in moved) == bool(eyes)


def test_things_are_seen_where_the_world_model_sees_them(make):
    trainer = make(refills=20, policy_weight=0.0, eyes=1.0, locating=1.0)
    trainer.run()
    errors = [row["locating"] for row in trainer.history]
    states, shown = trainer.log.states, trainer._shown(trainer.log.states)
    _, _, features = trainer.collector.prefix(trainer.net, states, shown)
    _, _, before = trainer.collector.prefix(trainer.start, states, shown)
    assert trainer.net.locate(features).abs().mean() < 0.3 * trainer.start.locate(before).abs().mean(), errors


def cut_off(trainer):
    """Run up to the first checkpoint."""
    save = trainer.save

    def last():
        save()
        raise KeyboardInterrupt

    trainer.save = last
    with pytest.raises(KeyboardInterrupt):
        trainer.run()


@pytest.mark.parametrize(
    "options",
    [{"chunks": 2, "updates": 12}, {"updates": 25}, {"updates": 12, "policy_weight": 0.0, "cloning": 0.5}],
    ids=["branches", "refills", "anchors"],
)
def test_a_run_that_was_cut_off_ends_as_one_that_was_not(make, options):
    """Checkpoints every 40 steps lay within refills; after one, branches and anchors drew other noise than without."""
    whole = make(refills=18, out="whole", **options)
    whole.run()
    cut = make(refills=18, out="cut", **options)
    cut_off(cut)
    assert 20 < cut.step < 60 and cut.step % options["updates"] == 0
    again = make(refills=18, out="cut", **options)
    again.run(resume=True)
    assert again.step == 72
    for one, other in zip(whole.refills, again.refills, strict=True):
        assert one | {"seconds": 0.0} == pytest.approx(other | {"seconds": 0.0}, abs=1e-3)
    for name, value in whole.net.state_dict().items():
        assert torch.allclose(value, again.net.state_dict()[name], atol=1e-4), name


def test_a_checkpoint_without_the_state_of_the_noise_still_resumes(make):
    """Those that were written before it was kept."""
    first = make(refills=2)
    first.run()
    file = next(first.out.glob("*.safetensors"))
    save_file({name: value for name, value in load_file(file).items() if name != "rng"}, file)
    again = make(refills=4)
    again.run(resume=True)
    assert again.step == 16 and len(again.refills) == 4


def test_a_log_without_failures_is_refused(make, monkeypatch):
    monkeypatch.setattr(logged, "LEAST_FAILURES", 0.6)
    with pytest.raises(ConfigError, match="failures"):
        make()


def changed(monkeypatch, change):
    """Toy's log, changed."""
    read = Toy.read

    def changed(self, files):
        states, data = read(self, files)
        change(data)
        return states, data

    monkeypatch.setattr(Toy, "read", changed)


def aided(*looks):
    return lambda data: data.unaided.__setitem__(list(looks), False)


def test_what_a_person_did_or_saved_is_not_cloned(make, monkeypatch):
    changed(monkeypatch, aided(0, 1, 2, 3))
    assert torch.cat(make().log.good).tolist() == [4, 6, 8, 10]


def test_chunks_are_tried_where_a_person_was_in_command(make, monkeypatch):
    changed(monkeypatch, aided(0, 1, 2, 3))
    assert sorted(torch.cat(make().log.starts).tolist()) == list(range(12))


def test_a_log_whose_successes_are_all_a_persons_is_refused(make, monkeypatch):
    changed(monkeypatch, aided(*range(12)))
    with pytest.raises(ConfigError, match="without a person"):
        make()


def test_aborted_attempts_are_no_failures(make, monkeypatch):
    """Nobody knows how they would have ended."""
    changed(monkeypatch, lambda data: [fact.update(aborted=not fact["success"]) for fact in data.facts])
    with pytest.raises(ConfigError, match="failures"):
        make()


def test_what_is_in_the_log_is_kept_with_the_run_and_printed_once(make, monkeypatch, tmp_path, capsys):
    files = sorted(noise_attempts(tmp_path, 4, 32, 16).glob("*.npz"))
    monkeypatch.setattr(dream_rl, "rollout_files", lambda folders, robot: files)
    trainer = make(refills=1)
    trainer.run()
    log = json.loads((tmp_path / "run" / "state.json").read_text())["log"]
    assert log["episodes"]["attempts"] == 4 and log["episodes"]["failure"] == 0.5
    assert capsys.readouterr().out.count("'episodes'") == 1


@pytest.mark.parametrize("found", [Admission(100, 0.2, 0.0, 0.9), Admission(100, 0.9, 0.2, 0.9)])
def test_a_world_model_that_does_not_know_how_attempts_end_is_refused(make, monkeypatch, found):
    monkeypatch.setattr(Toy, "admitted", found)
    with pytest.raises(ConfigError, match="world_model"):
        make()


def test_rollouts_of_another_policy_are_refused(make, monkeypatch):
    read = Toy.read

    def others(self, files):
        states, data = read(self, files)
        data.facts[3]["policy"] = "other@1"
        return states, data

    monkeypatch.setattr(Toy, "read", others)
    with pytest.raises(ConfigError, match="other@1"):
        make()


def test_a_log_of_scenes_that_decide_on_the_promotion_is_refused(make, monkeypatch):
    changed(monkeypatch, lambda data: data.facts[3].update(source="live", seed=CALIBRATION_SEEDS.start))
    with pytest.raises(ConfigError, match="1000000"):
        make()


# The last ones have options of their own: they ended in a TypeError.
@pytest.mark.parametrize("text", ["nonsense=1", "group", "group=many", "policy=3", "seed=3", "samples=4", "threads=1"])
def test_numbers_that_the_recipe_does_not_have_are_refused(tmp_path, capsys, text):
    assert main(["train", "dream-rl", "--data", str(tmp_path), "--out", str(tmp_path / "run"), "--set", text]) == 64
    assert "--set" in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["seed=3", "samples=4", "threads=1"])
def test_the_denoisers_numbers_are_refused_alike(tmp_path, capsys, text):
    assert main(["train", "vampo", "--data", str(tmp_path), "--out", str(tmp_path / "run"), "--set", text]) == 64
    assert "--set" in capsys.readouterr().err and not (tmp_path / "run").exists()
