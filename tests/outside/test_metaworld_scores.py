"""Comparisons of evaluations, from their result files alone. No simulator."""

import json

import pytest

from benchmarks.metaworld.__main__ import main
from benchmarks.metaworld.commands import write_result


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
