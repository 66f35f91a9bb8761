"""Branches: the same moment, tried several ways."""

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: `make setup-dev`")

from vla_mbpo.cli import main  # noqa: E402
from vla_mbpo.core.errors import ConfigError  # noqa: E402  (after the check that torch is there)
from vla_mbpo.eval.lockstep import Settings  # noqa: E402
from vla_mbpo.gate.kinematics import Kinematics  # noqa: E402
from vla_mbpo.policy.runtime import Candidates, PolicySession  # noqa: E402
from vla_mbpo.sim.robot import SimRobot  # noqa: E402
from vla_mbpo.sim.scene import Scene  # noqa: E402
from vla_mbpo.training.branches import UNTRIED, BranchedAttempt, Wanderer, expert_rows, follow  # noqa: E402
from vla_mbpo.training.rollouts import Branching, generate  # noqa: E402


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


def test_an_attempt_is_branched_at_every_look_and_finished_at_some(spec, tiny_bundle):
    attempt = BranchedAttempt(spec, PolicySession.load(tiny_bundle), "button", 4, Settings(timeout=6.0, gate=False))
    attempt.drive()
    made = attempt.arrays()
    m, b = len(made["at"]), attempt.settings.k + 1
    assert made["chunks"].shape == (m, b, 16, 8) and made["to_go"].shape == made["hits"].shape == (m, b)
    tried = made["to_go"] != UNTRIED
    assert (tried.all(1) | ~tried.any(1)).all() and 0 < tried.any(1).sum() < m
    assert (made["to_go"][tried] >= -1).all() and (made["hits"] >= 0).all()
    assert len(made["set_point"]) > 16 * (m - 2) // 2  # and it is a rollout


def test_a_careful_attempt_executes_what_costs_nothing(spec, tiny_bundle):
    attempt = BranchedAttempt(spec, PolicySession.load(tiny_bundle), "button", 4, Settings(timeout=6.0, gate=False))
    attempt._look()
    attempt.branches[-1]["hits"] = np.array([1, 2, 0, 1, 1, 1, 0, 1, 0])
    for careful, order in ((True, [2, 6, 0, 3, 4, 5, 7, 1]), (False, list(range(8)))):
        attempt._careful = careful
        assert list(attempt._order(None, range(8))[0]) == order


def test_only_policies_can_be_branched(tmp_path):
    with pytest.raises(ConfigError, match="sources.*random"):
        generate(tmp_path, ("button",), {"random": 1}, 0, branching=Branching())


class Still:
    """A policy that wants to stay where it is."""

    def infer(self, observation, _instruction, _prefix, _grip, k, *_):
        rows = np.tile(observation.joints, (k, 16, 1))
        return Candidates(rows, np.full((k, 16), 0.04), np.zeros(3, np.float32))


def test_half_of_the_candidates_of_a_wanderer_go_astray_smoothly(spec):
    observation = SimpleNamespace(joints=spec.home)
    kinematics, ends = Kinematics(spec), []
    wanderer = Wanderer(Still(), spec, 0.02, 3)
    for _ in range(60):
        found = wanderer.infer(observation, "", np.zeros((3, 7)), np.zeros(3), 8)
        assert (found.positions[:4] == spec.home).all() and (found.gripper[:4] == 0.04).all()
        assert (found.positions[4:, :2] == spec.home).all()  # committed rows, but for the last
        assert np.abs(np.diff(found.positions, axis=1)).max() < 0.06
        kinematics.place(np.concatenate([spec.home[None], found.positions[4:, -1]]))
        ends.append(kinematics.tool[1:] - kinematics.tool[0])
        low, high = spec.gripper_range
        assert (found.gripper >= low).all() and (found.gripper <= high).all()
    assert np.concatenate(ends).std(0) == pytest.approx([0.02] * 3, rel=0.25)


def test_the_expert_goes_on_from_every_look_until_a_moment(spec, tiny_bundle):
    settings, how = Settings(timeout=1.5, gate=False), Branching(wander=0.02, finished=1.0, until=0.6, longest=30)
    attempt = BranchedAttempt(spec, PolicySession.load(tiny_bundle), "button", 4, settings, branching=how)
    attempt.drive()
    made = attempt.arrays()
    early = made["at"] * spec.row_period < how.until * 1e9
    assert early.any() and not early.all()
    assert ((made["to_go"] != UNTRIED).all(1) == early).all() and (made["to_go"] <= how.longest).all()


@pytest.mark.parametrize("wrong", [{"wander": 0.3}, {"finished": 1.1}, {"until": 0.0}, {"longest": 0}])
def test_branching_names_what_is_out_of_range(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Branching(**wrong)


def test_wandering_needs_branches(tmp_path, capsys):
    assert main(["train", "rollouts", "--out", str(tmp_path), "--episodes", "few=1", "--wander", "0.02"]) == 64
    assert "--wander" in capsys.readouterr().err
