"""What each candidate of a chunk set would have led to: the same moment, tried several ways (simulator only).

The outcome of an attempt says little about one chunk of it. So the scene is branched at every look of a policy's
attempt: each branch executes one candidate, and the cost events within it are counted. At a few of the looks the
scripted expert then finishes the task, and how long it takes says how far the chunk has brought it. On a robot, what
comes after a person has taken over says the same of one chunk.

One npz per attempt: a rollout as in training/tape.py, and for B branches at each of its M looks:
    chunks (M, B, H, n + 1) absolute rows [rad, m]; the last branch's are the expert's own;
    to_go (M, B) rows from the end of the chunk until the task is done, 0: done within it, -1: not in the time that
    the expert has (``Branching``), UNTRIED: nobody went on;
    hits (M, B) cost events that began within the chunk.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.chunk import ActionChunk
from vla_mbpo.core.observation import Observation
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.state import Trajectory
from vla_mbpo.eval.lockstep import Settings
from vla_mbpo.gate.kinematics import Kinematics
from vla_mbpo.imagination.vetting import Vetting
from vla_mbpo.policy.runtime import Candidates
from vla_mbpo.sim.robot import SimRobot
from vla_mbpo.sim.world import TABLETOP, World
from vla_mbpo.training.rollout_data import UNTRIED
from vla_mbpo.training.rollouts import Branching, TapedAttempt

RISE = 8  # rows until a wandering candidate is where it goes
OTHER_GRIP = 0.3  # share of the wandering candidates whose opening is another one, too
ASTRAY = 0.3  # share of the looks at which any of the candidates is executed
CAREFUL = 0.6  # share of the attempts that execute a candidate without cost events, where there is one


def follow(robot: SimRobot, rows: NDArray[np.float64]) -> None:
    """Execute rows (H, n + 1) [rad, m], one each row period."""
    spec = robot.spec
    for row in rows:
        inside = np.clip(row[:-1], spec.lower, spec.upper)
        robot.accept(Trajectory(0, spec.joints, (spec.row_period,), inside[None], np.zeros((0, len(inside)))))
        robot.command_gripper(float(np.clip(row[-1], *spec.gripper_range)))
        robot.advance(robot.time + spec.row_period)


def expert_rows(robot: SimRobot, rows: int, until_done: bool = False, world: World = TABLETOP) -> NDArray[np.float64]:
    """Let the expert drive for so many rows, or until the task is done; what it commanded (T, n + 1)."""
    expert = world.expert(robot)
    driven: list[NDArray[np.float64]] = []
    while len(driven) < rows and not (until_done and (robot.referee.success or robot.referee.failed())):
        target, opening = expert.row()
        driven.append(np.append(target, opening))
        follow(robot, driven[-1][None])
    return np.array(driven).reshape(len(driven), len(robot.spec.joints) + 1)


class Wanderer:
    """A policy whose last candidates, half of them, also go somewhere else: what few policies propose, and RL does.

    A world model that has only seen what policies choose between does not know what other motion leads to, and
    reinforcement learning in one went where it was wrong (docs/architecture.md, "Dream RL").
    """

    def __init__(self, session: Any, spec: RobotSpec, distance: float, seed: int) -> None:
        """``distance`` [m]: standard deviation of the tool's displacement along each axis."""
        self._session, self._spec, self._distance = session, spec, distance
        self._rng, self._kinematics = np.random.default_rng([seed, 11]), Kinematics(spec)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def infer(self, observation: Observation, instruction: str, prefix: NDArray[np.float64], *rest: Any) -> Candidates:
        """As PolicySession.infer."""
        found = self._session.infer(observation, instruction, prefix, *rest)
        positions, gripper, spec = found.positions.copy(), found.gripper.copy(), self._spec
        place = np.clip((np.arange(positions.shape[1]) - len(prefix) + 1) / RISE, 0.0, 1.0)
        rising = place**2 * (3.0 - 2.0 * place)
        inverse = np.linalg.pinv(self._jacobian(observation.joints))
        for k in range(len(positions) // 2, len(positions)):
            away = inverse @ self._rng.normal(0.0, self._distance, 3)
            positions[k] = np.clip(positions[k] + rising[:, None] * away, spec.lower, spec.upper)
            if self._rng.random() < OTHER_GRIP:
                low, high = spec.gripper_range
                gripper[k] = np.clip(gripper[k] + rising * self._rng.uniform(low - high, high - low), low, high)
        return Candidates(positions, gripper, found.features)

    def _jacobian(self, joints: NDArray[np.float64], step: float = 1e-4) -> NDArray[np.float64]:
        """(3, n) of the tool's position."""
        moved = np.concatenate([joints + step * np.eye(len(joints)), joints - step * np.eye(len(joints))])
        self._kinematics.place(moved)
        plus, minus = np.split(self._kinematics.tool, 2)
        return (plus - minus).T / (2.0 * step)


class BranchedAttempt(TapedAttempt):
    """A policy's attempt with branches at its looks."""

    def __init__(
        self,
        spec: RobotSpec,
        session: Any,
        task: str,
        seed: int,
        settings: Settings,
        vetting: Vetting | None = None,
        branching: Branching | None = None,
        world: World = TABLETOP,
    ) -> None:
        self._how = branching or Branching()
        session = Wanderer(session, spec, self._how.wander, seed) if self._how.wander else session
        super().__init__(spec, session, task, seed, settings, vetting, world)
        self._draws = np.random.default_rng([seed, 9])
        self._careful = self._draws.random() < CAREFUL
        self.branches: list[dict[str, Any]] = []

    def _look(self, noise: float = 1.0) -> None:
        super()._look(noise)
        assert self._pending is not None
        self.branches.append(self._try(self._pending[2]))

    def _order(self, observation: Observation, chunks: Sequence[ActionChunk]) -> tuple[Sequence[int], bool]:
        order, unknown = super()._order(observation, chunks)
        hits = self.branches[-1]["hits"]
        if self._how.wander and self._draws.random() < ASTRAY:
            return self._draws.permutation(len(chunks)).tolist(), unknown
        return (sorted(order, key=lambda k: hits[k]) if self._careful else order), unknown

    def _try(self, found: Candidates) -> dict[str, Any]:
        """Branch: the candidates, and what the expert would do."""
        chunks = list(np.concatenate([found.positions, found.gripper[..., None]], 2))
        chunks.append(expert_rows(self.robot.branch(), self.spec.horizon, world=self.world))
        due = self._draws.random() < self._how.finished and self.robot.time < self._how.until * 1e9
        finish = due and not self.robot.referee.success
        to_go, hits = zip(*(self._lead(chunk, finish) for chunk in chunks), strict=True)
        return {"chunks": np.array(chunks, np.float32), "to_go": np.array(to_go), "hits": np.array(hits)}

    def _lead(self, chunk: NDArray[np.float64], finish: bool) -> tuple[int, int]:
        robot = self.robot.branch()
        before = len(robot.referee.events)
        follow(robot, chunk)
        hits = len(robot.referee.events) - before
        if not finish:
            return UNTRIED, hits
        rows = len(expert_rows(robot, self._how.longest, until_done=True, world=self.world))
        return rows if robot.referee.success else -1, hits

    def arrays(self) -> dict[str, Any]:
        """See the module; without source, task and seed."""
        made = {name: np.stack([branch[name] for branch in self.branches]) for name in ("chunks", "to_go", "hits")}
        return self.tape.arrays() | made
