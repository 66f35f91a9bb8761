"""Whether a candidate may go live: two sides on the same start states, and limits that all have to hold.

Values only: no files, no rclpy, no torch. What is not a number holds no limit.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest

from vla_mbpo.core.errors import require
from vla_mbpo.eval.statistics import paired, paired_ratio, wilson

PARITY = 1e-4  # as policy/export.py: largest difference of the exported graphs to the network, standard deviations
CONFIDENCE = 0.95  # one-sided
Scene = tuple[str, int]  # task, seed


@dataclass(frozen=True)
class Result:
    """What came of one attempt: whether it succeeded, and its cost events."""

    success: bool
    costs: int = 0


@dataclass(frozen=True)
class Limits:
    """What has to hold.

    Attributes:
        gain: the one-sided 95 % bound of the success gain is above it (share of attempts).
        task_loss: no task's success falls by so much or more (share of attempts).
        cost_ratio: cost events are at most so many times the incumbent's.
        parity: see PARITY.
        episodes: least attempts per task.
    """

    gain: float = 0.0
    task_loss: float = 0.05
    cost_ratio: float = 1.0
    parity: float = PARITY
    episodes: int = 50


@dataclass(frozen=True)
class Check:
    """One limit: what it is about, the value, the value that is required, and whether it holds."""

    name: str
    value: str
    required: str
    ok: bool

    def __str__(self) -> str:
        return f"{self.name}: {self.value}, required {self.required}"


@dataclass(frozen=True)
class Comparison:
    """Two sides, paired over scenes. Training tasks, but for ``tasks``, which has the held-out ones too.

    Attributes:
        n: scenes.
        success: rate of the incumbent and of the candidate, each with its Wilson 95 % interval.
        gain: mean difference and its 95 % interval by paired bootstrap.
        bound: one-sided 95 % bound of the gain by paired bootstrap.
        discordant: scenes that only the candidate solves, and that only the incumbent solves.
        sign_p: exact one-sided sign test on those; the bootstrap promises too much where they are few.
        costs: cost events of the incumbent and of the candidate.
        cost_ratio: their ratio and its 95 % interval; None where the incumbent has none.
        tasks: name -> n, before, after (rates), difference, held_out.
    """

    n: int
    success: tuple[tuple[float, float, float], tuple[float, float, float]]
    gain: tuple[float, float, float]
    bound: float
    discordant: tuple[int, int]
    sign_p: float
    costs: tuple[int, int]
    cost_ratio: tuple[float, float, float] | None
    tasks: dict[str, dict[str, Any]]


def compare(
    before: Mapping[Scene, Result], after: Mapping[Scene, Result], held_out: Collection[str] = ()
) -> Comparison:
    """Pair the incumbent's results with the candidate's. ConfigError unless they are of the same scenes."""
    require(set(before) == set(after), "scenes", f"{len(before)} and {len(after)}", "the same scenes on both sides")
    every = sorted(before)
    scenes = [scene for scene in every if scene[0] not in held_out]
    require(bool(scenes), "scenes", 0, "at least one of a training task")
    old, new = [before[s].success for s in scenes], [after[s].success for s in scenes]
    wins = sum(b and not a for a, b in zip(old, new, strict=True))
    losses = sum(a and not b for a, b in zip(old, new, strict=True))
    costs = [before[s].costs for s in scenes], [after[s].costs for s in scenes]
    return Comparison(
        n=len(scenes),
        success=(_rate(old), _rate(new)),
        gain=paired(old, new),
        bound=paired(old, new, confidence=2.0 * CONFIDENCE - 1.0)[1],
        discordant=(wins, losses),
        sign_p=float(binomtest(wins, wins + losses, alternative="greater").pvalue) if wins + losses else 1.0,
        costs=(sum(costs[0]), sum(costs[1])),
        cost_ratio=paired_ratio(*costs),
        tasks={task: _task([s for s in every if s[0] == task], before, after, held_out) for task in _tasks(every)},
    )


def decide(
    found: Comparison, limits: Limits, parity: Mapping[str, float], further: Sequence[Check] = ()
) -> list[Check]:
    """Every limit, kept or not. The candidate may go live if all hold.

    ``parity``: largest difference of each engine to its network as the candidate's manifest has it; none: refused.
    """
    least = min(row["n"] for row in found.tasks.values())
    worst = max(parity.values()) if parity and np.isfinite(list(parity.values())).all() else float("nan")
    (old, new), chance = found.costs, 1.0 - CONFIDENCE
    most = limits.cost_ratio * old
    bound, gain = f"{found.bound:+.4f}", found.bound > limits.gain
    engine = f"{worst:.1e}" if parity else "not recorded"
    return [
        Check("attempts per task", f"{least}", f"at least {limits.episodes}", least >= limits.episodes),
        Check("success gain, one-sided 95 % bound", bound, f"above {limits.gain:+g}", gain),
        Check("success gain, sign test", f"p {found.sign_p:.4f}", f"below {chance:.2f}", found.sign_p < chance),
        *(_task_check(task, row["difference"], limits.task_loss) for task, row in found.tasks.items()),
        Check("cost events", f"{new} after {old}", f"at most {most:g}", new <= most + 1e-9),
        Check("engine parity", engine, f"at most {limits.parity:g}", worst <= limits.parity),
        *further,
    ]


def _task_check(task: str, difference: float, loss: float) -> Check:
    return Check(f"success of {task}", f"{difference:+.3f}", f"above {-loss:+g}", difference > -loss + 1e-9)


def accepted(checks: Sequence[Check]) -> bool:
    """Whether there are limits and all hold."""
    return bool(checks) and all(check.ok for check in checks)


def _rate(successes: Sequence[bool]) -> tuple[float, float, float]:
    return round(sum(successes) / len(successes), 4), *wilson(sum(successes), len(successes))


def _tasks(scenes: Sequence[Scene]) -> list[str]:
    return list(dict.fromkeys(task for task, _ in scenes))


def _task(
    scenes: Sequence[Scene], before: Mapping[Scene, Result], after: Mapping[Scene, Result], held_out: Collection[str]
) -> dict[str, Any]:
    n, old, new = len(scenes), sum(before[s].success for s in scenes), sum(after[s].success for s in scenes)
    costs = {"costs_before": sum(before[s].costs for s in scenes), "costs_after": sum(after[s].costs for s in scenes)}
    rates = {"before": round(old / n, 4), "after": round(new / n, 4), "difference": (new - old) / n}
    return {"n": n, **rates, **costs, "held_out": scenes[0][0] in held_out}
