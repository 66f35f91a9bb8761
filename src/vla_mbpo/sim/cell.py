"""Two simulated arms at one table with a bar between them: physics, controllers, and whether it was handed over."""

from collections.abc import Sequence

import mujoco
import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.cell import SEPARATOR, Arm, Cell
from vla_mbpo.core.state import RobotState, Trajectory
from vla_mbpo.gate.cell import assembled
from vla_mbpo.sim.controller import TrajectoryController
from vla_mbpo.sim.robot import CONTROL_NS
from vla_mbpo.sim.scene import STEP_NS, dress_robot

FloatArray = NDArray[np.float64]
BAR = (0.11, 0.018, 0.018)  # half sizes, m
BAR_START, GOAL = (0.54, 0.0), (0.76, 0.0)  # centres, m, in the cell's frame
SPREAD = (0.03, 0.07)  # m; either way of them, x and y
NEAR, LOW, STILL = 0.03, 0.03, 0.02  # m from the goal, m above the table, m/s: the bar lies there
LIFTED = 0.10  # m above the table: what both hands hold there is being handed over


class CellRobot:
    """The arms of a cell in one scene, on one clock. One thread; time moves only in ``advance``.

    Attributes:
        goal: where the bar is to lie, (x, y) [m], cell's frame.
        touched: pairs of arms' bodies that have been in contact with each other, ever.
        handed_over: both hands have held the bar in the air, and the first one has let go of it since.
    """

    def __init__(self, cell: Cell, seed: int, now: int = 0) -> None:
        """Build the scene of ``seed``; every arm at home with its gripper open. ``now``: clock [ns]."""
        self.cell = cell
        rng = np.random.default_rng([seed, 17])
        start = np.array(BAR_START) + rng.uniform(-1.0, 1.0, 2) * SPREAD
        self.goal = np.array(GOAL) + rng.uniform(-1.0, 1.0, 2) * SPREAD
        self.model = _compile(cell, start, self.goal)
        self.data = mujoco.MjData(self.model)
        self._hands = [_Hand(self.model, self.data, arm) for arm in cell.arms]
        self._start = self._time = now
        self._owner = [name.split(SEPARATOR)[0] if SEPARATOR in name else "" for name in self._bodies()]
        self._bar = self.model.body("bar").id
        self.touched: set[tuple[str, str]] = set()
        self._both = self.handed_over = False
        mujoco.mj_forward(self.model, self.data)

    @property
    def time(self) -> int:
        """Clock [ns]."""
        return self._time

    @property
    def bar(self) -> FloatArray:
        """Centre of the bar, cell's frame [m], (3,)."""
        return self.data.xpos[self._bar].copy()

    def tool(self, index: int) -> FloatArray:
        """Tool position of an arm, cell's frame [m], (3,)."""
        return self._hands[index].tool.copy()

    def states(self) -> tuple[RobotState, ...]:
        """Measured state of each arm now."""
        return tuple(hand.state(self._time) for hand in self._hands)

    def accept(self, trajectories: Sequence[Trajectory | None]) -> None:
        """Give each arm its trajectory. Raises RuntimeError when a controller rejects one."""
        for hand, trajectory in zip(self._hands, trajectories, strict=True):
            why = None if trajectory is None else hand.controller.accept(trajectory, self._time)
            if why:
                raise RuntimeError(f"the controller of {hand.arm.name} rejected a trajectory: {why}")

    def command_gripper(self, index: int, opening: float) -> None:
        """Move an arm's fingers towards ``opening`` [m] at their speed."""
        low, high = self.cell.arms[index].spec.gripper_range
        self._hands[index].target = float(np.clip(opening, low, high))

    def advance(self, until: int) -> None:
        """Run physics until the clock reads ``until`` [ns] or up to one step less."""
        while self._time + STEP_NS <= until:
            if (self._time - self._start) % CONTROL_NS == 0:
                for hand in self._hands:
                    hand.command(self._time)
                self._look()
            mujoco.mj_step(self.model, self.data)
            self._time += STEP_NS

    @property
    def success(self) -> bool:
        """The bar was handed over, lies at the goal, and nobody holds it."""
        bar = self.bar
        near = bool(np.hypot(*(bar[:2] - self.goal)) < NEAR and bar[2] < LOW)
        still = float(np.linalg.norm(self.data.cvel[self._bar][3:])) < STILL
        return self.handed_over and near and still and not self._holding()

    def _look(self) -> None:
        """Who touches whom, and the bar's way from hand to hand."""
        for contact in self.data.contact[: self.data.ncon]:
            first, second = (int(self.model.geom_bodyid[geom]) for geom in (contact.geom1, contact.geom2))
            if self._owner[first] and self._owner[second] and self._owner[first] != self._owner[second]:
                self.touched.add((self.model.body(first).name, self.model.body(second).name))
        holding, lifted = self._holding(), self.bar[2] > LIFTED
        self._both |= lifted and len(holding) == len(self._hands)
        self.handed_over |= self._both and lifted and holding == {self.cell.arms[-1].name}

    def _holding(self) -> set[str]:
        found = set()
        for contact in self.data.contact[: self.data.ncon]:
            bodies = [int(self.model.geom_bodyid[geom]) for geom in (contact.geom1, contact.geom2)]
            if self._bar in bodies:
                found |= {self._owner[body] for body in bodies} - {""}
        return found

    def _bodies(self) -> list[str]:
        return [self.model.body(index).name for index in range(self.model.nbody)]


class _Hand:
    """One arm's place in the model, its controller and its fingers."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, arm: Arm) -> None:
        def named(names: Sequence[str]) -> list[str]:
            return [arm.name + SEPARATOR + name for name in names]

        self.arm, self._data, spec = arm, data, arm.spec
        joints, fingers = ([model.joint(n) for n in named(group)] for group in (spec.joints, spec.gripper_joints))
        self._q, self._v = (np.array([getattr(j, a)[0] for j in joints]) for a in ("qposadr", "dofadr"))
        self._finger_q = np.array([joint.qposadr[0] for joint in fingers])
        self._servo = np.array([model.actuator(name).id for name in named(spec.joints)])
        self._finger_servo = np.array([model.actuator(name).id for name in named(spec.gripper_joints)])
        self._tool = model.body(named([spec.tool_link])[0]).id
        self.opening = self.target = spec.gripper_range[1]
        data.qpos[self._q] = spec.home
        data.qpos[self._finger_q] = self.opening / len(self._finger_q)
        self.controller = TrajectoryController(spec.joints, spec.home)

    @property
    def tool(self) -> FloatArray:
        return self._data.xpos[self._tool]

    def state(self, now: int) -> RobotState:
        data = self._data
        opening = float(data.qpos[self._finger_q].sum())
        return RobotState(now, data.qpos[self._q].copy(), data.qvel[self._v].copy(), opening)

    def command(self, now: int) -> None:
        reach = self.arm.spec.gripper_speed * CONTROL_NS / 1e9
        self.opening += float(np.clip(self.target - self.opening, -reach, reach))
        self._data.ctrl[self._servo] = self.controller.sample(now)[0]
        self._data.ctrl[self._finger_servo] = self.opening / len(self._finger_servo)


def _compile(cell: Cell, start: FloatArray, goal: FloatArray) -> mujoco.MjModel:
    world = assembled(cell, _dressed)
    world.option.timestep = STEP_NS / 1e9
    world.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    world.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    world.option.impratio = 10
    middle = np.mean([arm.position[:2] for arm in cell.arms], axis=0)
    box = mujoco.mjtGeom.mjGEOM_BOX
    world.worldbody.add_geom(name="table", type=box, size=[0.9, 0.75, 0.02], pos=[*middle, -0.02])
    mark = world.worldbody.add_geom(name="goal", type=box, size=[*BAR[:2], 0.001], pos=[*goal, 0.001])
    mark.contype = mark.conaffinity = 0
    bar = world.worldbody.add_body(name="bar", pos=[*start, BAR[2]])
    bar.add_freejoint(name="bar")
    geom = bar.add_geom(name="bar", type=box, size=BAR, mass=0.08, friction=[1.0, 0.02, 0.0005])
    geom.condim, geom.solref = 4, [0.006, 1.0]
    return world.compile()


def _dressed(arm: Arm) -> mujoco.MjSpec:
    own = mujoco.MjSpec.from_file(str(arm.spec.urdf))
    dress_robot(own, arm.spec, (("panda_link0", "panda_link1"),))
    return own
