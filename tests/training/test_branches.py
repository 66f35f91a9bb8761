"""Branches: the same moment, tried several ways."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: `make setup-dev`")

from vla_mbpo.core.errors import ConfigError  # noqa: E402  (after the check that torch is there)
from vla_mbpo.eval.lockstep import Settings  # noqa: E402
from vla_mbpo.policy.runtime import PolicySession  # noqa: E402
from vla_mbpo.sim.robot import SimRobot  # noqa: E402
from vla_mbpo.sim.scene import Scene  # noqa: E402
from vla_mbpo.training.branches import BRANCHES, BranchedAttempt, expert_rows, follow  # noqa: E402
from vla_mbpo.training.rollouts import generate  # noqa: E402


@pytest.fixture
def robot(spec):
    made = SimRobot(spec, Scene.build(spec, "red_bin", 3))
    expert_rows(made, 30)
    return made


def test_a_branch_goes_where_the_original_would_have_gone(robot):
    """Else what is tried would say nothing about what is done."""
    branch = robot.branch()
    rows = expert_rows(branch, 20)
    follow(robot, rows)
    np.testing.assert_array_equal(robot.qpos, branch.qpos)
    assert robot.time == branch.time and robot.referee.events == branch.referee.events


def test_the_original_does_not_notice_its_branches(robot):
    before, time, events = robot.qpos, robot.time, list(robot.referee.events)
    branch = robot.branch()
    expert_rows(branch, 200, until_done=True)
    assert branch.referee.success and branch.time > time
    np.testing.assert_array_equal(robot.qpos, before)
    assert (robot.time, robot.referee.events, robot.referee.success) == (time, events, False)


def test_what_leads_nowhere_leaves_more_to_do(robot, spec):
    """The label that candidates are compared by."""
    idle = np.tile(np.append(robot.state().positions, 0.08), (16, 1))
    good = expert_rows(robot.branch(), 16)
    rest = []
    for chunk in (good, idle):
        branch = robot.branch()
        follow(branch, chunk)
        rest.append(len(expert_rows(branch, 200, until_done=True)))
    assert rest[1] - rest[0] >= 12


def test_what_is_done_leaves_no_rows_to_go(robot):
    """A chunk that finished the task ended a run of an hour: no rows could not be made an array."""
    expert_rows(robot, 200, until_done=True)
    assert robot.referee.success and expert_rows(robot.branch(), 10, until_done=True).shape == (0, 8)


def test_an_attempt_is_branched_at_its_chosen_looks(spec, tiny_bundle):
    attempt = BranchedAttempt(spec, PolicySession.load(tiny_bundle), "button", 4, Settings(timeout=10.0, gate=False))
    attempt.drive()
    made = attempt.arrays()
    m = len(attempt._chosen)
    assert made["chunks"].shape == (m, BRANCHES + 1, 16, 8) and made["to_go"].shape == (m, BRANCHES + 1)
    assert made["head"].shape[0] == made["joints"].shape[0] == m
    assert (made["to_go"] >= -1).all() and (made["cost"] >= 0).all()


def test_only_policies_can_be_branched(tmp_path):
    with pytest.raises(ConfigError, match="sources.*random"):
        generate(tmp_path, ("button",), {"random": 1}, 0, branched=True)
