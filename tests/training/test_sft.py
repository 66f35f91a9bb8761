"""Supervised finetuning: what carries loss, what a checkpoint holds and survives."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: `make setup-dev`")

from vla_mbpo.core.errors import ConfigError  # noqa: E402  (after the check that torch is there)
from vla_mbpo.training import loop  # noqa: E402
from vla_mbpo.training.dataset import Augment  # noqa: E402
from vla_mbpo.training.sft import SftConfig, Trainer, load_average  # noqa: E402

BATCH = 2


def trainer(demos, out, steps: int, **options) -> Trainer:
    return Trainer(SftConfig((str(demos),), samples=steps * BATCH, batch=BATCH, threads=1, **options), out)


@pytest.fixture(scope="module")
def run(demos, tmp_path_factory):
    """A finished run of 50 steps: its folder and its trainer."""
    out = tmp_path_factory.mktemp("run")
    done = trainer(demos, out, 50)
    done.run()
    return out, done


@pytest.fixture
def copy(run, tmp_path):
    """A run folder to write to."""
    for file in run[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_training_moves_the_weights_and_keeps_them_finite(run):
    _, done = run
    assert all(torch.isfinite(value).all() for value in done.average.values())
    assert done.net.leave.weight.abs().max() > 0
    assert np.isfinite(done.history[0]["flow"])


def test_a_checkpoint_is_safetensors_and_json(run):
    out, _ = run
    assert sorted(file.name for file in out.iterdir()) == ["checkpoint_50.safetensors", "state.json"]
    head = (out / "checkpoint_50.safetensors").read_bytes()
    size = int.from_bytes(head[:8], "little")
    assert "net.leave.weight" in json.loads(head[8 : 8 + size])
    assert json.loads((out / "state.json").read_text())["file"] == "checkpoint_50.safetensors"


def test_a_resumed_run_goes_on_at_the_same_step_with_the_same_history(run, copy, demos):
    resumed = trainer(demos, copy, 52)
    resumed.run(resume=True)
    assert resumed.step == 52
    assert resumed.history == run[1].history
    assert json.loads((copy / "state.json").read_text())["step"] == 52
    assert [file.name for file in copy.glob("*.safetensors")] == ["checkpoint_52.safetensors"]


def test_resuming_a_finished_run_restores_network_average_and_optimiser(run, copy, demos):
    _, done = run
    resumed = trainer(demos, copy, 50)
    resumed.run(resume=True)
    for name, value in done.net.state_dict().items():
        assert torch.equal(resumed.net.state_dict()[name], value), name
        assert torch.equal(resumed.average[name], done.average[name]), name
    before, after = done.optimiser.state_dict()["state"], resumed.optimiser.state_dict()["state"]
    assert before.keys() == after.keys()
    for i, state in before.items():
        assert all(torch.equal(torch.as_tensor(state[key]), torch.as_tensor(after[i][key])) for key in state), i


def test_resuming_where_nothing_is_starts_from_the_beginning(demos, tmp_path):
    fresh = trainer(demos, tmp_path, 1)
    fresh.run(resume=True)
    assert fresh.step == 1


def test_the_same_seed_trains_the_same_network(demos, tmp_path):
    one = trainer(demos, tmp_path / "one", 2)
    one.run()
    two = trainer(demos, tmp_path / "two", 2)
    two.run()
    assert all(torch.equal(two.average[name], value) for name, value in one.average.items())


def test_a_run_may_start_from_the_averaged_network_of_another(run, demos, tmp_path):
    out, done = run
    started = trainer(demos, tmp_path, 1, init=str(out))
    assert started.step == 0
    assert all(torch.equal(started.average[name], value) for name, value in done.average.items())


def cut_off(tensors, path) -> None:
    """The disk is full, or the power gone, halfway through the file."""
    path.write_bytes(b"\x00" * 1000)
    raise KeyboardInterrupt


def test_an_interrupted_save_leaves_the_previous_checkpoint_readable(run, copy, demos, monkeypatch):
    monkeypatch.setattr(loop, "save_file", cut_off)
    with pytest.raises(KeyboardInterrupt):
        trainer(demos, copy, 51).run(resume=True)
    net, state = load_average(copy)
    assert state["step"] == 50
    assert all(torch.equal(value, run[1].average[name]) for name, value in net.state_dict().items())


def test_an_interrupted_save_of_the_same_step_leaves_the_checkpoint_readable(copy, demos, monkeypatch):
    monkeypatch.setattr(loop, "save_file", cut_off)
    with pytest.raises(KeyboardInterrupt):
        trainer(demos, copy, 50).run(resume=True)
    load_average(copy)


def test_a_run_is_not_resumed_with_another_recipe(demos, copy):
    with pytest.raises(ConfigError, match=r"recipe\.per_task: 1 is not valid; .* begun with 0"):
        trainer(demos, copy, 52, per_task=1).run(resume=True)


def test_a_run_that_starts_from_another_lists_both_rounds(run, demos, tmp_path):
    first, done = run[1].rounds, trainer(demos, tmp_path, 1, init=str(run[0]))
    assert [r["sft"]["init"] for r in done.rounds] == ["", str(run[0])]
    assert done.rounds[0] == json.loads(json.dumps(first[0]))
    assert done.rounds[1]["scenes"] == [0, 0]


def test_the_averaged_network_is_what_is_loaded(run):
    out, done = run
    net, state = load_average(out)
    assert not net.training
    assert all(torch.equal(value, done.average[name]) for name, value in net.state_dict().items())
    assert any((value != done.net.state_dict()[name]).any() for name, value in net.state_dict().items())
    for name, value in vars(done.norm).items():
        np.testing.assert_array_equal(np.array(state["normalisation"][name], np.float32), value)


def gradient_per_row(demos, tmp_path, monkeypatch, valid) -> tuple[np.ndarray, np.ndarray]:
    """Whether each row of a batch carries loss, and whether it was committed.

    The untrained network answers zero, so the loss depends on a row's label only through that row's own error.
    """
    t = trainer(demos, tmp_path, 1, draws=1)
    committed = []
    velocity = t.net.velocity

    def watched(cache, mask, rows, time):
        committed.append((time == 1.0).numpy())
        return velocity(cache, mask, rows, time)

    monkeypatch.setattr(t.net, "velocity", watched)
    n = len(valid)
    cache, mask, _ = t.net.encode(torch.zeros(n, 3, 16, 16), torch.zeros(n, 3, 16, 16), torch.ones(n, 8, dtype=int),
                                  torch.zeros(n, 15))  # fmt: skip
    chunk = torch.randn(n, 16, 8, requires_grad=True)
    t.lesson.flow(t.net, cache, mask, chunk, torch.from_numpy(valid).float()).backward()
    return chunk.grad.abs().amax(-1).numpy() > 0, committed[0]


def test_committed_rows_carry_no_loss_and_all_others_do(demos, tmp_path, monkeypatch):
    carries, committed = gradient_per_row(demos, tmp_path, monkeypatch, np.ones((64, 16), bool))
    np.testing.assert_array_equal(carries, ~committed)
    lengths = committed.sum(1)
    assert committed.any()
    assert lengths.max() <= SftConfig.max_prefix
    np.testing.assert_array_equal(committed, np.arange(16) < lengths[:, None])


def test_rows_that_do_not_count_carry_no_loss(demos, tmp_path, monkeypatch):
    valid = np.random.default_rng(0).random((64, 16)) < 0.5
    carries, committed = gradient_per_row(demos, tmp_path, monkeypatch, valid)
    np.testing.assert_array_equal(carries, valid & ~committed)


def test_a_batch_without_any_row_that_counts_has_a_finite_loss(demos, tmp_path):
    t = trainer(demos, tmp_path, 1)
    cache, mask, _ = t.net.encode(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16), torch.ones(1, 8, dtype=int),
                                  torch.zeros(1, 15))  # fmt: skip
    only_the_first = torch.tensor([[1.0] + [0.0] * 15])
    losses = [t.lesson.flow(t.net, cache, mask, torch.randn(1, 16, 8), only_the_first) for _ in range(20)]
    assert all(torch.isfinite(loss) for loss in losses)


def test_augmentation_keeps_shape_and_range():
    images = torch.randint(0, 256, (8, 16, 16, 3), dtype=torch.uint8)
    out = Augment(2, 0.25, 0.03).images(images)
    assert out.shape == (8, 3, 16, 16)
    assert 0 <= out.min() <= out.max() <= 255


def test_without_augmentation_images_are_only_transposed():
    images = torch.randint(0, 256, (4, 16, 16, 3), dtype=torch.uint8)
    assert torch.equal(Augment(0, 0.0, 0.0).images(images), images.permute(0, 3, 1, 2).float())


def test_shifted_images_are_shifts_of_the_original():
    images = torch.randint(0, 256, (16, 12, 12, 3), dtype=torch.uint8)
    shifted = Augment(2, 0.0, 0.0).images(images).byte().permute(0, 2, 3, 1)
    for image, out in zip(images, shifted, strict=True):
        moves = [(d, r) for d in range(-2, 3) for r in range(-2, 3)]
        inner = [image[2 + d : 10 + d, 2 + r : 10 + r] for d, r in moves]
        assert any(torch.equal(out[2:10, 2:10], part) for part in inner)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_demonstrations_shorter_than_a_chunk_are_refused_or_still_give_finite_constants(tmp_path):
    rng, t, m = np.random.default_rng(0), 10, 5
    np.savez(
        tmp_path / "button_000000.npz", task="button", seed=0, at=np.arange(m), clean=np.ones(t, bool),
        target=rng.random((t, 7), np.float32), gripper_target=np.zeros(t, np.float32),
        head=np.zeros((m, 16, 16, 3), np.uint8), wrist=np.zeros((m, 16, 16, 3), np.uint8),
        joints=rng.random((m, 7), np.float32), velocities=np.zeros((m, 7), np.float32),
        gripper=np.zeros(m, np.float32), points=np.zeros((m, 9), np.float32),
    )  # fmt: skip
    try:
        norm = trainer(tmp_path, tmp_path / "run", 1).norm
    except ConfigError:
        return
    assert np.isfinite(norm.action_mean).all()
    assert np.isfinite(norm.action_std).all()
