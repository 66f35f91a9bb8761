"""Numbers over several recorded episodes, as rows of tables."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from vla_mbpo.core.verdict import Verdict
from vla_mbpo.eval.report import percentiles
from vla_mbpo.eval.statistics import wilson
from vla_mbpo.reports.attempt import STAGES, Told
from vla_mbpo.reports.page import percent

Rows = list[tuple[str, ...]]
OUTCOMES = ("succeeded", "failed", "aborted")
RATES = ("/head_camera/color/image_raw", "/wrist_camera/color/image_raw", "/joint_states", "/arm_driver/commitment")


def attempts(told: Iterable[Told]) -> list[Told]:
    """Those that are attempts: not what was recorded by hand, or saved."""
    return [one for one in told if one.labels["kind"] == "attempt"]


def outcomes(told: Sequence[Told]) -> Rows:
    """Attempts, outcomes, success with its interval, and what else happened in them."""
    every = attempts(told)
    counted = Counter(one.labels["outcome"] for one in every)
    well, ended = counted["succeeded"], counted["succeeded"] + counted["failed"]
    costs = Counter(event for one in every for event in one.labels["cost_events"])
    spans = [_seconds(span) for one in every for span in one.labels["interventions"]]
    alarms = [one for one in every if one.alarm is not None]
    rows = {name: sum(one.labels["rows"].get(name, 0) for one in every) for name in ROWS}
    return [
        ("attempts", str(len(every))),
        *((name, str(counted[name])) for name in OUTCOMES if counted[name] or name != "aborted"),
        *((("outcome not known", str(counted[""])),) if counted[""] else ()),
        ("success, of those that succeeded or failed", _rate(well, ended)),
        *([("success, of all, aborted ones too", _rate(well, len(every)))] if len(every) > ended else []),
        ("cost events", _listed(costs)),
        ("alarms of the failure detector", f"in {len(alarms)} of {len(every)} attempts" if alarms else _silent(every)),
        ("takeovers by a person", _takeovers(spans)),
        ("rows", ", ".join(f"{rows[name]} {words}" for name, words in ROWS.items())),
        ("recordings that are complete", f"{sum(one.labels['state'] == 'complete' for one in every)} of {len(every)}"),
        ("policy", ", ".join(dict.fromkeys(v for one in every for v in one.labels["policy_versions"])) or "–"),
        ("world model", ", ".join(dict.fromkeys(v for one in every for v in one.world_models)) or "none vetted"),
        *_releases(every),
    ]  # fmt: skip


ROWS = {"executed": "executed", "dropped_late": "dropped because they were late", "executed_late": "executed late"}


def vetoes(told: Sequence[Told]) -> Rows:
    """Refusals of the gate by the first check that refused, with the share of all decisions."""
    decisions: Counter[str] = Counter()
    checks: Counter[str] = Counter()
    for one in told:
        decisions.update(one.labels["decisions"])
        checks.update(one.labels["vetoes"])
    total = decisions["accepted"] + decisions["rejected"]
    rows = [("accepted", decisions["accepted"])] + [(f"refused: {name}", count) for name, count in checks.most_common()]
    return [(name, str(count), percent(count / total)) for name, count in rows if total]


def verdicts(told: Sequence[Told]) -> Rows:
    """Candidates by the world model's verdict; none where it did not speak."""
    counted = sum((one.verdicts() for one in told), Counter())
    total = sum(counted.values())
    return [(v.name, str(counted[v.name]), percent(counted[v.name] / total)) for v in Verdict if total]


def ages(told: Sequence[Told]) -> Rows:
    """Time from an observation to each stage of what came of it [ms], over all chunk sets."""
    found: Rows = []
    for stage in STAGES:
        values = [look.ages[stage] for one in told for look in one.looks if stage in look.ages]
        if values:
            said = percentiles(values)
            found.append((stage, *(f"{said[name]:.0f}" for name in ("p50", "p95", "max")), str(len(values))))
    return found


def losses(told: Sequence[Told]) -> Rows:
    """Per topic: messages, rate, what is missing, and the longest gap; topics with a loss first."""
    topics: dict[str, list[Any]] = {}
    for one in told:
        for name, row in one.labels["topics"].items():
            topics.setdefault(name, []).append((row, one.labels["duration_s"]))
    found = []
    for name, rows in topics.items():
        sums = {key: sum(int(row.get(key, 0)) for row, _ in rows) for key in LOST}
        count, seconds = sum(int(row["recorded"]) for row, _ in rows), sum(duration for _, duration in rows)
        rate = f"{count / seconds:.1f}" if seconds > 0 else "–"
        gap = max(float(row.get("longest_gap_s", 0.0)) for row, _ in rows)
        missing = sum(sums.values())
        if missing or name in RATES:
            found.append((missing, (name, str(count), rate, *(str(sums[key]) for key in LOST), f"{gap:.2f}")))
    return [row for _, row in sorted(found, key=lambda pair: -pair[0])]


LOST = ("lost", "dropped", "unwritten")
LOSSES = ("topic", "messages", "per s", *LOST, "longest gap, s")


def listed(told: Sequence[Told]) -> Rows:
    """One row per episode."""
    found: Rows = []
    for one in told:
        labels = one.labels
        missing = sum(int(row.get(key, 0)) for row in labels["topics"].values() for key in LOST)
        wrong = "; ".join(filter(None, (one.fault, *labels["reasons"])))
        spans = labels["interventions"]
        found.append((
            one.name, labels["instruction"] or labels["kind"], labels["outcome"] or "not known",
            labels["message"] or "–",
            f"{labels['duration_s']:.1f}", str(labels["chunk_sets"]), str(labels["decisions"]["rejected"]),
            _listed(Counter(labels["cost_events"])), "–" if one.alarm is None else f"{one.alarm:.1f}",
            f"{len(spans)}, {sum(map(_seconds, spans)):.1f} s" if spans else "none",
            str(missing), f"{labels['state']}{f': {wrong}' if wrong else ''}",
        ))  # fmt: skip
    return found


LISTED = (
    "episode", "instruction", "outcome", "how it ended", "s", "chunk sets", "refusals", "cost events", "first alarm, s",
    "takeovers", "messages missing", "recording",
)  # fmt: skip


def _rate(well: int, n: int) -> str:
    low, high = wilson(well, n)
    return f"{well} of {n}, {percent(well / n)} ({low:.3f} to {high:.3f})" if n else "–"


def _releases(told: Sequence[Told]) -> Rows:
    names = ", ".join(dict.fromkeys(v for one in told for v in one.labels["releases"]))
    return [("release", names)] if names else []


def _takeovers(spans: Sequence[float]) -> str:
    return f"{len(spans)}, {sum(spans):.1f} s in all, longest {max(spans):.1f} s" if spans else "none"


def _silent(told: Sequence[Told]) -> str:
    return "none" if any(one.risk for one in told) else "no failure detector spoke"


def _seconds(span: dict[str, int]) -> float:
    return max(0.0, (span["end_ns"] - span["begin_ns"]) / 1e9) if span["end_ns"] else 0.0


def _listed(counted: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counted.most_common()) or "none"
