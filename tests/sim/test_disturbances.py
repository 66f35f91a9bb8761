import numpy as np
import pytest

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.sim.cameras import SceneCamera
from vla_mbpo.sim.disturbances import KINDS, MOMENT, Disturbance, applicable
from vla_mbpo.sim.experts import Expert
from vla_mbpo.sim.layout import CUBE_HALF
from vla_mbpo.sim.robot import SimRobot
from vla_mbpo.sim.scene import Scene
from vla_mbpo.sim.tasks import TASKS

LATE = round((MOMENT[1] + 0.1) * 1e9)  # ns


def arm(spec, task="red_bin", seed=300):
    return SimRobot(spec, Scene.build(spec, task, seed))


def looked(robot):
    camera = SceneCamera(robot.scene, 64)
    pictures = camera.render(robot.qpos, "head", "wrist")
    camera.close()
    return [picture.astype(int) for picture in pictures]


@pytest.mark.parametrize("kind", ["hidden_object", "camera_bump", "lighting"])
def test_what_only_the_cameras_see_changes_the_head_view_and_no_physics(spec, kind):
    robot = arm(spec)
    made = Disturbance(kind, robot, 1)
    before, still = looked(robot)[0], robot.branch()
    robot.advance(LATE)
    made.update()
    assert made.happened is not None
    assert np.abs(looked(robot)[0] - before).max() > 30
    still.advance(LATE)
    np.testing.assert_array_equal(robot.qpos, still.qpos)


def test_a_hidden_object_is_not_in_the_picture(spec):
    robot = arm(spec)
    red = looked(robot)[0]
    made = Disturbance("hidden_object", robot, 1)
    robot.advance(LATE)
    made.update()
    hidden = looked(robot)[0]
    reddish = [((p[..., 0] > 120) & (p[..., 1] < 60) & (p[..., 2] < 60)).sum() for p in (red, hidden)]
    assert reddish[0] > 5 and reddish[1] == 0


@pytest.mark.parametrize("seed", range(5))
def test_a_moved_object_lies_elsewhere_on_the_table(spec, seed):
    robot = arm(spec, seed=seed)
    made, before = Disturbance("moved_object", robot, seed), robot.referee.cube("red").copy()
    robot.advance(LATE)
    made.update()
    robot.advance(LATE + 300_000_000)
    after = robot.referee.cube("red")
    assert np.hypot(*(after - before)[:2]) > 0.04
    assert after[2] == pytest.approx(CUBE_HALF, abs=0.003)


def test_nothing_happens_before_its_moment(spec):
    robot = arm(spec)
    made = Disturbance("moved_object", robot, 1)
    robot.advance(round(0.9 * MOMENT[0] * 1e9))
    made.update()
    assert made.happened is None


def test_a_grasp_slips_only_when_the_cube_has_been_lifted(spec):
    robot = arm(spec)
    made, expert = Disturbance("slipped_grasp", robot, 1), Expert(robot)
    from vla_mbpo.eval.lockstep import expert_row

    while made.happened is None and robot.time < 12e9:
        expert_row(robot, expert)
        held, height = robot.referee.held("red"), robot.referee.cube("red")[2]
        made.update()
    assert made.happened is not None and held and height > CUBE_HALF + 0.06
    robot.advance(robot.time + 400_000_000)
    assert not robot.referee.held("red") and "drop" in robot.referee.events


def test_a_wrong_instruction_is_another_training_tasks(spec):
    made = Disturbance("wrong_instruction", arm(spec), 1)
    told = [task for task in TASKS.values() if task.instruction == made.instruction]
    assert len(told) == 1 and told[0].name != "red_bin" and not told[0].held_out


def test_the_same_seed_disturbs_alike(spec):
    drawn = [Disturbance.draw("any", arm(spec), seed).kind for seed in range(40)]
    assert drawn == [Disturbance.draw("any", arm(spec), seed).kind for seed in range(40)]
    assert set(drawn) == set(KINDS)


def test_only_what_can_happen_in_a_task_is_offered(spec):
    assert "slipped_grasp" not in applicable(TASKS["push"]) and "moved_object" not in applicable(TASKS["drawer"])
    with pytest.raises(ConfigError, match="moved_object.*drawer"):
        Disturbance("moved_object", arm(spec, "drawer"), 1)
