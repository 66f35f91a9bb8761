"""A Meta-World task behind the interface of ``vla_mbpo.sim.robot.SimRobot``: set points in, measured tool out."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from numpy.typing import NDArray

from benchmarks.metaworld.frames import HORIZON, ROW, STEP_NS, action_towards
from benchmarks.metaworld.tasks import INSTRUCTIONS
from vla_mbpo.core.errors import require
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.state import RobotState, Trajectory
from vla_mbpo.sim.controller import TrajectoryController
from vla_mbpo.sim.referee import Status

MEASURED, OBJECT, OTHER, GOAL = slice(0, 4), slice(4, 7), slice(11, 14), slice(36, 39)  # in an observation

STATE = mujoco.mjtState.mjSTATE_INTEGRATION
PLAIN = (np.ndarray, np.number, float, int, bool, type(None))


@dataclass(frozen=True)
class Scene:
    """What is to be done, and where."""

    task: str
    seed: int
    instruction: str


class Judge:
    """Meta-World's own word on the attempt. It has no costs, and no attempt is hopeless."""

    def __init__(self) -> None:
        self.success = False
        self.events: list[str] = []

    def failed(self) -> bool:
        """Never."""
        return False


class Arm:
    """One task in one scene. One thread. Time moves only in ``advance``.

    Of an observation a policy gets the tool's position and the opening (``state``), and where it pulls the tool to;
    ``seen`` is all of it, for the scripted expert and for ground truth.

    Attributes:
        seen: the newest observation of Meta-World (39,).
    """

    def __init__(self, spec: RobotSpec, task: str, seed: int) -> None:
        """``seed``: of the scene. ConfigError: there is no such task."""
        require(task in INSTRUCTIONS, "task", task, f"one of {', '.join(INSTRUCTIONS)}")
        self.spec, self.scene = spec, Scene(task, seed, INSTRUCTIONS[task])
        self._env = ALL_V3_ENVIRONMENTS[f"{task}-v3"]()
        # Else the scene would come from numpy's global generator, or be the same each time.
        self._env.seeded_rand_vec, self._env._freeze_rand_vec = True, False
        self._env._partially_observable, self._env._set_task_called = False, True
        self._env.__dict__.pop("sawyer_observation_space", None)  # one that would cut the goal off to zeros
        self._env.seed(seed)
        self._env.reset()
        # A reset moves things in the model alone: observation and first picture would show them where they were before.
        self._restore(*self._state())
        self.seen: NDArray[np.float64] = self._env._get_obs()
        self._env._prev_obs = self.seen[18:36] = self.seen[:18].copy()
        self.referee, self.steps = Judge(), 0
        self._time, self._opening = 0, spec.gripper_range[1]
        self._controller = TrajectoryController(spec.joints, self.tool_set_point())

    @property
    def time(self) -> int:
        """Clock [ns]."""
        return self._time

    @property
    def model(self) -> mujoco.MjModel:
        """Of Meta-World's scene."""
        return self._env.model

    @property
    def data(self) -> mujoco.MjData:
        """Of Meta-World's scene as it is now."""
        return self._env.data

    @property
    def qpos(self) -> NDArray[np.float64]:
        """Copy of the generalised positions of the whole scene."""
        return self._env.data.qpos.copy()

    def tool_set_point(self) -> NDArray[np.float64]:
        """Where the tool is pulled to (3,) [m]."""
        return self._env.data.mocap_pos[0].copy()

    def state(self) -> RobotState:
        """The tool's position [m] and the opening now; as velocities [m/s] those that it would be there with in a row.

        That is how far it is behind its set point. Set points are sums of actions, so that what an action does depends
        on it, and no picture shows it where the tool is pressed against something.
        """
        *tool, opening = self.seen[MEASURED]
        return RobotState(self._time, np.array(tool), (self.tool_set_point() - tool) / ROW, float(opening))

    def accept(self, trajectory: Trajectory) -> str | None:
        """Take a trajectory of set points; None, or why it was rejected."""
        return self._controller.accept(trajectory, self._time)

    def command_gripper(self, opening: float) -> None:
        """From 0 (closed) to 1 (open); outside it is refused."""
        self.spec.check_opening(opening)
        self._opening = opening

    def set_point(self) -> NDArray[np.float64]:
        """Set point that was asked for now (3,) [m]."""
        return self._controller.sample(self._time)[0]

    def advance(self, until: int) -> None:
        """Let Meta-World take every step that begins before ``until`` [ns], up to its horizon."""
        while self.steps * STEP_NS < until and self.steps < HORIZON:
            target = self._controller.sample((self.steps + 1) * STEP_NS)[0]
            self.step(action_towards(target, self.tool_set_point(), self._opening))
        self._time = until

    def step(self, action: NDArray[np.float64]) -> None:
        """One step of Meta-World with an action (4,), whatever was asked for."""
        self.seen, _, _, _, said = self._env.step(action.astype(np.float32))
        self.steps += 1
        self.referee.success |= bool(said["success"])

    @contextmanager
    def supposed(self) -> Iterator[None]:
        """What ``step`` does within the block has not happened after it."""
        before, mine = self._state(), (self.seen, self.steps, self.referee.success)
        try:
            yield
        finally:
            self._restore(*before)
            self.seen, self.steps, self.referee.success = mine

    def branch(self) -> "Arm":
        """Another arm in the same state, to try what would come of something; this one does not notice."""
        made = Arm(self.spec, self.scene.task, self.scene.seed)
        made._restore(*self._state())
        made.seen, made.steps, made.referee = self.seen, self.steps, copy.deepcopy(self.referee)
        made._time, made._opening, made._controller = self._time, self._opening, copy.deepcopy(self._controller)
        return made

    def _state(self) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """MuJoCo's state, and what Meta-World remembers beside it."""
        state = np.zeros(mujoco.mj_stateSize(self.model, STATE))
        mujoco.mj_getState(self.model, self.data, state, STATE)
        return state, {name: copy.copy(value) for name, value in vars(self._env).items() if isinstance(value, PLAIN)}

    def _restore(self, state: NDArray[np.float64], plain: dict[str, Any]) -> None:
        vars(self._env).update(plain)
        mujoco.mj_setState(self.model, self.data, state, STATE)
        mujoco.mj_forward(self.model, self.data)
        mujoco.mj_setState(self.model, self.data, state, STATE)  # it has changed where the solver starts from
        for marker in self._env._target_site_config:
            self._env._set_pos_site(*marker)  # as Meta-World does after each step

    def status(self) -> Status:
        """Ground truth of the attempt."""
        success = self.referee.success
        return Status(
            self.scene.task, self.scene.instruction, self.scene.seed, success, False, float(success), (),
            self._time / 1e9,
        )  # fmt: skip
