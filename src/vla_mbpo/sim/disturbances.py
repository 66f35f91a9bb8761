"""Things that go wrong on a table, so that a failure detector has something to notice. Simulator only.

moved_object      the task's cube is somewhere else, all of a sudden
hidden_object     the cameras do not see the task's object any more
slipped_grasp     the cube slips out of the fingers when it has been lifted
wrong_instruction the policy is told another task than the one that is judged
camera_bump       the head camera is knocked aside
lighting          most of the light goes off, or much comes on
"""

import mujoco
import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.errors import require
from vla_mbpo.sim.layout import CUBE_HALF
from vla_mbpo.sim.robot import SimRobot
from vla_mbpo.sim.tasks import TASKS, TRAINING_TASKS, Task

KINDS = ("moved_object", "hidden_object", "slipped_grasp", "wrong_instruction", "camera_bump", "lighting")
MOMENT = (0.5, 3.5)  # s; when it happens, but for a grasp that slips
AWAY = (0.06, 0.11)  # m that an object is moved
REACH = ((0.32, 0.60), (-0.16, 0.16))  # x, y [m] where it may come to lie
LIFTED, SLIP = 0.06, 0.055  # m above the table; m sideways out of the fingers
BUMP, TURN = 0.035, 0.07  # m, rad of the head camera
DARK, BRIGHT = (0.15, 0.40), (1.8, 2.6)  # factors of the light


def applicable(task: Task) -> tuple[str, ...]:
    """The kinds that can happen in ``task``."""
    needs = {"moved_object": bool(task.cube), "slipped_grasp": task.kind in ("place", "stack")}
    return tuple(kind for kind in KINDS if needs.get(kind, True))


class Disturbance:
    """One kind in one attempt. Call ``update`` between steps of the simulation, in its thread.

    What only the cameras see is changed in the scene's model, which physics shares but does not read there.

    Attributes:
        kind: one of KINDS.
        instruction: what the policy is told.
        happened: time of the attempt at which it happened [s]; None: not yet.
    """

    def __init__(self, kind: str, robot: SimRobot, seed: int) -> None:
        """``seed``: of when and how. ConfigError if the kind cannot happen in this task."""
        task = robot.scene.task
        kinds = applicable(task)
        require(kind in kinds, "disturbance", kind, f"in {task.name}: {', '.join(kinds)}")
        self.kind, self._robot, self._rng = kind, robot, np.random.default_rng([seed, 21])
        self._moment = float(self._rng.uniform(*MOMENT))
        self.happened: float | None = None
        self.instruction = robot.scene.instruction
        if kind == "wrong_instruction":
            others = [name for name in TRAINING_TASKS if name != task.name]
            self.instruction, self.happened = TASKS[str(self._rng.choice(others))].instruction, 0.0

    @classmethod
    def draw(cls, kind: str, robot: SimRobot, seed: int) -> "Disturbance":
        """``kind``, or for "any" one that can happen in this task, drawn from ``seed``."""
        if kind == "any":
            kind = str(np.random.default_rng([seed, 20]).choice(applicable(robot.scene.task)))
        return cls(kind, robot, seed)

    def update(self) -> None:
        """Let it happen when its moment has come."""
        now = self._robot.data.time
        if self.happened is None and (self.kind == "slipped_grasp" or now >= self._moment):
            if getattr(self, f"_{self.kind}")():
                self.happened = now

    def _moved_object(self) -> bool:
        robot, colour = self._robot, self._robot.scene.task.cube
        if robot.referee.touch.get(f"{colour}_cube"):  # not out of somebody's fingers
            return False
        place = robot.referee.cube(colour).copy()
        taken = [robot.referee.cube(other)[:2] for other in robot.scene.layout.cubes if other != colour]
        for _ in range(50):
            angle, distance = self._rng.uniform(0, 2 * np.pi), self._rng.uniform(*AWAY)
            spot = place[:2] + distance * np.array([np.cos(angle), np.sin(angle)])
            inside = all(low <= x <= high for x, (low, high) in zip(spot, REACH, strict=True))
            if inside and all(np.hypot(*(spot - other)) > 3 * CUBE_HALF for other in taken):
                self._put(colour, np.array([*spot, CUBE_HALF]))
                return True
        return False

    def _slipped_grasp(self) -> bool:
        robot, colour = self._robot, self._robot.scene.task.cube
        cube = robot.referee.cube(colour)
        if not robot.referee.held(colour) or cube[2] < CUBE_HALF + LIFTED:
            return False
        side = self._rng.choice([-1.0, 1.0]) * SLIP
        self._put(colour, cube + np.array([side, 0.0, -0.01]))
        return True

    def _hidden_object(self) -> bool:
        task, model = self._robot.scene.task, self._robot.scene.model
        body = f"{task.cube}_cube" if task.cube else {"press": "button_cap", "open": "drawer"}[task.kind]
        model.geom_rgba[model.geom_bodyid == model.body(body).id, 3] = 0.0
        return True

    def _camera_bump(self) -> bool:
        model = self._robot.scene.model
        camera, turn = model.camera("head").id, self._direction() * TURN
        change, before = np.zeros(4), model.cam_quat[camera].copy()
        mujoco.mju_axisAngle2Quat(change, turn / TURN, TURN)
        mujoco.mju_mulQuat(model.cam_quat[camera], change, before)
        model.cam_pos[camera] += self._direction() * BUMP
        return True

    def _lighting(self) -> bool:
        model = self._robot.scene.model
        factor = self._rng.uniform(*(DARK if self._rng.random() < 0.5 else BRIGHT))
        model.light_diffuse[:] *= factor
        model.light_ambient[:] *= factor
        return True

    def _direction(self) -> NDArray[np.float64]:
        found = self._rng.standard_normal(3)
        return found / np.linalg.norm(found)

    def _put(self, colour: str, place: NDArray[np.float64]) -> None:
        """The cube lies at ``place`` [m], at rest."""
        joint = self._robot.data.joint(f"{colour}_cube")
        joint.qpos[:3], joint.qvel[:] = place, 0.0
