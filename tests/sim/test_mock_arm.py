import numpy as np
import pytest

from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.state import Trajectory
from vla_mbpo.paths import robot_dir
from vla_mbpo.sim.mock import MockArm

TICK = 10_000_000


@pytest.fixture
def ur5e():
    return RobotSpec.load(robot_dir("ur5e"))


def to(spec, goal, seconds):
    return Trajectory(0, spec.joints, (round(seconds * 1e9),), goal[None], np.zeros_like(goal)[None])


def run(arm, seconds):
    fastest = np.zeros(len(arm.state().positions))
    for _ in range(round(seconds * 1e9 / TICK)):
        arm.advance(arm.time + TICK)
        fastest = np.maximum(fastest, np.abs(arm.state().velocities))
    return fastest


def test_it_goes_where_a_trajectory_leads_and_stays(ur5e):
    arm, goal = MockArm(ur5e, 1_000), ur5e.home + 0.2
    assert arm.accept(to(ur5e, goal, 0.5)) is None
    run(arm, 1.0)
    np.testing.assert_allclose(arm.state().positions, goal, atol=1e-9)
    assert not arm.state().velocities.any() and arm.held_back == 0


def test_no_joint_is_faster_than_its_limit_whatever_is_commanded(ur5e):
    arm, goal = MockArm(ur5e, 1_000), ur5e.home + 0.5
    assert arm.accept(to(ur5e, goal, 0.05)) is None
    assert (run(arm, 1.0) <= ur5e.velocity + 1e-9).all() and arm.held_back > 0


def test_wrong_names_and_positions_beyond_the_limits_are_rejected(ur5e):
    arm = MockArm(ur5e, 1_000)
    other = to(ur5e, ur5e.home, 0.5)
    named = Trajectory(0, ("elbow", *ur5e.joints[1:]), other.times, other.positions, other.velocities)
    assert "elbow" in arm.accept(named)
    assert "beyond its limit" in arm.accept(to(ur5e, ur5e.upper + 0.1, 0.5))
    run(arm, 0.5)
    np.testing.assert_array_equal(arm.state().positions, ur5e.home)


def test_the_gripper_moves_at_its_speed_and_refuses_what_it_cannot_do(ur5e):
    arm = MockArm(ur5e, 1_000)
    with pytest.raises(ValueError, match="gripper"):
        arm.command_gripper(1.0)
    arm.command_gripper(0.0)
    run(arm, 0.1)
    assert arm.state().gripper == pytest.approx(ur5e.gripper_range[1] - 0.1 * ur5e.gripper_speed)
