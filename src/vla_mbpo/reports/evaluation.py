"""The page of an evaluation's result file (docs/benchmark.md)."""

from collections.abc import Mapping
from typing import Any

from vla_mbpo.reports.page import details, heading, page, percent, table

COUNTS = ("vetoes", "unsafe", "unknown", "takeovers")
HEAD = ("task", "successes", "success", "95 % interval", "cost events", *COUNTS, "mean time, s")
MADE = ("bundle", "bundle_sha256", "robot", "command", "machine", "date", "seed")


def evaluation_page(result: Mapping[str, Any]) -> str:
    """The page of what the file of ``vla-mbpo eval --json`` holds."""
    rate, (low, high) = result["success_rate"], result["interval"]
    known = rate is not None
    averages = [
        ("success on training tasks", f"{percent(rate)} ({low:.3f} to {high:.3f})" if known else "none was attempted"),
        ("cost events per attempt", result["cost_events_per_episode"] if known else "–"),
    ]
    reasons = _added(row["veto_reasons"] for row in (result["tasks"] | result["unseen_tasks"]).values())
    latencies = result["cadence"]["latency_ms"]
    parts = [
        table(("", "value"), averages, "Averages; the interval is Wilson's of 95 %"),
        heading("Tasks"),
        table(HEAD, [*_rows(result["tasks"], ""), *_rows(result["unseen_tasks"], " (held out)")], "Tasks"),
    ]
    if reasons:
        rows = sorted(reasons.items(), key=lambda pair: -pair[1])
        parts += [heading("Vetoes"), table(("check", "vetoes"), rows, "Vetoes by check, all tasks")]
    if latencies:
        said = [
            (stage, *(values.get(p, "–") for p in ("p50", "p95", "p99", "max"))) for stage, values in latencies.items()
        ]
        parts += [heading("Times"), table(("stage", "p50", "p95", "p99", "most"), said, "Milliseconds")]
    made = [(name, result[name] or "–") for name in MADE] + list(result["settings"].items())
    parts.append(details("How it was made", table(("", "value"), made, "How it was made")))
    return page(f"Evaluation of {result['bundle']}", *parts)


def _rows(tasks: Mapping[str, Any], mark: str) -> list[tuple[object, ...]]:
    """Files of earlier versions lack some counts."""
    return [
        (
            f"{name}{mark}", f"{row['successes']} of {row['n']}", percent(row["successes"] / row["n"]),
            "{:.3f} to {:.3f}".format(*row["interval"]), sum(row["cost_events"].values()),
            *(row.get(count, "–") for count in COUNTS), f"{row['mean_seconds']:.1f}",
        )
        for name, row in tasks.items()
    ]  # fmt: skip


def _added(counted: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in counted:
        for name, count in one.items():
            found[name] = found.get(name, 0) + count
    return found
