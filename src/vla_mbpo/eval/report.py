"""The result file of an evaluation (docs/benchmark.md)."""

import datetime
import os
import platform
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vla_mbpo.eval.statistics import wilson
from vla_mbpo.sim.tasks import TASKS, Task

if TYPE_CHECKING:  # a report of a recording needs no simulator
    from vla_mbpo.eval.lockstep import Outcome


def machine() -> str:
    """Processor, cores and system in one line."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as info:
            model = next(line.split(":", 1)[1].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


def now() -> str:
    """UTC date and time."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def summarise(outcomes: list["Outcome"], known: Mapping[str, Task] = TASKS) -> dict[str, Any]:
    """Per task, average over training tasks, held-out tasks beside it. ``known``: all tasks there are."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.task, []).append(outcome)
    tasks = {name: _task(groups[name]) for name in known if name in groups}
    seen = [o for o in outcomes if not known[o.task].held_out]
    n, successes = len(seen), sum(o.success for o in seen)
    return {
        "tasks": {name: row for name, row in tasks.items() if not known[name].held_out},
        "unseen_tasks": {name: row for name, row in tasks.items() if known[name].held_out},
        "success_rate": round(successes / n, 4) if n else None,
        "interval": wilson(successes, n),
        "cost_events_per_episode": round(sum(len(o.cost_events) for o in seen) / n, 4) if n else None,
        "seams": _seams(outcomes),
    }


def _seams(outcomes: list["Outcome"]) -> dict[str, float] | None:
    """Chunk switches and the worst velocity step; None where they were not measured."""
    counts = [o.seams for o in outcomes if o.seams is not None]
    ratios = [o.worst_seam for o in outcomes if o.worst_seam is not None]
    return {"switches": sum(counts), "worst_ratio": max(ratios)} if counts else None


def _task(group: list["Outcome"]) -> dict[str, Any]:
    successes = sum(o.success for o in group)
    return {
        "n": len(group),
        "successes": successes,
        "interval": wilson(successes, len(group)),
        "cost_events": dict(Counter(e for o in group for e in o.cost_events)),
        "vetoes": sum(o.vetoes for o in group),
        "unsafe": sum(o.unsafe for o in group),
        "unknown": sum(o.unknown for o in group),
        "resampled": sum(o.resampled for o in group),
        "false_stops": sum(o.stops for o in group if not o.cost_events),
        "takeovers": sum(o.alarm is not None for o in group),
        "mean_seconds": round(float(np.mean([o.seconds for o in group])), 3),
        "veto_reasons": dict(sum((Counter(o.reasons) for o in group), Counter())),
    }


def percentiles(values: list[float]) -> dict[str, float]:
    """p50, p95, p99 and max."""
    if not values:
        return {}
    p50, p95, p99 = np.percentile(values, [50, 95, 99])
    return {k: round(float(v), 3) for k, v in (("p50", p50), ("p95", p95), ("p99", p99), ("max", max(values)))}
