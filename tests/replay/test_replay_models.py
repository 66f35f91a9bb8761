"""Models of a replay are those that were asked for, else those that the recording names."""

import hashlib

import numpy as np
import pytest
from scripted_bundle import write_release

from vla_mbpo.bringup import MANAGER
from vla_mbpo.core.errors import ConfigError
from vla_mbpo.failure.calibration import calibration_file
from vla_mbpo.nodes import qos
from vla_mbpo.nodes.player import SHADOWS, fed
from vla_mbpo.paths import bundle_dir
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.replay.models import Models, choose
from vla_mbpo.replay.said import Judgement, Proposal, Risk, Said
from vla_mbpo.replay.shadow import plan


def said(policy="", world_model="", bands="", k=3):
    """A look by models of these versions."""
    made = Said()
    if policy:
        made.sets[1] = Proposal(policy, np.zeros((k, 16, 7)), np.zeros((k, 16)), np.zeros(7))
    if world_model:
        made.verdicts[1] = Judgement(world_model, (), (), ())
    if bands:
        made.risks[1] = Risk(bands, True, 0.0, False)
    return made


def version(name):
    return Bundle.load(bundle_dir(name)).version


def bands_of(name):
    return f"{version('sft_full')}/{hashlib.sha256(calibration_file(name).read_bytes()).hexdigest()[:12]}"


def test_what_was_recorded_runs_where_it_is_here():
    found = choose(said(version("sft_few"), version("world_model"), bands_of("detector_full")), "")
    folders = [bundle_dir(name) for name in ("sft_few", "world_model", "detector_full")]
    assert [found.policy, found.world_model, found.detector] == [str(folder) for folder in folders]
    assert (found.bands, found.candidates, found.notes) == (str(calibration_file("detector_full")), 3, ())


def test_what_ran_of_a_release_is_found_in_its_folder(spec, tmp_path):
    release = write_release(tmp_path / "release", spec)
    found = choose(said(Bundle.load(release / "policy").version), str(release))
    assert found.policy == str(release / "policy")


def test_another_version_of_a_name_is_not_taken_for_it():
    with pytest.raises(ConfigError, match="sft_few@000000000000.*--bundle"):
        choose(said("sft_few@000000000000"), "")


def test_a_judge_that_is_not_here_does_not_run_and_that_is_said():
    found = choose(said(version("sft_few"), "world_model@000000000000", "sft_few@1/000000000000"), "")
    assert (found.world_model, found.detector) == ("", "")
    assert [("world_model@000000000000" in note, "000000000000" in note) for note in found.notes] == [
        (True, True),
        (False, True),
    ]


def test_what_was_asked_for_comes_first_and_none_is_nobody():
    found = choose(said(version("sft_few"), version("world_model")), "", "sft_full", "none", "detector_full")
    assert (found.policy, found.world_model, found.detector) == ("sft_full", "", "detector_full")


@pytest.mark.parametrize("asked", [{"policy": "no_such"}, {"policy": "none"}])
def test_an_unknown_bundle_and_nobody_at_all_are_errors(asked):
    with pytest.raises(ConfigError, match="no_such|that is to run"):
        choose(said(version("sft_few")), "", **asked)


def test_a_recording_without_a_policy_needs_one():
    with pytest.raises(ConfigError, match="--bundle"):
        choose(Said(), "")


def test_nothing_that_could_move_an_arm_is_started_or_fed():
    specs = plan("sim_panda", Models("sft_full", "world_model", "detector_full"))
    assert {spec.name for spec in specs} == {*SHADOWS, MANAGER}
    moving = (qos.APPROVED_CHUNK, qos.HEARTBEAT, qos.TRAJECTORY, qos.POSITION_STREAM, qos.GRIPPER, qos.TELEOP_COMMAND)
    stopping = (qos.ESTOP, qos.PENDANT, qos.JOY)
    for running in (tuple(SHADOWS), *((name,) for name in SHADOWS)):
        names = {topic.name for topic, _ in fed(running)}
        assert names and not names & {topic.name for topic in (*moving, *stopping)}


def test_what_one_node_says_is_not_fed_to_the_others():
    alone = {topic.name: count for topic, count in fed(("imagination", "failure_detector"))}
    assert alone[qos.ACTION_CHUNKS.name] == 2 and qos.VERDICT.name not in alone
    assert qos.ACTION_CHUNKS.name not in {topic.name for topic, _ in fed(("policy", "imagination"))}
