"""A policy at the arm for stretches of a demonstration: the expert then shows the way out of its mistakes.

Dataset aggregation (DAgger, arXiv 1011.0686) with stretches instead of single actions (as HG-DAgger, arXiv 1810.02890).
"""

import functools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.observation import Observation
from vla_mbpo.policy.runtime import REPLAN_ROWS, PolicySession
from vla_mbpo.sim.cameras import SceneCamera
from vla_mbpo.sim.robot import SimRobot

POLICY_ROWS, EXPERT_ROWS = (10, 70), (16, 44)  # lengths of the stretches
TOO_LOW = 0.004  # m, height of the tool at which the policy is relieved: the gate would not have let it


@functools.cache
def _session(bundle: Path) -> PolicySession:
    return PolicySession.load(bundle)


class Pilot:
    """Takes turns with the expert. Same calls as ``Perturbation``; one attempt, one thread."""

    def __init__(self, bundle: Path, robot: SimRobot, camera: SceneCamera, rng: np.random.Generator) -> None:
        self._session, self._robot, self._camera, self._rng = _session(bundle), robot, camera, rng
        self._left, self._rest = 0, int(rng.integers(0, 12))
        self._positions, self._gripper = np.zeros((0, len(robot.spec.joints))), np.zeros(0)
        self._at = REPLAN_ROWS

    @property
    def active(self) -> bool:
        """The policy drives."""
        return self._left > 0

    def maybe_begin(self) -> None:
        """Hand over to the policy when the expert's stretch is over. Call once per row, before it is looked at."""
        if self._left:
            return
        self._rest -= 1
        if self._rest < 0:
            self._left, self._rest = (int(self._rng.integers(*rows)) for rows in (POLICY_ROWS, EXPERT_ROWS))
            self._positions, self._gripper = self._positions[:0], self._gripper[:0]
            self._at = REPLAN_ROWS

    def apply(self, target: NDArray[np.float64], opening: float) -> tuple[NDArray[np.float64], float]:
        """The policy's row while it drives, else the expert's ``target`` [rad] and ``opening`` [m]."""
        if not self._left:
            return target, opening
        self._left -= 1
        if self._robot.data.body(self._robot.spec.tool_link).xpos[2] < TOO_LOW:
            self._left = 0
        if self._at >= REPLAN_ROWS:
            self._plan()
        self._at += 1
        return self._positions[self._at - 1], float(self._gripper[self._at - 1])

    def _plan(self) -> None:
        robot, now, state = self._robot, self._robot.time, self._robot.state()
        head, wrist = self._camera.render(robot.qpos, "head", "wrist")
        body = (now, state.positions, state.velocities, state.gripper)
        rest = slice(self._at, self._at + robot.spec.commit_rows)
        found = self._session.infer(
            Observation.fresh(now, (now, head), (now, wrist), body),
            robot.scene.instruction,
            self._positions[rest],
            self._gripper[rest],
            1,
            self._rng,
        )
        self._positions, self._gripper, self._at = found.positions[0], found.gripper[0], 0
