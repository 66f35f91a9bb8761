"""The protocols' stages: commands that exist, and scenes that do not meet. No simulator, nothing is run."""

import argparse
import subprocess
from dataclasses import asdict

import pytest

from benchmarks.metaworld import commands, plans
from benchmarks.metaworld.plans import HERE
from benchmarks.metaworld.recipes import Detector, Dream, Mt50, Vetting
from vla_mbpo.core.errors import ConfigError
from vla_mbpo.sim.tasks import TRAIN_SEEDS
from vla_mbpo.training import options


def parsers() -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """Of ``vla-mbpo train`` and of this package's own commands."""
    train, here = argparse.ArgumentParser(), argparse.ArgumentParser()
    options.declare(train.add_subparsers(dest="stage"))
    commands.declare(here.add_subparsers(dest="what"))
    return train, here


@pytest.fixture
def every(tmp_path):
    made = {
        "mt50": plans.mt50(Mt50(tmp_path / "mt50", cameras=1)),
        "dream": plans.dream_rl(Dream(tmp_path / "dream")),
        "vetting": plans.vetting(Vetting(tmp_path / "vetting", tmp_path / "dream")),
        "detector": plans.detector(Detector(tmp_path / "detector", str(tmp_path / "bundle"))),
    }
    train, here = parsers()
    return {
        name: [(s, here.parse_args(s.argv) if s.command == HERE else train.parse_args(s.argv[1:])) for s in stages]
        for name, stages in made.items()
    }


def test_all_stages_are_commands_that_exist_and_have_names_of_their_own(every):
    for stages in every.values():
        names = [stage.name for stage, _ in stages]
        assert len(set(names)) == len(names)


def test_one_camera_is_said_to_training_and_evaluation(every):
    said = {stage.name: args for stage, args in every["mt50"]}
    assert said["sft"].wrist is False and said["evaluate"].cameras == 1
    assert said["evaluate"].timeout == 6.25 and said["evaluate"].k == 1


def test_all_sides_of_dream_rl_are_tested_in_the_same_scenes_and_all_seeds_in_others(every):
    tests = {s.name: args.seed for s, args in every["dream"] if s.name.startswith("evaluate")}
    for side in ("dreamt", "control"):
        assert [tests[f"evaluate_{s}"] for s in range(3)] == [tests[f"evaluate_{side}_{s}"] for s in range(3)]
    assert len({tests[f"evaluate_{s}"] for s in range(3)}) == 3


def test_the_flow_has_noise_only_where_candidates_are_compared(every):
    noise = {name: {a.noise for s, a in every[name] if s.name.startswith("evaluate")} for name in ("mt50", "dream")}
    assert noise == {"mt50": {0.0}, "dream": {0.0}}
    assert [args.noise for stage, args in every["vetting"] if stage.name == "evaluate"] == [1.0]


def test_rollouts_of_all_stages_are_in_training_scenes_of_their_own(every):
    used: list[range] = []
    for _, args in every["dream"] + every["vetting"]:
        if getattr(args, "what", "") == "rollouts":
            count = sum(int(part.rpartition("=")[2]) for part in args.episodes.split(","))
            used.append(range(args.seed, args.seed + count * len(args.tasks.split(","))))
    assert len(used) == 5 and all(r.start in TRAIN_SEEDS and r[-1] in TRAIN_SEEDS for r in used)
    used.sort(key=lambda r: r.start)
    assert all(before.stop <= after.start for before, after in zip(used, used[1:], strict=False))


def test_dream_rl_sees_the_stated_trajectories_only(every):
    """50 + 150 + 30 per task for the world model, the 150 for dream RL, and no branches."""
    said = {stage.name: args for stage, args in every["dream"]}
    data = [name.rpartition("/")[2] for name in said["world_model_1"].data]
    assert data == ["expert", "random", "policy"] and not said["world_model_1"].branches
    assert [name.rpartition("/")[2] for name in said["dreams_1"].data] == ["policy"]
    assert said["world_model_1"].eyes.endswith("seed1/more")
    more = {folder.rpartition("/")[2] for folder in (*said["more_1"].demos, *said["more_1"].watched)}
    assert more == {"demos", "random", "policy"}
    counts = {name: said[name].episodes for name in ("expert", "random", "rollouts_1")}
    assert counts["expert"] == 50 and counts["random"] == "random=30" and counts["rollouts_1"].endswith("=150")


def test_the_costs_that_there_are_not_have_no_weight(every):
    said = {stage.name: args for stage, args in every["dream"]}
    for name in ("lessons_0", "dreams_0"):
        assert "multiplier=0" in said[name].set.split(",")


def test_recipes_are_plain_values(tmp_path):
    """They are compared with what stands in progress.json."""
    assert all(isinstance(v, int | float | str) for k, v in asdict(Dream(tmp_path)).items() if k != "out")


def test_policies_that_are_there_are_exported_instead_of_cloned(tmp_path):
    stages = {stage.name: stage for stage in plans.dream_rl(Dream(tmp_path, seeds=2, cloned="run_a,run_b"))}
    assert not any(name.startswith("sft") for name in stages)
    given = [stages[f"export_{seed}"].argv for seed in range(2)]
    assert [argv[argv.index("--run") + 1] for argv in given] == ["run_a", "run_b"]
    assert given[1][given[1].index("--out") + 1] == str(tmp_path / "seed1" / "cloned")
    with pytest.raises(ConfigError, match="--cloned"):
        plans.dream_rl(Dream(tmp_path, cloned="run_a"))


def test_options_are_spelled_with_hyphens():
    """``detector --world-model`` was refused: the option was called --world_model."""
    said = subprocess.run([*HERE, "detector", "--help"], capture_output=True, text=True, check=True).stdout
    assert "--world-model" in said
