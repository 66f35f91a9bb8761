"""What is in a folder of episodes, counted: the overview, the command that prints it, and reading it without ROS 2."""

import json
import shutil
import sys

import numpy as np
import pytest
from made_up import noise_attempts
from recordings import POLICY, Attempt, relabel

from vla_mbpo.cli import main
from vla_mbpo.core.errors import ConfigError
from vla_mbpo.training.episodes import find
from vla_mbpo.training.overview import overview

pytestmark = pytest.mark.usefixtures("interfaces")


@pytest.fixture(scope="module")
def mixed(spec, tmp_path_factory):
    """A folder with two rollouts, one of which fails, and four recordings, one of which cannot be used."""
    folder = noise_attempts(tmp_path_factory.mktemp("mixed"), 2, 48, 16)
    good, aborted, odd = Attempt(spec, success=40), Attempt(spec, outcome="aborted"), Attempt(spec)
    good.takeover(20.5, 30.5)
    good.decide(0, 1, "reach")
    good.decide(5, 0, "jerk")
    aborted.risk(6, True)
    for attempt in (good, aborted, Attempt(spec)):
        attempt.record(folder)
    relabel(odd.record(folder), kind="manual")
    return folder


def test_an_overview_counts_attempts(mixed):
    said = overview(find([mixed]).files)
    assert (said["attempts"], said["live"], said["tasks"]) == (5, 3, {"button": 5})
    names = ("success", "failure", "aborted", "veto", "alarm", "takeover")
    assert [said[name] for name in names] == [0.4, 0.4, 0.2, 0.2, 0.2, 0.2]
    assert said["policies"] == {POLICY: 3, "none": 2}


def test_an_overview_counts_looks_by_thirds_of_the_attempt(mixed):
    said = overview(find([mixed]).files)
    assert said["looks"] == {"first": 3 * 3 + 2 * 2, "middle": 3 * 3 + 2 * 2, "last": 3 * 2 + 2 * 2}
    assert said["looks_with_veto"] == {"first": 1, "middle": 1, "last": 0}
    assert said["looks_with_alarm"] == {"first": 0, "middle": 0, "last": 1}
    assert said["looks_of_a_person"] == {"first": 0, "middle": 1, "last": 0}


def test_an_overview_of_nothing_is_zeros():
    said = overview([])
    assert said["attempts"] == 0 and said["success"] == 0.0


def test_a_file_that_is_no_rollout_is_an_error_that_names_it(tmp_path):
    np.savez(tmp_path / "demo.npz", task="button")
    with pytest.raises(ConfigError, match=r"demo\.npz"):
        overview([tmp_path / "demo.npz"])


def test_the_command_prints_the_overview_and_what_is_passed_over(mixed, capsys):
    assert main(["train", "episodes", str(mixed)]) == 0
    said = capsys.readouterr().out
    assert "attempts 5, 3 of them recorded live" in said and "passed over" in said


def test_the_command_prints_json(mixed, capsys):
    assert main(["train", "episodes", str(mixed), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["attempts"] == 5 and len(said["passed_over"]) == 1


def test_the_command_refuses_what_is_no_folder(tmp_path, capsys):
    assert main(["train", "episodes", str(tmp_path / "nowhere")]) == 64
    assert "nowhere" in capsys.readouterr().err


def test_rollouts_are_read_where_ros_is_not_installed(mixed, monkeypatch, tmp_path):
    """Recordings that were read before, too: a machine that only trains gets the folders."""
    find([mixed])
    monkeypatch.setitem(sys.modules, "vla_mbpo.training.live", None)
    assert len(find([mixed]).files) == 5
    copy = shutil.copytree(mixed, tmp_path / "copy", ignore=shutil.ignore_patterns("2*.npz"))
    with pytest.raises(ConfigError, match="ROS 2"):
        find([copy])


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    """Incident (review): a mistyped one was left out without a word, and written down as learned from."""
    (tmp_path / "there").mkdir()
    noise_attempts(tmp_path / "there", 1, 40, 32)
    assert len(find([tmp_path / "there"]).files) == 1
    with pytest.raises(ConfigError, match="typo.* a folder"):
        find([tmp_path / "there", tmp_path / "typo"])
