"""What each candidate of a chunk set would have led to: the same moment, tried several ways (simulator only).

The outcome of an attempt says little about one chunk of it. So at some looks of a policy's attempts the scene is
branched: each branch executes one candidate, then the scripted expert finishes the task, and how long it takes says how
far the chunk has brought the task. On a robot, what comes after a person has taken over says the same of one chunk.

One npz per attempt, B branches at each of M looks; head, wrist, joints, velocities, gripper, cubes, points as tape.py:
    chunks (M, B, H, n + 1) absolute rows [rad, m]; the last branch's are the expert's own;
    to_go (M, B) rows from the end of the chunk until the task is done, 0: done within it, -1: not within LONGEST;
    cost (M, B) cost events that began within the chunk.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.state import Trajectory
from vla_mbpo.eval.lockstep import Settings
from vla_mbpo.imagination.vetting import Vetting
from vla_mbpo.policy.runtime import Candidates
from vla_mbpo.sim.experts import Expert
from vla_mbpo.sim.robot import SimRobot
from vla_mbpo.training.rollouts import TapedAttempt

LOOKS, BRANCHES = 3, 5  # looks of an attempt that are branched, candidates of each that are tried
LONGEST = 140  # rows


def follow(robot: SimRobot, rows: NDArray[np.float64]) -> None:
    """Execute rows (H, n + 1) [rad, m], one each row period."""
    spec = robot.spec
    for row in rows:
        inside = np.clip(row[:-1], spec.lower, spec.upper)
        robot.accept(Trajectory(0, spec.joints, (spec.row_period,), inside[None], np.zeros((0, len(inside)))))
        robot.command_gripper(float(np.clip(row[-1], *spec.gripper_range)))
        robot.advance(robot.time + spec.row_period)


def expert_rows(robot: SimRobot, rows: int, until_done: bool = False) -> NDArray[np.float64]:
    """Let the expert drive for so many rows, or until the task is done; what it commanded (T, n + 1)."""
    expert = Expert(robot)
    driven: list[NDArray[np.float64]] = []
    while len(driven) < rows and not (until_done and (robot.referee.success or robot.referee.failed())):
        target, opening = expert.row()
        driven.append(np.append(target, opening))
        follow(robot, driven[-1][None])
    return np.array(driven).reshape(len(driven), len(robot.spec.joints) + 1)


class BranchedAttempt(TapedAttempt):
    """A policy's attempt with branches at some of its looks; it ends after the last of them."""

    def __init__(
        self, spec: RobotSpec, session: Any, task: str, seed: int, settings: Settings, vetting: Vetting | None = None
    ) -> None:
        super().__init__(spec, session, task, seed, settings, vetting)
        self._draws = np.random.default_rng([seed, 9])
        last = int(self._draws.integers(8, 25))  # of 25 looks
        self._chosen = set(self._draws.permutation(last)[:LOOKS].tolist())
        self._looks = 0
        self.branches: list[dict[str, Any]] = []

    def _look(self, noise: float = 1.0) -> None:
        super()._look(noise)
        assert self._pending is not None
        if self._looks in self._chosen and not self.robot.referee.success:
            self.branches.append(self._try(self._pending[2]) | {"look": self._looks})
        self._looks += 1

    def _over(self) -> bool:
        return super()._over() or self._looks > max(self._chosen)

    def _try(self, found: Candidates) -> dict[str, Any]:
        """Branch: some of the candidates, and what the expert would do."""
        mine = self._draws.permutation(len(found.positions))[:BRANCHES]
        chunks = [np.concatenate([found.positions[k], found.gripper[k][:, None]], 1) for k in mine]
        chunks.append(expert_rows(self.robot.branch(), self.spec.horizon))
        to_go, cost = zip(*(self._finish(chunk) for chunk in chunks), strict=True)
        return {"chunks": np.array(chunks, np.float32), "to_go": np.array(to_go), "cost": np.array(cost)}

    def _finish(self, chunk: NDArray[np.float64]) -> tuple[int, int]:
        robot = self.robot.branch()
        before = len(robot.referee.events)
        follow(robot, chunk)
        cost = len(robot.referee.events) - before
        rows = len(expert_rows(robot, LONGEST, until_done=True))
        return rows if robot.referee.success else -1, cost

    def arrays(self) -> dict[str, Any]:
        """See the module; without source, task and seed. Empty when no look was branched."""
        if not self.branches:
            return {}
        tape = self.tape.arrays()
        looks = [branch.pop("look") for branch in self.branches]
        names = ("head", "wrist", "joints", "velocities", "gripper", "cubes", "points")
        made = {name: np.stack([branch[name] for branch in self.branches]) for name in ("chunks", "to_go", "cost")}
        return {name: tape[name][looks] for name in names} | made
