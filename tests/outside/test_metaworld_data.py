"""Demonstrations as rollouts: what the world model reads of them is what happened. No simulator."""

import numpy as np
import pytest

from benchmarks.metaworld.data import as_rollouts, done_row, rollout_of
from benchmarks.metaworld.tasks import INSTRUCTIONS, ROBOT
from vla_mbpo.core.errors import ConfigError
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.paths import robot_dir
from vla_mbpo.policy.vocabulary import Vocabulary
from vla_mbpo.training.dataset import Demonstrations
from vla_mbpo.training.demonstrations import AFTER_SUCCESS
from vla_mbpo.training.examples import chosen, read
from vla_mbpo.training.rollout_data import Rollouts

SPEC, WORDS = RobotSpec.load(robot_dir(ROBOT)), Vocabulary.of(list(INSTRUCTIONS.values()))


def demonstration(phase: int = 0, rows: int = 40) -> dict:
    """Looked at every second row, from ``phase`` on; the tool moves along x."""
    at = np.arange(phase, rows, 2, dtype=np.int32)
    x = np.linspace(0.0, 0.2, rows)
    target = np.stack([x, np.full(rows, 0.6), np.full(rows, 0.2)], 1).astype(np.float32)
    pictures = np.random.default_rng(0).integers(0, 255, (len(at), 16, 16, 3), dtype=np.uint8)
    return {
        "target": target, "gripper_target": np.linspace(1, 0, rows, dtype=np.float32), "clean": np.ones(rows, bool),
        "at": at, "head": pictures, "wrist": pictures[::-1], "joints": target[at] - np.float32([0.01, 0, 0]),
        "velocities": np.zeros((len(at), 3), np.float32), "gripper": np.ones(len(at), np.float32),
        "points": np.ones((len(at), 9), np.float32), "things": np.ones((len(at), 6), np.float32),
        "instruction": "reach the goal", "task": "reach", "seed": 3,
    }  # fmt: skip


@pytest.mark.parametrize("phase", [0, 1])
def test_a_demonstration_is_looked_at_every_eight_rows(phase):
    demo = demonstration(phase)
    made = rollout_of(demo)
    np.testing.assert_array_equal(made["at"], np.arange(0, 40 - phase, 8))
    np.testing.assert_array_equal(made["head"], demo["head"][::4])
    np.testing.assert_array_equal(made["set_point"], demo["target"][phase:])
    assert made["success_row"] + phase == done_row(demo) == 39 - AFTER_SUCCESS


def test_a_perturbed_one_is_refused():
    demo = demonstration()
    demo["clean"][7] = False
    with pytest.raises(ConfigError, match="perturbed"):
        rollout_of(demo)


def test_the_world_model_reads_them(tmp_path):
    (tmp_path / "demos").mkdir()
    np.savez(tmp_path / "demos" / "reach_000003.npz", **demonstration())
    assert as_rollouts(tmp_path / "demos", tmp_path / "rollouts", ("reach",), 1) == 1
    (file,) = (tmp_path / "rollouts").iterdir()
    data = Rollouts([file], SPEC, WORDS)
    assert data.facts[0] | {"source": "expert", "task": "reach", "success": True} == data.facts[0]
    np.testing.assert_array_equal(data.words[0], WORDS.encode("reach the goal"))
    assert data.proprio.shape == (5, 10)
    np.testing.assert_allclose(data.proprio[:, 7:], data.proprio[:, :3], atol=1e-6)  # the tool is where the joints are
    assert data.outcome[0, 0, 2] == 1.0 and not data.cost.any()


def test_an_attempt_in_this_world_that_went_well_is_an_example(tmp_path):
    """Of a task that the tabletop does not have; in test scenes it is none."""
    for seed in (3, 2_000_003):
        made = rollout_of(demonstration() | {"seed": seed}) | {"source": "cloned", "policy": "cloned@0"}
        np.savez(tmp_path / f"cloned_reach_{seed:07d}.npz", **made)
    (file,) = chosen(sorted(tmp_path.iterdir()))
    example = read(file)
    assert file.stem.endswith("0000003") and example["instruction"] == "reach the goal"
    assert example["things"].shape == (len(example["at"]), 6)


def test_policies_learn_from_them_with_one_camera_or_two(tmp_path):
    np.savez(tmp_path / "reach_000003.npz", **demonstration())
    both, one = (Demonstrations([tmp_path / "reach_000003.npz"], WORDS, 16, wrist) for wrist in (True, False))
    assert both.arrays["wrist"].any() and not one.arrays["wrist"].any() and one.arrays["head"].any()
    assert both.things == 3 and both.proprio.shape[1] == 7
    # What is learned is where the set point goes, seen from the measured tool.
    np.testing.assert_allclose(both.arrays["chunk"][0, 0, :3], [0.01, 0, 0], atol=1e-6)
