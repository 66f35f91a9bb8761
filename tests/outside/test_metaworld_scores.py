"""Comparisons of evaluations, from their result files alone. No simulator."""

import json

import numpy as np
import pytest

from benchmarks.metaworld.__main__ import main
from benchmarks.metaworld.commands import write_result
from benchmarks.metaworld.scores import attempts_of
from vla_mbpo.core.errors import ConfigError
from vla_mbpo.releases.decision import Result, compare


def result(folder, name, seed, **attempts):
    file = folder / f"{name}.json"
    file.write_text(json.dumps({"seed": seed}))
    write_result(file, {task.replace("_", "-"): text for task, text in attempts.items()})
    return str(file)


def test_the_files_of_all_seeds_are_paired_by_task_and_scene(tmp_path):
    before = [result(tmp_path, "a", 0, door_lock="0011", soccer="0000"), result(tmp_path, "b", 1000, door_lock="0000")]
    after = [result(tmp_path, "c", 0, soccer="0001", door_lock="1101"), result(tmp_path, "d", 1000, door_lock="1000")]
    assert main(["compare", "--of", *before, *after, "--json", str(tmp_path / "out.json")]) == 0
    found = json.loads((tmp_path / "out.json").read_text())["metrics"]
    assert (found["n"], found["won_and_lost"]) == (12, [4, 1])
    assert found["gain"][0] == pytest.approx(3 / 12, abs=1e-4)
    assert [gain[0] for gain in found["gain_of_each_seed"]] == pytest.approx([2 / 8, 1 / 4], abs=1e-4)


def test_a_file_without_attempts_is_named(tmp_path, capsys):
    """They had been in files beside it, which were lost with the machine: nothing could be paired any more."""
    (tmp_path / "a.json").write_text('{"seed": 0}')
    files = [str(tmp_path / "a.json"), result(tmp_path, "b", 0, soccer="1")]
    assert main(["compare", "--of", *files, "--json", str(tmp_path / "out.json")]) == 2
    assert "a.json" in capsys.readouterr().err


@pytest.mark.parametrize("seed", range(8))
def test_of_a_comparison_by_its_counts_all_but_the_scenes_is_as_it_was(seed):
    rng = np.random.default_rng(seed)
    ease = rng.uniform(0.0, 1.0, 4)
    sides = [
        {(f"t{t}", i): Result(bool(rng.random() < ease[t])) for t in range(4) for i in range(10)} for _ in range(2)
    ]
    was = compare(*sides)
    counted = {"won_and_lost": was.discordant, "tasks": was.tasks}
    found = compare(*attempts_of(counted, first=-40))
    assert (found.n, found.success, found.discordant) == (was.n, was.success, was.discordant)
    assert found.tasks == was.tasks
    assert found.gain == pytest.approx(was.gain, abs=0.03)
    with pytest.raises(ConfigError, match="won_and_lost"):
        attempts_of(counted | {"won_and_lost": (was.discordant[0] + 1, was.discordant[1])}, first=0)


def test_a_comparison_whose_attempts_are_lost_comes_in_by_its_counts(tmp_path):
    """Incident: the attempts of one seed of three were on a machine that was gone."""
    out = tmp_path / "out.json"
    every = [
        result(tmp_path, f"{side}{seed}", 1000 * seed, soccer=f"{bits:04b}")
        for side, values in (("a", (3, 5)), ("b", (12, 13)))
        for seed, bits in enumerate(values)
    ]
    assert main(["compare", "--of", *every, "--json", str(out)]) == 0
    at_once = json.loads(out.read_text())["metrics"]
    assert main(["compare", "--of", every[0], every[2], "--json", str(tmp_path / "earlier.json")]) == 0
    arguments = ["--of", every[1], every[3], "--earlier", str(tmp_path / "earlier.json"), "--json", str(out)]
    assert main(["compare", *arguments]) == 0
    found = json.loads(out.read_text())["metrics"]
    for name in ("n", "success_before", "success_after", "won_and_lost", "gain_of_each_seed", "tasks"):
        assert found[name] == at_once[name], name
