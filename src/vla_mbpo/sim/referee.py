"""Ground truth of an attempt: success, hopelessness, progress and cost events."""

import copy
from dataclasses import dataclass

import mujoco
import numpy as np

from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.sim.layout import CUBE_HALF
from vla_mbpo.sim.scene import BIN_HALF, BUTTON_TRAVEL, DRAWER_TRAVEL, PLATE_RADIUS, Scene
from vla_mbpo.sim.tasks import COLOURS

CONTACT_FORCE = 60.0  # N, normal force of any contact of the robot
TABLE_FORCE = 3.0  # N
DROP_HEIGHT = 0.045  # m a cube falls after the fingers lost it
HOLD_TIME = 0.2  # s a goal must last
PUSH_TOLERANCE, STACK_TOLERANCE = 0.03, 0.028  # m


@dataclass(frozen=True)
class Status:
    """State of the attempt. ``elapsed`` in s; ``cost_events`` in the order they happened."""

    task: str
    instruction: str
    seed: int
    success: bool
    failed: bool
    progress: float
    cost_events: tuple[str, ...]
    elapsed: float


class Referee:
    """Judges one attempt from the simulator's state. Call ``update`` every control tick from one thread."""

    def __init__(self, scene: Scene, spec: RobotSpec, data: mujoco.MjData) -> None:
        self._scene, self._spec, self._data = scene, spec, data
        model = scene.model
        self._body_of = np.array([mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_BODY, b) for b in model.geom_bodyid])
        self._robot = np.array([name.startswith("panda_") for name in self._body_of])
        self._table = model.geom("table").id
        self._force = np.zeros(6)
        self._good_since: float | None = None
        self._active: set[str] = set()
        self._held: dict[str, float] = {}
        self._falling: dict[str, tuple[float, float]] = {}
        self.events: list[str] = []
        self.success = False
        self.touch: dict[str, set[str]] = {}

    def branch(self, data: mujoco.MjData) -> "Referee":
        """A referee that has seen what this one has, of a copy of its simulation."""
        made = copy.copy(self)
        made._data = data
        for name in ("_active", "_held", "_falling", "events", "touch"):
            setattr(made, name, copy.deepcopy(getattr(self, name)))
        return made

    def update(self) -> None:
        """Look at contacts, cubes and goal once."""
        now = self._data.time
        active = self._contacts()
        tool = self._data.body(self._spec.tool_link).xpos
        if np.any(tool < self._spec.workspace_lower - 0.005) or np.any(tool > self._spec.workspace_upper + 0.005):
            active.add("workspace_exit")
        if any(self.cube(colour)[2] < -0.05 for colour in COLOURS):
            active.add("workspace_exit")
        active |= self._drops(now)
        self.events += sorted(active - self._active)
        self._active = active
        if not self._goal():
            self._good_since = None
        elif self._good_since is None:
            self._good_since = now
        elif now - self._good_since >= HOLD_TIME:
            self.success = True

    def cube(self, colour: str) -> np.ndarray:
        """Position of a cube [m]."""
        return self._data.body(f"{colour}_cube").xpos

    def held(self, colour: str) -> bool:
        """Both fingers touch the cube."""
        return len(self.touch.get(f"{colour}_cube", ())) == 2

    def _contacts(self) -> set[str]:
        """Costly contacts of the robot; also fills ``touch``: body -> fingers that touch it."""
        active: set[str] = set()
        touch: dict[str, set[str]] = {}
        pairs = self._data.contact.geom
        touching = self._robot[pairs]
        for i in np.flatnonzero(touching[:, 0] | touching[:, 1]):  # most contacts are cubes on the table
            pair, robot = pairs[i], touching[i]
            mujoco.mj_contactForce(self._scene.model, self._data, i, self._force)
            if self._force[0] > CONTACT_FORCE:
                active.add("contact_force")
            if self._table in pair and self._force[0] > TABLE_FORCE:
                active.add("table_hit")
            if not robot.all():
                mine, other = (0, 1) if robot[0] else (1, 0)
                finger = self._body_of[pair[mine]]
                if "finger" in finger:
                    touch.setdefault(self._body_of[pair[other]], set()).add(finger)
        self.touch = touch
        return active

    def _drops(self, now: float) -> set[str]:
        """A cube that falls further than DROP_HEIGHT within 0.5 s after both fingers held it."""
        active = set()
        for colour in COLOURS:
            z = float(self.cube(colour)[2])
            if self.held(colour):
                self._held[colour] = z
                self._falling.pop(colour, None)
            elif colour in self._held:
                self._falling[colour] = (now, self._held.pop(colour))
            if colour in self._falling:
                since, height = self._falling[colour]
                if height - z > DROP_HEIGHT:
                    active.add("drop")
                if now - since > 0.5:
                    del self._falling[colour]
        return active

    def _goal(self) -> bool:
        task, data = self._scene.task, self._data
        if task.kind == "press":
            return self.success or bool(data.joint("button").qpos[0] > 0.65 * BUTTON_TRAVEL)
        if task.kind == "open":
            return bool(data.joint("drawer").qpos[0] > 0.55 * DRAWER_TRAVEL)
        cube = self.cube(task.cube)
        if task.kind == "push":
            offset = cube[:2] - np.array(self._scene.layout.mark)
            return bool(np.hypot(*offset) < PUSH_TOLERANCE and cube[2] < CUBE_HALF + 0.01)
        if f"{task.cube}_cube" in self.touch:
            return False
        return self.in_place(0.0)

    def in_place(self, slack: float) -> bool:
        """The task's cube lies in or on its goal, up to ``slack`` [m] above it (place and stack)."""
        task, cube = self._scene.task, self.cube(self._scene.task.cube)
        if task.kind == "stack":
            offset = cube - self.cube(task.goal)
            near = np.hypot(*offset[:2]) < STACK_TOLERANCE
            return bool(near and -0.008 < offset[2] - 2 * CUBE_HALF < 0.008 + slack)
        offset = cube[:2] - np.array(getattr(self._scene.layout, task.goal))
        low = cube[2] < CUBE_HALF + 0.02 + slack
        if task.goal == "bin":
            return bool(np.abs(offset).max() < BIN_HALF - 0.01 and low)
        return bool(np.hypot(*offset) < PLATE_RADIUS and low)

    def failed(self) -> bool:
        """The task's cube fell off the table."""
        colour = self._scene.task.cube
        return bool(colour) and float(self.cube(colour)[2]) < -0.05

    def progress(self) -> float:
        """How far the attempt has come, 0..1: for display, not for learning."""
        task, data = self._scene.task, self._data
        if self.success:
            return 1.0
        if task.kind == "press":
            return float(np.clip(data.joint("button").qpos[0] / BUTTON_TRAVEL, 0, 0.99))
        if task.kind == "open":
            return float(np.clip(data.joint("drawer").qpos[0] / DRAWER_TRAVEL, 0, 0.99))
        goal = self.cube(task.goal)[:2] if task.kind == "stack" else np.array(getattr(self._scene.layout, task.goal))
        start = np.array(self._scene.layout.cubes[task.cube][:2])
        rest = np.hypot(*(self.cube(task.cube)[:2] - goal)) / max(0.01, float(np.hypot(*(start - goal))))
        return float(np.clip(1.0 - rest, 0.0, 0.95))
