"""Recorded attempts and rollouts are read through one door: what they hold, what is passed over, what is a person's."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from made_up import noise_attempts
from recordings import CLOSED, OPEN, POLICY, Attempt, K, plan, relabel, set_point
from vla_mbpo_msgs.msg import CandidateVerdict

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.failure.attempts import read as as_watched
from vla_mbpo.paths import robot_dir
from vla_mbpo.policy.vocabulary import Vocabulary
from vla_mbpo.record import reading
from vla_mbpo.sim.tasks import CALIBRATION_SEEDS, HELD_OUT_TASKS, TASKS, TEST_SEED_BASE
from vla_mbpo.training import autoencoder, detector, live
from vla_mbpo.training.autoencoder import AutoencoderRecipe
from vla_mbpo.training.detector import DetectorRecipe
from vla_mbpo.training.episodes import check_scenes, find, rollout_files, to_learn_from
from vla_mbpo.training.examples import chosen
from vla_mbpo.training.oversight import success_row
from vla_mbpo.training.rollout_data import Rollouts
from vla_mbpo.training.sft import demonstrations

pytestmark = pytest.mark.usefixtures("interfaces")
INSTRUCTION = TASKS["button"].instruction
WORDS = Vocabulary.of([task.instruction for task in TASKS.values()])
UNKNOWN, SAFE = CandidateVerdict.UNKNOWN, CandidateVerdict.SAFE
RISKY, UNSAFE = CandidateVerdict.RISKY, CandidateVerdict.UNSAFE


def arrays(file):
    with np.load(file) as episode:
        return {name: episode[name] for name in episode.files}


def taken(attempt, folder):
    """The only rollout of the only recording in ``folder``."""
    attempt.record(folder)
    return arrays(*find([folder]).files)


@pytest.fixture(scope="module")
def plainly(spec, tmp_path_factory):
    """An attempt of 64 rows that goes well after row 40; the arm moves evenly."""
    return taken(Attempt(spec, success=40), tmp_path_factory.mktemp("recorded"))


def test_rows_are_the_set_points_at_their_ends(spec, plainly):
    np.testing.assert_allclose(plainly["set_point"], set_point(spec, 0.05 * np.arange(1, 65)), atol=1e-5)


def test_the_opening_is_the_last_that_was_commanded(plainly):
    np.testing.assert_allclose(plainly["opening"], np.where(np.arange(1, 65) * 0.05 < 1.0, OPEN, CLOSED), atol=1e-6)


def test_observations_are_those_of_their_look(spec, plainly):
    at = plainly["at"]
    np.testing.assert_array_equal(at, np.arange(0, 64, 8))
    np.testing.assert_allclose(plainly["joints"], set_point(spec, 0.05 * at), atol=1e-5)
    for view in ("head", "wrist"):
        np.testing.assert_array_equal(plainly[view][:, 0, 0, 0], at)


def test_candidates_and_features_are_those_of_their_look(spec, plainly):
    for look in range(8):
        for candidate in range(K):
            positions, opening = plan(spec, look, candidate)
            np.testing.assert_allclose(plainly["candidates"][look, candidate, :, :7], positions, atol=1e-5)
            np.testing.assert_allclose(plainly["candidates"][look, candidate, :, 7], opening, atol=1e-6)
    np.testing.assert_array_equal(plainly["features"], np.tile(np.arange(1.0, 9.0)[:, None], 4))


def test_the_outcome_is_that_of_this_attempt_and_not_of_the_one_before(plainly):
    """The second before an attempt is recorded, too."""
    assert (plainly["success_row"], plainly["failed"], plainly["aborted"]) == (40, False, False)
    np.testing.assert_array_equal(np.flatnonzero(plainly["cost"]), [20])
    assert (str(plainly["task"]), str(plainly["policy"]), str(plainly["source"])) == ("button", POLICY, "live")


def test_what_went_wrong_before_an_attempt_is_not_charged_to_it(spec, tmp_path):
    """A scene lists its events until it is reset; those of the attempt before were all in the first row."""
    made = taken(Attempt(spec, success=40, earlier=2), tmp_path)
    np.testing.assert_array_equal(np.flatnonzero(made["cost"]), [20])
    assert made["cost"].sum() == 1 and made["events"].tolist() == ["hit"]


def test_an_attempt_in_which_nobody_intervened_has_none_of_it(plainly):
    assert not plainly["vetoed"].any() and not plainly["alarm"].any() and not plainly["human"].any()
    shapes = [plainly[name].shape for name in ("vetoed", "alarm", "human")]
    assert shapes == [(8, K), (8,), (64,)]


def test_a_look_that_is_late_keeps_its_candidates(spec, tmp_path):
    """A picture is lost, and all later looks are a row beside the grid that began with the first."""
    made = taken(Attempt(spec, looks=[0, 8, 17, 25, 33]), tmp_path)
    np.testing.assert_array_equal(made["at"], [0, 8, 17, 25, 33, 41, 49, 57])
    np.testing.assert_array_equal(made["features"][:5, 0], [1, 2, 3, 4, 5])


def test_looks_at_which_the_policy_was_not_asked_have_no_candidates(spec, tmp_path):
    made = taken(Attempt(spec, looks=[0, 8, 48]), tmp_path)
    asked = np.isfinite(made["candidates"]).all((1, 2, 3))
    np.testing.assert_array_equal(made["at"][asked], [0, 8, 48])
    np.testing.assert_array_equal(made["at"], [0, 8, 16, 24, 32, 40, 48, 56])


def test_candidates_that_the_gate_refused_are_vetoed_at_their_look(spec, tmp_path):
    attempt = Attempt(spec)
    attempt.decide(2, 0, "reach")
    attempt.decide(2, 1)
    attempt.decide(5, 1, "imagination")
    np.testing.assert_array_equal(np.argwhere(taken(attempt, tmp_path)["vetoed"]), [[2, 0], [5, 1]])


def test_candidates_that_the_imagination_finds_unsafe_are_vetoed(spec, tmp_path):
    """The gate stops at the first candidate that passes, and says nothing about the others."""
    attempt = Attempt(spec)
    attempt.imagine(3, (RISKY, UNSAFE))
    attempt.imagine(4, (SAFE, SAFE))
    np.testing.assert_array_equal(np.argwhere(taken(attempt, tmp_path)["vetoed"]), [[3, 1]])


@pytest.mark.parametrize("check", ["mode", "order", "vetting", "failure_detector", "age", "servo_lag"])
def test_a_set_that_was_not_looked_at_vetoes_no_candidate(spec, tmp_path, check):
    """Incident: chunks of a busy machine, refused for their age, were learned from as bad ones."""
    attempt = Attempt(spec)
    attempt.decide(2, 0, check)
    assert not taken(attempt, tmp_path)["vetoed"].any()


def test_a_candidate_of_which_the_imagination_knew_nothing_is_not_vetoed(spec, tmp_path):
    attempt = Attempt(spec)
    attempt.decide(2, 0, "imagination", UNKNOWN)
    assert not taken(attempt, tmp_path)["vetoed"].any()


def test_an_alarm_is_at_the_look_at_which_it_was_raised(spec, tmp_path):
    attempt = Attempt(spec)
    for look, alarm in enumerate([False, False, True, True, True, False, False, True]):
        attempt.risk(look, alarm)
    np.testing.assert_array_equal(np.flatnonzero(taken(attempt, tmp_path)["alarm"]), [2, 7])


def test_a_person_is_in_command_from_the_takeover_until_autonomy_is_engaged(spec, tmp_path):
    attempt = Attempt(spec)
    attempt.takeover(20.5, 36.5)
    np.testing.assert_array_equal(np.flatnonzero(taken(attempt, tmp_path)["human"]), np.arange(20, 37))


@pytest.mark.parametrize(
    ("outcome", "told", "row"), [("succeeded", 40, 40), ("succeeded", -1, 63), ("failed", 40, -1), ("aborted", 40, -1)]
)
def test_the_label_says_how_an_attempt_ended(outcome, told, row):
    """A person may have corrected it."""
    assert success_row(outcome, told, 64) == row


def test_real_scenes_are_all_different(spec, tmp_path):
    """Scenes are held out by their seed."""
    seeds = [int(taken(Attempt(spec), tmp_path / name)["seed"]) for name in "ab"]
    assert seeds == [int(arrays(file)["seed"]) for file in find([tmp_path / "a", tmp_path / "b"]).files]
    assert int(taken(Attempt(spec, seed=7), tmp_path / "simulated")["seed"]) == 7
    assert all(to_learn_from("live", seed) and seed >= TEST_SEED_BASE for seed in seeds)


def test_the_world_model_reads_it_as_any_rollout(spec, tmp_path, plainly):
    np.savez(tmp_path / "one.npz", **plainly)
    data = Rollouts([tmp_path / "one.npz"], spec, WORDS)
    assert len(data) == 8 and data.facts[0]["success_row"] == 40 and not data.placed.any()
    assert data.unaided.all() and data.labelled[:6, 0, 2].all()


def test_nothing_in_it_is_pickled(plainly):
    assert not [name for name, value in plainly.items() if value.dtype == object]


def test_rollouts_and_recordings_are_found_in_one_folder(spec, tmp_path):
    noise_attempts(tmp_path, 2, 32, 16)
    folder = Attempt(spec).record(tmp_path)
    assert find([tmp_path]).files == (
        tmp_path / "test_button_0.npz", tmp_path / "test_button_1.npz", folder / f"{folder.name}.npz",
    )  # fmt: skip


def test_one_recording_is_a_folder_too(spec, tmp_path):
    folder = Attempt(spec).record(tmp_path)
    assert find([folder]).files == find([tmp_path]).files and len(find([folder]).files) == 1


def test_files_that_are_being_written_are_not_found(tmp_path):
    (tmp_path / "x.1234.partial.npz").touch()
    assert find([tmp_path]).files == ()


def test_a_recording_is_converted_once(spec, tmp_path, monkeypatch):
    Attempt(spec).record(tmp_path)
    first = find([tmp_path])
    monkeypatch.setattr(live, "attempt", None)
    assert find([tmp_path]) == first and not list(tmp_path.rglob("*.partial.npz"))


def test_a_recording_that_was_labelled_anew_is_converted_again(spec, tmp_path):
    folder = Attempt(spec).record(tmp_path)
    (file,) = find([tmp_path]).files
    assert arrays(file)["success_row"] == -1
    relabel(folder, outcome="succeeded")
    (file,) = find([tmp_path]).files
    assert arrays(file)["success_row"] == 63


def test_a_rollout_that_is_damaged_is_made_again(spec, tmp_path):
    Attempt(spec).record(tmp_path)
    (file,) = find([tmp_path]).files
    file.write_bytes(file.read_bytes()[:1000])
    assert find([tmp_path]).files == (file,) and len(arrays(file)["at"]) == 8


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"state": "bad", "reasons": ["no message of /joint_states"]}, "no message of /joint_states"),
        ({"state": "recording"}, "recording"),
        ({"kind": "manual"}, "manual"),
        ({"kind": "saved"}, "saved"),
        ({"outcome": ""}, "outcome"),
        ({"instruction": "make some tea"}, "make some tea"),
        ({"instruction": TASKS[HELD_OUT_TASKS[0]].instruction}, "held out"),
        ({"format": 2}, "format"),
        ({"bag": "elsewhere.mcap"}, "elsewhere.mcap"),
    ],
)
def test_what_is_no_attempt_to_learn_from_is_passed_over_and_it_is_said_why(spec, tmp_path, changed, why):
    folder = Attempt(spec).record(tmp_path)
    relabel(folder, **changed)
    found = find([tmp_path])
    assert not found.files and why in found.passed_over[str(folder)]


@pytest.fixture
def own(tmp_path):
    """The folder of a robot with tasks of its own."""
    folder = tmp_path / "own"
    shutil.copytree(robot_dir("sim_panda"), folder)
    names = {"tea": {"instruction": "make some tea"}, "cake": {"instruction": "bake a cake", "held_out": True}}
    (folder / "tasks.yaml").write_text(json.dumps(names))  # JSON is YAML
    return str(folder)


def test_a_robots_own_tasks_are_examples_by_the_words_that_were_said(spec, own, tmp_path):
    """Only the tabletop's ten instructions were taken, so a real arm's recordings taught nothing."""
    Attempt(spec, success=40, instruction="Make some tea").record(tmp_path / "recorded")
    files = find([tmp_path / "recorded"], own).files
    assert demonstrations((str(tmp_path / "recorded"),), robot=own) == list(files)
    assert (arrays(*files)["task"], arrays(*files)["instruction"]) == ("tea", "Make some tea")


@pytest.mark.parametrize(("said", "why"), [("bake a cake", "held out"), (INSTRUCTION, "2 tasks; tasks.yaml")])
def test_a_robots_own_tasks_are_all_that_is_learned_of_it(spec, own, tmp_path, said, why):
    folder = Attempt(spec, success=40, instruction=said).record(tmp_path / "recorded")
    found = find([tmp_path / "recorded"], own)
    assert not found.files and why in found.passed_over[str(folder)]


def test_a_task_that_gets_another_name_is_converted_again(spec, own, tmp_path):
    Attempt(spec, success=40, instruction="make some tea").record(tmp_path / "recorded")
    find([tmp_path / "recorded"], own)
    (Path(own) / "tasks.yaml").write_text("brew: {instruction: make some tea}\n")
    assert arrays(*find([tmp_path / "recorded"], own).files)["task"] == "brew"


def test_an_attempt_of_another_robot_is_passed_over(spec, tmp_path):
    folder = Attempt(spec).record(tmp_path)
    found = find([tmp_path], "ur5e")
    assert not found.files and "ur5e" in found.passed_over[str(folder)]


def test_a_scene_to_test_with_is_passed_over(spec, tmp_path):
    folder = Attempt(spec, seed=TEST_SEED_BASE + 3).record(tmp_path)
    assert "seed" in find([tmp_path]).passed_over[str(folder)]


def test_a_scene_to_calibrate_with_is_read_and_not_learned_from(spec, tmp_path):
    """Detectors are calibrated in recordings of such scenes; policies learned from them, and were promoted in them."""
    Attempt(spec, seed=CALIBRATION_SEEDS.start, success=40).record(tmp_path)
    files = find([tmp_path]).files
    assert len(files) == 1 and as_watched(files[0]) is not None
    assert chosen(files) == []
    with pytest.raises(ConfigError, match="1000000"):
        check_scenes(Rollouts(list(files), spec, WORDS).facts)


def test_no_training_learns_from_scenes_to_calibrate_with(spec, tmp_path):
    """Autoencoders and detectors did."""
    folder = Attempt(spec, seed=CALIBRATION_SEEDS.start, success=40).record(tmp_path)
    watched = as_watched(*find([folder]).files)
    with pytest.raises(ConfigError, match="1000000"):
        detector.Trainer(DetectorRecipe((str(folder),), POLICY, (watched.task,)), [watched], tmp_path / "detector")
    with pytest.raises(ConfigError, match="1000000"):
        autoencoder.Trainer(AutoencoderRecipe((str(folder),)), tmp_path / "autoencoder")


def test_an_attempt_without_the_policy_is_passed_over(spec, tmp_path):
    folder = Attempt(spec, looks=[]).record(tmp_path)
    assert "chunk set" in find([tmp_path]).passed_over[str(folder)]


def test_a_damaged_recording_is_passed_over_and_the_others_are_read(spec, tmp_path):
    damaged, whole = Attempt(spec).record(tmp_path), Attempt(spec).record(tmp_path)
    (bag,) = damaged.glob("*.mcap")
    content = bytearray(bag.read_bytes())
    content[2000:60000] = bytes(58000)
    bag.write_bytes(content)
    found = find([tmp_path])
    assert found.files == (whole / f"{whole.name}.npz",) and list(found.passed_over) == [str(damaged)]


def test_messages_of_other_definitions_are_not_read_as_if_they_were_ours(spec, tmp_path, monkeypatch):
    folder = Attempt(spec).record(tmp_path)
    monkeypatch.setattr(reading, "definition", lambda kind, share: "float64 something_else\n")
    assert "message type" in find([tmp_path]).passed_over[str(folder)]


def test_what_is_passed_over_is_said_in_a_line_each(spec, tmp_path, capsys):
    for kind in ("manual", "saved"):
        relabel(Attempt(spec).record(tmp_path), kind=kind)
    assert rollout_files([tmp_path]) == []
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all("passed over" in line for line in lines)


def test_a_folder_that_a_rollout_cannot_be_kept_in_is_an_error_that_names_it(spec, tmp_path):
    folder = Attempt(spec).record(tmp_path)
    (folder / f"{folder.name}.npz").mkdir()
    with pytest.raises(ConfigError, match=folder.name):
        find([tmp_path])
    assert not list(folder.glob("*.partial.npz"))


@pytest.fixture(scope="module")
def helped(spec, tmp_path_factory):
    """File of an attempt with a person in command in rows 20 to 30; it goes well after row 50."""
    folder = tmp_path_factory.mktemp("helped")
    attempt = Attempt(spec, looks=[0, 8, 16, 32, 40, 48, 56], success=50)
    attempt.takeover(20.5, 30.5)
    attempt.record(folder)
    return find([folder]).files[0]


def test_looks_up_to_the_end_of_a_takeover_are_not_the_policys(spec, helped):
    data = Rollouts([helped], spec, WORDS)
    np.testing.assert_array_equal(data.at[data.unaided], [32, 40, 48, 56])


def test_what_a_person_made_the_arm_do_is_data_like_the_rest(spec, helped):
    """Pictures, motion, cost and what is seen to be done; not how it ended, which says nothing about the policy."""
    data = Rollouts([helped], spec, WORDS)
    before = data.at < 32
    assert data.seen[before, 0].all() and data.costed[before, 0].all() and data.labelled[before, 0, 0].all()
    assert not data.labelled[before, :, 1:].any() and data.labelled[data.at == 40, 0, 2].all()


def test_how_an_aborted_attempt_would_have_ended_is_no_label(spec, tmp_path):
    Attempt(spec, outcome="aborted").record(tmp_path)
    data = Rollouts(list(find([tmp_path]).files), spec, WORDS)
    assert data.facts[0]["aborted"] and not data.unaided.any() and not data.labelled[..., 1:].any()


def test_the_detector_learns_from_the_policys_last_turn(helped):
    attempt = as_watched(helped)
    assert [look.row for look in attempt.looks] == [32, 40, 48] and attempt.success


def watched(spec, folder, first=20.5, alarm=(), **options):
    attempt = Attempt(spec, **options)
    if first is not None:
        attempt.takeover(first, None)
    for look in range(len(attempt.looks)):
        attempt.risk(look, look in alarm)
    attempt.record(folder)
    return as_watched(find([folder]).files[0])


def test_a_policy_that_is_not_given_back_the_arm_had_failed(spec, tmp_path):
    attempt = watched(spec, tmp_path, success=50)
    assert [look.row for look in attempt.looks] == [0, 8, 16] and not attempt.success


def test_the_detector_does_not_learn_from_its_own_alarm(spec, tmp_path):
    assert watched(spec, tmp_path, alarm=(1, 2)) is None


def test_the_detector_does_not_learn_from_an_aborted_attempt(spec, tmp_path):
    assert watched(spec, tmp_path, first=None, outcome="aborted") is None
