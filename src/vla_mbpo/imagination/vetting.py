"""Vetting of chunk sets by a world model: what the node and the lockstep evaluation share. No torch, no rclpy."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.observation import Observation
from vla_mbpo.core.verdict import Verdict
from vla_mbpo.imagination.planner import Choice, Imagined, PlannerConfig, choose
from vla_mbpo.imagination.session import WorldModelSession

FloatArray = NDArray[np.float64]

SAME = 1e-6  # rad; committed rows are copied, so they are equal but for rounding


@dataclass(frozen=True)
class Judgement:
    """Choice among the candidates of a set and the numbers it was made from."""

    choice: Choice
    imagined: Imagined


class Vetting:
    """Judges the candidates of one set after another; remembers the last choice. ``judge`` in one thread at a time."""

    def __init__(self, session: WorldModelSession, config: PlannerConfig | None = None) -> None:
        config = config or PlannerConfig()
        limit = min(config.max_uncertainty, session.uncertainty_limit)
        self.session, self.config = session, replace(config, max_uncertainty=limit)
        self._last: tuple[int, FloatArray] | None = None  # stamp [ns] and rows (H, n) of the last preferred candidate
        self._motion = 0

    def reset(self) -> None:
        """Forget the motion under way: it has been stopped. Any thread; what is being judged is of it too."""
        self._motion += 1
        self._last = None

    def judge(
        self,
        observation: Observation,
        instruction: str,
        positions: FloatArray,
        gripper: FloatArray,
        committed: int,
        row_period: int,
    ) -> Judgement:
        """Judge K chunks.

        Args:
            observation: what the chunks were made from.
            instruction: words of the vocabulary; UnknownInstruction otherwise.
            positions: (K, H, n) absolute joint positions [rad].
            gripper: (K, H) openings [m].
            committed: rows at their beginning that the arm driver had committed to.
            row_period: [ns].
        """
        motion = self._motion
        fault = self._fault(positions, gripper, committed)
        if fault:
            return unknown(len(positions), fault)
        ways = self.session.tool_ways(positions)
        imagined = self.session.vet(observation, instruction, positions, gripper, ways)
        if isinstance(imagined, str):
            return unknown(len(positions), imagined)
        choice = choose(imagined, self._distance(observation.stamp, positions, row_period), self.config)
        if choice.order and motion == self._motion:
            self._last = observation.stamp, positions[choice.order[0]]
        return Judgement(choice, imagined)

    def _fault(self, positions: FloatArray, gripper: FloatArray, committed: int) -> str:
        """Why these candidates cannot be judged, or an empty string."""
        if not (np.isfinite(positions).all() and np.isfinite(gripper).all()):
            return "a candidate holds numbers that are not finite"
        if positions.shape[1] != self.session.horizon:
            return f"chunks of {positions.shape[1]} rows; the world model reads {self.session.horizon}"
        if np.abs(positions[:, :committed] - positions[:1, :committed]).max(initial=0.0) > SAME:
            return "the candidates disagree about the committed rows"
        return ""

    def _distance(self, stamp: int, positions: FloatArray, row_period: int) -> FloatArray:
        """Mean distance (K,) [rad] from the last choice where it and the candidates overlap in time."""
        if self._last is None:
            return np.zeros(len(positions))
        shift = round((stamp - self._last[0]) / row_period)
        rest = self._last[1][shift:] if 0 <= shift else self._last[1][:0]
        if not len(rest):
            return np.zeros(len(positions))
        return np.abs(positions[:, : len(rest)] - rest).mean((1, 2))


def unknown(k: int, reason: str) -> Judgement:
    """The judgement of K candidates of which nothing is known."""
    nothing = np.full(k, np.nan)
    choice = Choice((Verdict.UNKNOWN,) * k, ((reason,),) * k, nothing, ())
    return Judgement(choice, Imagined(nothing, nothing, nothing, nothing))
