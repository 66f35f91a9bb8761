"""The gate against an independent judge of contacts: a small run of benchmarks/gate_differential.py."""

import sys
from pathlib import Path

import numpy as np
import pytest
from gate_samples import spec

sys.path.append(str(Path(__file__).parents[2]))  # benchmarks is no installed package

from benchmarks.gate_differential import REACH, judge, summary  # noqa: E402
from benchmarks.gate_motions import motion, obstructed, poses, standing  # noqa: E402
from benchmarks.oracle import CHECKS, Oracle  # noqa: E402
from benchmarks.separation import Separation  # noqa: E402
from vla_mbpo.gate.gate import Gate  # noqa: E402
from vla_mbpo.gate.kinematics import Kinematics  # noqa: E402

POSES, CHUNKS = 1500, 150


@pytest.fixture(scope="module", params=["shipped", "obstructed"])
def robot(request):
    return obstructed(spec()) if request.param == "obstructed" else spec()


@pytest.fixture(scope="module")
def still(robot):
    rng, oracle = np.random.default_rng(11), Oracle(robot)
    return [standing(robot, pose) for pose in poses(robot, oracle, rng, POSES)]


@pytest.fixture(scope="module")
def moving(robot):
    rng, oracle, clear = np.random.default_rng(12), Oracle(robot), Oracle(robot, REACH)
    return [motion(robot, oracle, clear, rng) for _ in range(CHUNKS)]


def found(robot, gate, cases):
    oracle = Oracle(robot)
    return summary(robot, [judge(gate, oracle, case) for case in cases])


@pytest.fixture(scope="module")
def still_result(robot, still):
    return found(robot, Gate(robot), still)


@pytest.fixture(scope="module")
def moving_result(robot, moving):
    return found(robot, Gate(robot), moving)


def kinds(robot):
    """Checks that have something to find on this robot."""
    return [kind for kind in CHECKS if kind != "obstacles" or robot.obstacles]


def without(gate, kind):
    """The gate with a check taken out, past the rule that refuses such a set."""
    gate._stages = {
        action: [tuple(check for check in stage if check.name != kind) for stage in stages]
        for action, stages in gate._stages.items()
    }
    return gate


def test_no_pose_in_contact_passes(still_result):
    result = still_result
    assert result["unjudged"] == 0
    assert result["passed"] > 50
    assert result["passed_in_contact"] == 0
    assert result["missed"] == dict.fromkeys(CHECKS, 0), "each contact is to be named by its own check"


def test_no_chunk_passes_that_penetrates_deeper_than_the_margin(moving_result):
    result = moving_result
    assert result["unjudged"] == 0
    assert result["passed"] > 10
    assert result["passed_deeper_than_margin"] == 0
    assert result["missed_deeper_than_margin"] == dict.fromkeys(CHECKS, 0)


def test_the_oracle_finds_contacts_of_every_kind(robot, still_result, moving_result):
    for result, share in ((still_result, 0.05), (moving_result, 0.02)):
        assert result["in_contact"] > 0.2 * result["n"]
        for kind in kinds(robot):
            assert result["contacts"][kind] > share * result["n"], kind


def test_a_gate_without_a_check_is_caught(robot, still, moving):
    for kind in kinds(robot):
        for cases in (still[::10], moving[::2]):
            assert found(robot, without(Gate(robot), kind), cases)["missed_deeper_than_margin"][kind] > 0, kind


def test_a_gate_that_skips_a_pair_of_links_is_caught(robot, still, monkeypatch):
    kept = Kinematics._checked_pairs
    monkeypatch.setattr(
        Kinematics,
        "_checked_pairs",
        lambda self: [pair for pair in kept(self) if self.model.body(pair[1]).name != "panda_hand"],
    )
    assert found(robot, Gate(robot), still[::5])["missed_deeper_than_margin"]["self_collision"] > 0


def test_projection_and_contacts_agree_on_distances(robot):
    oracle, clear = Oracle(robot), Oracle(robot, REACH)
    separation, compared = Separation(oracle), 0
    for pose in np.random.default_rng(13).uniform(robot.lower, robot.upper, (100, 7)):
        contact = clear.contacts(pose).get("self_collision")
        if contact is not None and contact.distance > 0.001:
            assert separation.at_most(pose, "self_collision") == pytest.approx(contact.distance, abs=1e-3)
            compared += 1
    assert compared > 2
