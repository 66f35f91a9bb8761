"""The result of a comparison (replay/comparison.py) as a short table."""

from collections.abc import Mapping, Sequence
from typing import Any

from vla_mbpo.replay.comparison import NAMES

KINDS = {"sets": "chunk sets", "verdicts": "verdicts", "risks": "risks"}
NUMBERS = (  # kind, statistic, words
    ("sets", "first_rad", "first candidate, rad"),
    ("sets", "mean_rad", "mean candidate, rad"),
    ("sets", "first_opening_m", "first candidate's opening, m"),
    ("sets", "spread_then_rad", "two candidates of one set then, rad"),
    ("verdicts", "score", "score of a candidate"),
    ("risks", "score", "risk"),
)
WIDTH = 36
REASONS = 3  # the most frequent ones


def text(found: Mapping[str, Any]) -> str:
    """Lines for people: counts, differences, agreement."""
    lines = [_row("", ["then", "now", "joined", "only then", "only now"])]
    for kind, words in KINDS.items():
        counts = found[kind]
        lines.append(_row(words, [counts[name] for name in ("then", "now", "joined", "only_then", "only_now")]))
    told = [(words, found[kind][name]) for kind, name, words in NUMBERS if found[kind][name]]
    if told:
        lines += ["", _row("largest difference, then and now", ["median", "p95", "max"])]
        lines += [_row(words, [f"{value:.3g}" for value in numbers.values()]) for words, numbers in told]
    lines += _inputs(found["sets"])
    return "\n".join([*lines, *_verdicts(found["verdicts"]), *_risks(found["risks"]), *_odd(found["sets"])])


def _inputs(found: Mapping[str, Any]) -> list[str]:
    if not found["joined"]:
        return []
    alike = found["first_rad_same_inputs"]
    far = f"; of these the first candidate is off by {alike['max']:.3g} rad at most" if alike else ""
    return [f"same joint state and committed rows: {found['same_inputs']} of {found['joined']} sets{far}"]


def _verdicts(found: Mapping[str, Any]) -> list[str]:
    lines = []
    if found["joined"]:
        lines += ["", _row("candidates: then (rows) and now", NAMES)]
        lines += [_row(f"  {name}", found["table"][name].values()) for name in NAMES]
        lines.append(f"same verdict: {found['agree']} of {found['candidates']} candidates")
    elif found["then"] or found["now"]:
        lines += ["", _row("candidates", NAMES)]
        lines += [_row(f"  {side}", found[f"all_{side}"]["candidates"].values()) for side in ("then", "now")]
    if found["ordered"]:
        first, order = found["same_first"], found["same_order"]
        lines.append(f"same first candidate: {first} of {found['ordered']} orders, same order: {order}")
    for side in ("then", "now"):
        said = found[f"all_{side}"]["unknown_sets"].items()
        lines += [f"nothing known {side} of {count} sets: {reason}" for reason, count in list(said)[:REASONS]]
    return lines + _chosen(found)


def _chosen(found: Mapping[str, Any]) -> list[str]:
    """The gate's choice then beside the first of the order now."""
    if not found["decided"]:
        return []
    nothing = f"; nothing would be executed: {found['nothing_now']}" if found["nothing_now"] else ""
    same, decided = found["chosen_is_first_now"], found["decided"]
    return [f"accepted then and first now: {same} of {decided} accepted candidates{nothing}"]


def _risks(found: Mapping[str, Any]) -> list[str]:
    if not found["joined"]:
        return []
    alarms, first = found["alarms"], found["first_alarm_s"]
    when = ", ".join(f"{side} {'never' if at is None else f'{at:.2f} s'}" for side, at in first.items())
    said = f"alarm: {alarms['then']} looks then, {alarms['now']} now, {alarms['both']} both; first: {when}"
    return ["", f"risk known then and now: {found['known']} of {found['joined']}", said]


def _odd(found: Mapping[str, Any]) -> list[str]:
    odd = {"of another shape": found["other_shape"]} | {
        f"whose sizes disagree, {side}": count for side, count in found["malformed"].items()
    }
    return [f"chunk sets {words}: {count}" for words, count in odd.items() if count]


def _row(words: str, values: Sequence[Any] | Any) -> str:
    return f"{words:<{WIDTH}}" + "".join(f"{value!s:>10}" for value in values)
