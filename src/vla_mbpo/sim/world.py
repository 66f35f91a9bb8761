"""Where attempts are made: the robot in its scene, cameras, expert and ground truth, made anew for each attempt.

Whatever makes attempts (demonstrations, rollouts, evaluation in lockstep) is given a World, TABLETOP by default, and
knows of it only what SimRobot, SceneCamera and Expert offer. Its tasks: sim/instructions.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.arm.config import DriverConfig
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.gate.config import GateConfig
from vla_mbpo.policy.runtime import REPLAN_ROWS
from vla_mbpo.sim.cameras import SceneCamera
from vla_mbpo.sim.experts import Expert
from vla_mbpo.sim.robot import SimRobot
from vla_mbpo.sim.scene import Scene
from vla_mbpo.sim.tasks import COLOURS


@dataclass(frozen=True)
class World:
    """How an attempt comes to its parts. Functions that worker processes can import.

    Attributes:
        robot: (spec, task, seed) -> what SimRobot offers.
        camera: (robot, image size [px]) -> what SceneCamera offers: ``render(qpos, "head", "wrist")`` and ``close``.
        expert: robot -> what Expert offers.
        truth: robot -> what is known of the moment in training only, by name: ``points`` (9,), object, goal and tool
            position [m], and what else there is (training/tape.py).
        name: of what is not the tabletop, in the settings of an evaluation.
        waits: time stands still while a policy thinks.
        gate, driver: their thresholds there.
        replan_rows: rows that are driven of a chunk before the policy looks again.
    """

    robot: Callable[[RobotSpec, str, int], Any]
    camera: Callable[[Any, int], Any]
    expert: Callable[[Any], Any]
    truth: Callable[[Any], dict[str, NDArray[Any]]]
    name: str = ""
    waits: bool = False
    gate: GateConfig = GateConfig()
    driver: DriverConfig = DriverConfig()
    replan_rows: int = REPLAN_ROWS


def points_of(robot: SimRobot) -> NDArray[np.float64]:
    """Object, goal and tool position (9,) [m] of the running task, in the base frame."""
    task, layout, data = robot.scene.task, robot.scene.layout, robot.data
    tool = data.body(robot.spec.tool_link).xpos
    goal = robot.referee.cube(task.goal) if task.kind == "stack" else np.array([*getattr(layout, task.goal), 0.0])
    thing = goal.copy()
    if task.cube:
        thing = robot.referee.cube(task.cube)
    elif task.kind == "open":
        thing = data.geom("drawer_handle").xpos
    return np.concatenate([thing, goal, tool])


def _robot(spec: RobotSpec, task: str, seed: int) -> SimRobot:
    return SimRobot(spec, Scene.build(spec, task, seed))


def _camera(robot: SimRobot, size: int) -> SceneCamera:
    return SceneCamera(robot.scene, size)


def _truth(robot: SimRobot) -> dict[str, NDArray[Any]]:
    return {"cubes": np.stack([robot.referee.cube(colour) for colour in COLOURS]), "points": points_of(robot)}


TABLETOP = World(_robot, _camera, Expert, _truth)
