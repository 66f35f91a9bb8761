"""What counts as success, failure and cost: each provoked once."""

import numpy as np
import pytest

from vla_mbpo.core.state import Trajectory
from vla_mbpo.gate.ik import ToolIK
from vla_mbpo.sim.experts import Expert
from vla_mbpo.sim.layout import CUBE_HALF
from vla_mbpo.sim.referee import HOLD_TIME
from vla_mbpo.sim.robot import SimRobot
from vla_mbpo.sim.scene import Scene

MS = 1_000_000
FREE = (0.60, 0.02)  # a place on the table without anything on it in scene (button, 0)


def robot_in(spec, task: str, seed: int = 0) -> SimRobot:
    return SimRobot(spec, Scene.build(spec, task, seed))


def go(robot: SimRobot, q, seconds: float) -> None:
    """Move to joint positions in a straight line and wait half a second."""
    period = round(seconds * 1e9)
    assert robot.accept(Trajectory(0, robot.spec.joints, (period,), np.array(q)[None], np.zeros((0, 7)))) is None
    robot.advance(robot.time + period + 500 * MS)


def reach(robot: SimRobot, spot, seconds: float = 1.0) -> None:
    """Move the tool to ``spot`` [m]."""
    ik = ToolIK(robot.spec, robot.state().positions)
    go(robot, ik.solve(np.array(spot), iterations=40), seconds)


def play(robot: SimRobot, until) -> Expert:
    """Let the expert work until ``until()``."""
    expert = Expert(robot)
    for _ in range(300):
        if until():
            return expert
        target, opening = expert.row()
        robot.accept(Trajectory(0, robot.spec.joints, (robot.spec.row_period,), target[None], np.zeros((0, 7))))
        robot.command_gripper(opening)
        robot.advance(robot.time + robot.spec.row_period)
    raise AssertionError("the expert never got there")


def put(robot: SimRobot, colour: str, x: float, y: float, z: float) -> None:
    """Set a cube down upright and at rest."""
    joint = robot.data.joint(f"{colour}_cube")
    joint.qpos[:], joint.qvel[:] = [x, y, z, 1, 0, 0, 0], 0


def put_in_bin(robot: SimRobot) -> None:
    put(robot, "red", *robot.scene.layout.bin, 0.006 + CUBE_HALF)


def test_a_cube_let_go_in_the_air_is_one_drop(spec):
    robot = robot_in(spec, "red_bin")
    play(robot, lambda: robot.referee.held("red") and robot.referee.cube("red")[2] > 0.11)
    robot.command_gripper(0.08)
    robot.advance(robot.time + 1_500 * MS)
    assert robot.status().cost_events == ("drop",)


def test_a_cube_set_down_is_no_drop(spec):
    robot = robot_in(spec, "red_plate")
    play(robot, lambda: robot.referee.success)
    assert "drop" not in robot.status().cost_events


def test_pressing_on_the_table_is_one_table_hit(spec):
    robot = robot_in(spec, "button")
    robot.command_gripper(0.0)
    reach(robot, (*FREE, 0.06))
    assert robot.status().cost_events == ()
    reach(robot, (*FREE, -0.008))
    robot.advance(robot.time + 500 * MS)
    assert robot.status().cost_events.count("table_hit") == 1


def test_touching_the_table_again_is_another_table_hit(spec):
    robot = robot_in(spec, "button")
    robot.command_gripper(0.0)
    for height in (0.06, -0.008, 0.06, -0.008):
        reach(robot, (*FREE, height))
    assert robot.status().cost_events.count("table_hit") == 2


def test_leaving_the_workspace_is_one_workspace_exit(spec):
    robot = robot_in(spec, "button")
    go(robot, spec.home + np.array([1.35, 0, 0, 0, 0, 0, 0]), 2.0)
    robot.advance(robot.time + 500 * MS)
    assert robot.status().cost_events == ("workspace_exit",)


def test_pressing_hard_on_a_fixture_is_one_contact_force(spec):
    robot = robot_in(spec, "button")
    robot.command_gripper(0.0)
    x, y = robot.scene.layout.plate
    reach(robot, (x, y, 0.10))
    reach(robot, (x, y, -0.03))
    assert robot.status().cost_events == ("contact_force",)


def test_a_quiet_arm_costs_nothing(spec):
    robot = robot_in(spec, "stack")
    robot.advance(1_000 * MS)
    assert robot.status().cost_events == ()


def test_success_must_last(spec):
    robot = robot_in(spec, "red_bin")
    put_in_bin(robot)
    robot.advance(round(HOLD_TIME * 1e9))
    assert not robot.status().success
    robot.advance(round(HOLD_TIME * 1e9) + 30 * MS)
    assert robot.status().success


def test_an_interrupted_goal_starts_its_time_again(spec):
    robot = robot_in(spec, "red_bin")
    for _ in range(3):
        put_in_bin(robot)
        robot.advance(robot.time + 150 * MS)
        put(robot, "red", 0.40, 0.0, CUBE_HALF)
        robot.advance(robot.time + 20 * MS)
    assert not robot.status().success


def test_success_stays_when_the_goal_is_undone(spec):
    robot = robot_in(spec, "red_bin")
    put_in_bin(robot)
    robot.advance(300 * MS)
    put(robot, "red", 0.40, 0.0, CUBE_HALF)
    robot.advance(500 * MS)
    assert robot.status().success


def test_another_cube_in_the_bin_is_no_success(spec):
    robot = robot_in(spec, "red_bin")
    put(robot, "green", *robot.scene.layout.bin, 0.006 + CUBE_HALF)
    robot.advance(500 * MS)
    assert not robot.status().success


def test_a_cube_still_between_the_fingers_is_no_success(spec):
    robot = robot_in(spec, "red_bin")
    play(robot, lambda: robot.referee.held("red") and robot.referee.in_place(0.0))
    robot.advance(robot.time + 500 * MS)
    assert robot.referee.held("red")
    assert not robot.status().success


@pytest.mark.parametrize(("task", "on_red"), [("stack", True), ("stack", False)])
def test_stacked_means_red_on_green(spec, task, on_red):
    robot = robot_in(spec, task)
    low, high = ("red", "green") if on_red else ("green", "red")
    x, y, _ = robot.referee.cube(low)
    put(robot, low, x, y, CUBE_HALF)
    put(robot, high, x, y, 3 * CUBE_HALF)
    robot.advance(600 * MS)
    assert robot.status().success is not on_red


@pytest.mark.parametrize(("off", "success"), [(0.025, True), (0.035, False)])
def test_pushed_means_within_three_centimetres_of_the_mark(spec, off, success):
    robot = robot_in(spec, "push")
    x, y = robot.scene.layout.mark
    put(robot, "blue", x - off, y, CUBE_HALF)
    robot.advance(500 * MS)
    assert robot.status().success is success


def test_a_cube_beside_the_table_is_a_failure(spec):
    robot = robot_in(spec, "red_bin")
    assert not robot.status().failed
    put(robot, "red", 1.3, 0.0, 0.05)
    robot.advance(500 * MS)
    assert robot.status().failed
    assert not robot.status().success


def test_another_cube_beside_the_table_is_a_cost_but_no_failure(spec):
    robot = robot_in(spec, "red_bin")
    put(robot, "blue", 1.3, 0.0, 0.05)
    robot.advance(500 * MS)
    assert not robot.status().failed
    assert robot.status().cost_events == ("workspace_exit",)


def test_progress_stays_between_zero_and_one_and_ends_at_one(spec):
    robot = robot_in(spec, "drawer")
    seen = []

    def done() -> bool:
        seen.append(robot.status().progress)
        return robot.referee.success

    play(robot, done)
    assert all(0 <= value <= 1 for value in seen)
    assert seen[0] < 0.1
    assert seen[-1] == 1.0
