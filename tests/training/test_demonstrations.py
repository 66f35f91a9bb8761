"""Demonstrations: what is recorded, what is learned from it, what is kept."""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.policy.vocabulary import Vocabulary
from vla_mbpo.sim.experts import Expert
from vla_mbpo.sim.robot import SimRobot
from vla_mbpo.sim.scene import Scene
from vla_mbpo.sim.tasks import HELD_OUT_TASKS, TASKS
from vla_mbpo.training import command
from vla_mbpo.training.demonstrations import AFTER_SUCCESS, Perturbation, Recipe, demonstrate, generate

pytest.importorskip("torch", reason="needs torch: `make setup-dev`")

from vla_mbpo.training.dataset import Demonstrations, _label  # noqa: E402  (after the check that torch is there)
from vla_mbpo.training.sft import demonstrations  # noqa: E402

HORIZON = 16
RECIPE = Recipe(image_size=32, burst_probability=0.1)
VOCABULARY = Vocabulary.of([task.instruction for task in TASKS.values()])


@pytest.fixture(scope="module")
def calm(spec) -> dict:
    return demonstrate(spec, "button", 0, RECIPE, perturb=False)


@pytest.fixture(scope="module")
def shaken(spec) -> dict:
    episode = demonstrate(spec, "button", 1, RECIPE)
    assert not episode["clean"].all()
    return episode


@pytest.fixture(scope="module")
def dataset(calm, shaken, tmp_path_factory) -> Demonstrations:
    folder = tmp_path_factory.mktemp("demos")
    for seed, episode in enumerate((calm, shaken)):
        np.savez(folder / f"button_{seed:06d}.npz", task="button", seed=seed, **episode)
    return Demonstrations(sorted(folder.iterdir()), VOCABULARY, HORIZON)


def test_an_episode_has_the_documented_arrays(calm):
    t, m = len(calm["target"]), len(calm["at"])
    shapes = {key: value.shape for key, value in calm.items() if key != "instruction"}
    assert shapes == {
        "target": (t, 7), "gripper_target": (t,), "clean": (t,), "at": (m,), "head": (m, 32, 32, 3),
        "wrist": (m, 32, 32, 3), "joints": (m, 7), "velocities": (m, 7), "gripper": (m,), "points": (m, 9),
    }  # fmt: skip
    assert calm["head"].dtype == calm["wrist"].dtype == np.uint8
    assert calm["instruction"] == "press the button"


def test_the_same_seed_gives_the_same_demonstration(spec, shaken):
    again = demonstrate(spec, "button", 1, RECIPE)
    for key, value in shaken.items():
        np.testing.assert_array_equal(again[key], value, err_msg=key)


def test_without_perturbation_every_row_is_clean(calm):
    assert calm["clean"].all()


def test_observations_are_evenly_spaced(calm):
    assert set(np.diff(calm["at"])) == {RECIPE.look_every}
    assert calm["at"][0] < RECIPE.look_every


def test_nothing_is_looked_at_within_a_perturbation(shaken):
    assert shaken["clean"][shaken["at"]].all()


def test_a_demonstration_goes_on_after_success(spec, calm):
    tool_to_button = np.linalg.norm(calm["points"][-1, 6:8] - calm["points"][-1, 3:5])
    assert tool_to_button < 0.05
    assert calm["points"][-1, 8] > calm["points"][:, 8].min() + 0.01  # it has let go of the button
    assert len(calm["target"]) > AFTER_SUCCESS


def test_recorded_targets_keep_the_joint_limits(spec, shaken):
    assert np.all((shaken["target"] >= spec.lower) & (shaken["target"] <= spec.upper))


def test_an_expert_that_cannot_succeed_gives_no_demonstration(spec):
    wild = dataclasses.replace(RECIPE, burst_probability=1.0, burst_joint=0.5, gripper_bursts=0.0)
    assert demonstrate(spec, "red_bin", 1, wild) is None


@pytest.fixture(scope="module")
def expert(spec) -> Expert:
    return Expert(SimRobot(spec, Scene.build(spec, "button", 0)))


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(1, 30))
def test_only_rows_within_a_burst_are_changed(expert, seed, rows):
    noise, target = Perturbation(RECIPE, np.random.default_rng(seed), expert, 7), np.zeros(7)
    for _ in range(rows):
        noise.maybe_begin()
        active = noise.active
        joints, opening = noise.apply(target, -1.0)
        assert active or (joints is target and opening == -1.0)
        assert not active or joints is not target


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_a_burst_has_a_length_from_the_recipe(expert, seed):
    always = dataclasses.replace(RECIPE, burst_probability=1.0)
    noise, length = Perturbation(always, np.random.default_rng(seed), expert, 7), 0
    noise.maybe_begin()
    while noise.active:
        noise.apply(np.zeros(7), 0.0)
        length += 1
    assert RECIPE.burst_rows[0] <= length < RECIPE.burst_rows[1]


def test_labels_are_relative_to_the_measured_pose(dataset, shaken):
    first = int((dataset.arrays["episode"] == 0).sum())
    chunk, valid = dataset.arrays["chunk"][first:], dataset.arrays["valid"][first:]
    for look, at in enumerate(shaken["at"]):
        for row in np.flatnonzero(valid[look]):
            expected = shaken["target"][at + row] - shaken["joints"][look]
            np.testing.assert_allclose(chunk[look, row, :-1], expected, atol=1e-6)
            assert chunk[look, row, -1] == shaken["gripper_target"][at + row]


def episode_of(clean: list[bool], at: list[int]) -> dict:
    t = len(clean)
    return {
        "target": np.arange(7 * t, dtype=np.float32).reshape(t, 7), "gripper_target": np.zeros(t, np.float32),
        "clean": np.array(clean), "at": np.array(at, np.int32), "joints": np.zeros((len(at), 7), np.float32),
    }  # fmt: skip


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.data())
def test_rows_from_the_first_perturbed_one_on_and_after_the_end_do_not_count(clean, data):
    at = data.draw(st.lists(st.integers(0, len(clean) - 1), min_size=1, max_size=5))
    _, valid = _label(episode_of(clean, at), HORIZON)
    for look, start in enumerate(at):
        for row in range(HORIZON):
            assert valid[look, row] == (start + row < len(clean) and all(clean[start : start + row + 1]))


def test_every_observation_labels_something(dataset):
    assert dataset.arrays["valid"][:, 0].all()


def test_valid_chunks_are_standardised_by_the_datasets_constants(dataset):
    norm = dataset.normalisation()
    chunk = (dataset.arrays["chunk"] - norm.action_mean) / norm.action_std
    for row in range(HORIZON):
        rows = chunk[dataset.arrays["valid"][:, row], row]
        np.testing.assert_allclose(rows.mean(0), 0, atol=1e-3)
        assert rows.std(0).max() < 1.001


def test_constants_ignore_rows_that_do_not_count(dataset):
    before = dataset.normalisation()
    chunk = dataset.arrays["chunk"]
    kept = chunk.copy()
    try:
        chunk[~dataset.arrays["valid"]] = 1e6
        after = dataset.normalisation()
    finally:
        chunk[:] = kept
    for field in dataclasses.fields(before):
        np.testing.assert_array_equal(getattr(after, field.name), getattr(before, field.name))


def test_a_dataset_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="demonstrations"):
        Demonstrations([], VOCABULARY, HORIZON)


def test_making_demonstrations_again_keeps_what_is_there_and_makes_the_rest(tmp_path):
    kept, half = tmp_path / "button_000000.npz", tmp_path / "button_000001.partial.npz"
    kept.write_bytes(b"mine")
    half.write_bytes(b"from an interrupted run")
    assert generate(tmp_path, ("button",), 2, dataclasses.replace(RECIPE, burst_probability=0.0), workers=1) == 2
    assert kept.read_bytes() == b"mine"
    assert sorted(file.name for file in tmp_path.iterdir()) == [kept.name, "button_000001.npz", "recipe.json"]
    with np.load(tmp_path / "button_000001.npz") as episode:
        assert (str(episode["task"]), int(episode["seed"])) == ("button", 1)


def test_a_folder_holds_demonstrations_of_one_recipe(tmp_path):
    """Incident: `train demos --pilot` into a folder of scripted ones made nothing and said it had."""
    generate(tmp_path, (), 0, RECIPE, workers=1)
    generate(tmp_path, (), 0, dataclasses.replace(RECIPE, seed=5), workers=1)
    with pytest.raises(ConfigError, match=r"recipe\.burst_tool: 0\.5 is not valid; .* made with 0\."):
        generate(tmp_path, (), 0, dataclasses.replace(RECIPE, burst_tool=0.5), workers=1)


def test_unfinished_demonstrations_are_not_trained_on(tmp_path):
    for name in ("button_000000.npz", "button_000001.partial.npz"):
        np.savez(tmp_path / name, task="button", target=0)
    assert [file.name for file in demonstrations((str(tmp_path),))] == ["button_000000.npz"]


@given(st.integers(1, 4))
def test_per_task_limits_every_task_alike(tmp_path_factory, count):
    folder = tmp_path_factory.mktemp("many")
    for task, episodes in (("red_bin", 3), ("button", 5)):
        for seed in range(episodes):
            np.savez(folder / f"{task}_{seed:06d}.npz", task=task, target=0)
    found = [file.stem.rsplit("_", 1)[0] for file in demonstrations((str(folder),), count)]
    assert (found.count("red_bin"), found.count("button")) == (min(count, 3), count)


def train(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(arguments))


@pytest.mark.parametrize("tasks", [*HELD_OUT_TASKS, f"button,{HELD_OUT_TASKS[0]}"])
def test_held_out_tasks_are_refused_by_name(tmp_path, tasks):
    with pytest.raises(ConfigError, match=r"--tasks.*held out") as error:
        train("demos", "--out", str(tmp_path / "demos"), "--tasks", tasks, "--episodes", "1")
    assert tasks.split(",")[-1] in str(error.value)
    assert not (tmp_path / "demos").exists()


@pytest.mark.parametrize(("seed", "episodes"), [(-1, 1), (1_000_000, 1), (999_999, 2), (2_000_000, 1)])
def test_seeds_beyond_the_training_range_are_refused(tmp_path, seed, episodes):
    with pytest.raises(ConfigError, match="--seed"):
        train("demos", "--out", str(tmp_path), "--tasks", "button", "--seed", str(seed), "--episodes", str(episodes))


def test_an_unknown_task_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="juggle"):
        train("demos", "--out", str(tmp_path), "--tasks", "juggle", "--episodes", "1")


def test_a_run_that_exists_is_not_overwritten_without_resume(tmp_path):
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(ConfigError, match="--resume"):
        train("sft", "--demos", str(tmp_path), "--out", str(tmp_path))


def test_exporting_a_folder_without_a_run_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="--run"):
        train("export", "--run", str(tmp_path), "--out", str(tmp_path / "bundle"))
    assert not (tmp_path / "bundle").exists()
