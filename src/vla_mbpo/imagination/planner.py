"""From what the world model says of each candidate to verdicts and a choice. Plain numbers, no model."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.errors import require
from vla_mbpo.core.verdict import Verdict

FloatArray = NDArray[np.float64]

# Smallest and largest value of each number, both allowed.
RANGES: dict[str, tuple[float, float]] = {
    "cost_weight": (0.0, 10.0),
    "uncertainty_weight": (0.0, 10.0),
    "risky_cost": (0.0, 1.0),
    "unsafe_cost": (0.0, 1.0),
    "risky_success": (0.0, 1.0),
    "max_uncertainty": (0.0, 1.0),
    "margin": (0.0, 0.5),
}


@dataclass(frozen=True)
class PlannerConfig:
    """Weights and thresholds of the choice.

    Attributes:
        cost_weight, uncertainty_weight: what a certain cost, or a standard deviation of 1 among the ensemble, takes
            off the score.
        risky_cost, unsafe_cost: probabilities of a cost event from which a candidate is RISKY, UNSAFE.
        risky_success: probability of success below which a candidate is RISKY.
        max_uncertainty: standard deviation of the success among the ensemble above which the verdict is UNKNOWN; where
            the bundle's own limit is lower, that one counts.
        margin: scores that differ by less count as equal; among equals the candidate closest to the motion that is
            under way wins, so that the choice does not flip.
    """

    cost_weight: float = 1.5
    uncertainty_weight: float = 0.2
    risky_cost: float = 0.1
    unsafe_cost: float = 0.15
    risky_success: float = 0.1
    max_uncertainty: float = 0.35
    margin: float = 0.02

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            require(low <= getattr(self, name) <= high, f"imagination.{name}", getattr(self, name), f"{low} to {high}")
        order = f"not above unsafe_cost, {self.unsafe_cost}"
        require(self.risky_cost <= self.unsafe_cost, "imagination.risky_cost", self.risky_cost, order)


@dataclass(frozen=True)
class Imagined:
    """What the world model expects of K candidates.

    Attributes:
        success: (K,) probability that the task is done in the end.
        value: (K,) discounted by the time that who can do the task would take after the chunk, or where that was never
            shown, who drove: what candidates are ranked by.
        cost: (K,) probability of a cost event within the chunk.
        uncertainty: (K,) standard deviation of ``success`` among the ensemble.
        beyond: (K,) whether the chunk holds rows far from all that the world model was shown; None: none does.
    """

    success: FloatArray
    value: FloatArray
    cost: FloatArray
    uncertainty: FloatArray
    beyond: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Choice:
    """Verdict, reasons and score (K,) of the candidates; ``order``: acceptable ones, the preferred one first."""

    verdicts: tuple[Verdict, ...]
    reasons: tuple[tuple[str, ...], ...]
    scores: FloatArray
    order: tuple[int, ...]


def choose(imagined: Imagined, distance: FloatArray, config: PlannerConfig) -> Choice:
    """Judge and rank.

    Args:
        imagined: of the K candidates.
        distance: (K,) how far each candidate is from the motion under way, any unit; equal where there is none.
        config: see PlannerConfig.

    Returns:
        See Choice. UNSAFE and UNKNOWN candidates are not in ``order``.
    """
    scores = imagined.value - config.cost_weight * imagined.cost - config.uncertainty_weight * imagined.uncertainty
    judged = [_judge(imagined, k, float(scores[k]), config) for k in range(len(scores))]
    fit = [k for k, (verdict, _) in enumerate(judged) if verdict in (Verdict.SAFE, Verdict.RISKY)]
    fit.sort(key=lambda k: (-scores[k], distance[k], k))
    if fit:
        equal = [k for k in fit if scores[k] >= scores[fit[0]] - config.margin]
        first = min(equal, key=lambda k: (distance[k], k))
        fit = [first, *(k for k in fit if k != first)]
    return Choice(tuple(v for v, _ in judged), tuple(r for _, r in judged), scores, tuple(fit))


def _judge(imagined: Imagined, k: int, score: float, config: PlannerConfig) -> tuple[Verdict, tuple[str, ...]]:
    success, cost = float(imagined.success[k]), float(imagined.cost[k])
    uncertainty = float(imagined.uncertainty[k])
    if imagined.beyond is not None and imagined.beyond[k]:
        return Verdict.UNKNOWN, ("rows far from all that the world model was shown",)
    if not np.isfinite([success, cost, uncertainty, score]).all():
        return Verdict.UNKNOWN, ("the world model's answer is not finite",)
    if uncertainty > config.max_uncertainty:
        return Verdict.UNKNOWN, (f"uncertainty {uncertainty:.2f} (limit {config.max_uncertainty:.2f})",)
    if cost >= config.unsafe_cost:
        return Verdict.UNSAFE, (f"cost probability {cost:.2f} (limit {config.unsafe_cost:.2f})",)
    reasons = []
    if cost >= config.risky_cost:
        reasons.append(f"cost probability {cost:.2f} (limit {config.risky_cost:.2f})")
    if success < config.risky_success:
        reasons.append(f"success probability {success:.2f} (limit {config.risky_success:.2f})")
    return (Verdict.RISKY, tuple(reasons)) if reasons else (Verdict.SAFE, ())
