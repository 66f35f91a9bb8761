"""What was said then and what is said now, joined by the stamp of the observation. No rclpy."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from vla_mbpo.core.verdict import Verdict
from vla_mbpo.replay.said import Judgement, Proposal, Risk, Said

KINDS = ("sets", "verdicts", "risks")
NAMES = tuple(verdict.name for verdict in Verdict)


def compare(then: Said, now: Said) -> dict[str, Any]:
    """Plain values for JSON; what is not a finite number is left out of statistics and None elsewhere.

    ``sets``, ``verdicts``, ``risks``: how many then, now, in both (``joined``) and in one only, and how far apart those
    in both are. ``looks``: the same for each observation of either, in their order; ``t`` in s since the first.
    """
    looks = [_look(stamp, then, now) for stamp in sorted(_stamps(then) | _stamps(now))]
    for look in looks:
        look["t"] = round((look["stamp"] - looks[0]["stamp"]) / 1e9, 3)
    found: dict[str, Any] = {kind: _counts(getattr(then, kind), getattr(now, kind)) for kind in KINDS}
    for kind, told in (("sets", _sets), ("verdicts", _verdicts), ("risks", _risks)):
        found[kind] |= told(looks)
    found["verdicts"] |= {side: _tally(said.verdicts.values()) for side, said in (("all_then", then), ("all_now", now))}
    found["sets"] |= {"malformed": {"then": then.malformed, "now": now.malformed}}
    return found | {"looks": looks}


def joined(found: Mapping[str, Any]) -> int:
    """Of how many things something can be said in a result of ``compare``."""
    return sum(int(found[kind]["joined"]) for kind in KINDS)


def _stamps(said: Said) -> set[int]:
    return set(said.sets) | set(said.verdicts) | set(said.risks)


def _counts(then: Mapping[int, Any], now: Mapping[int, Any]) -> dict[str, int]:
    both = len(then.keys() & now.keys())
    return {
        "then": len(then),
        "now": len(now),
        "joined": both,
        "only_then": len(then) - both,
        "only_now": len(now) - both,
    }


def _tally(said: Iterable[Judgement]) -> dict[str, Any]:
    """Candidates by verdict, and sets of which nothing is known by the reason."""
    kept = list(said)
    unknown = Counter(one.reason for one in kept if set(one.verdicts) <= {Verdict.UNKNOWN})
    count = Counter(verdict.name for one in kept for verdict in one.verdicts)
    return {"candidates": {name: count[name] for name in NAMES}, "unknown_sets": dict(unknown.most_common())}


def _look(stamp: int, then: Said, now: Said) -> dict[str, Any]:
    """Everything about one observation; a key is there if both sides said something."""
    look: dict[str, Any] = {"stamp": stamp}
    for kind, told in (("sets", _set), ("verdicts", _verdict), ("risks", _risk)):
        sides = [getattr(said, kind).get(stamp) for said in (then, now)]
        look[kind] = [side is not None for side in sides]
        if all(look[kind]):
            look |= told(*sides)
    if stamp in then.chosen:
        look["chosen_then"] = then.chosen[stamp]
    if stamp in now.verdicts:
        look["first_now"] = _first(now.verdicts[stamp])
    return look


def _set(then: Proposal, now: Proposal) -> dict[str, Any]:
    """Largest differences over rows and joints; ``spread_then_rad``: of the first two candidates of the same set."""
    if then.positions.shape[1:] != now.positions.shape[1:]:
        return {"other_shape": True}
    look: dict[str, Any] = {
        "same_inputs": _same_inputs(then, now),
        "first_rad": _most(then.positions[0], now.positions[0]),
        "mean_rad": _most(then.positions.mean(0), now.positions.mean(0)),
    }
    if then.gripper.shape[1:] == now.gripper.shape[1:]:
        look["first_opening_m"] = _most(then.gripper[0], now.gripper[0])
    if len(then.positions) > 1:
        look["spread_then_rad"] = _most(then.positions[0], then.positions[1])
    return look


def _same_inputs(then: Proposal, now: Proposal) -> bool:
    """Whether both policies had the same joint state and the same committed rows; the pictures are the same."""
    d = then.committed
    same = d == now.committed and np.array_equal(then.measured, now.measured)
    return bool(same and np.array_equal(then.positions[0, :d], now.positions[0, :d]))


def _verdict(then: Judgement, now: Judgement) -> dict[str, Any]:
    pairs = zip(then.scores, now.scores, strict=False)
    return {
        "verdicts_then": [one.name for one in then.verdicts],
        "verdicts_now": [one.name for one in now.verdicts],
        "score_difference": [_finite(abs(b - a)) for a, b in pairs],
        "order_then": list(then.order),
        "order_now": list(now.order),
    }


def _risk(then: Risk, now: Risk) -> dict[str, Any]:
    known = then.known and now.known
    return {
        "risk_known": [then.known, now.known],
        "risk_then": _finite(then.score),
        "risk_now": _finite(now.score),
        "risk_difference": _finite(abs(now.score - then.score)) if known else None,
        "alarm": [then.alarm, now.alarm],
    }


def _sets(looks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = ("first_rad", "mean_rad", "first_opening_m", "spread_then_rad")
    made: dict[str, Any] = {name: _statistics(look.get(name) for look in looks) for name in names}
    alike = [look for look in looks if look.get("same_inputs")]
    return made | {
        "other_shape": sum("other_shape" in look for look in looks),
        "same_inputs": len(alike),
        "first_rad_same_inputs": _statistics(look["first_rad"] for look in alike),
    }


def _verdicts(looks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """``table``: candidates by verdict then (rows) and now. Candidates that one side lacks are in ``unpaired``."""
    both = [look for look in looks if "verdicts_then" in look]
    table = {row: dict.fromkeys(NAMES, 0) for row in NAMES}
    unpaired = 0
    for look in both:
        unpaired += abs(len(look["verdicts_then"]) - len(look["verdicts_now"]))
        for a, b in zip(look["verdicts_then"], look["verdicts_now"], strict=False):
            table[a][b] += 1
    ordered = [look for look in both if look["order_then"] and look["order_now"]]
    decided = [look for look in looks if "chosen_then" in look and "first_now" in look]
    return {
        "table": table,
        "agree": sum(table[name][name] for name in NAMES),
        "candidates": sum(sum(row.values()) for row in table.values()),
        "unpaired": unpaired,
        "score": _statistics(value for look in both for value in look["score_difference"]),
        "ordered": len(ordered),
        "same_first": sum(look["order_then"][0] == look["order_now"][0] for look in ordered),
        "same_order": sum(look["order_then"] == look["order_now"] for look in ordered),
        "decided": len(decided),
        "chosen_is_first_now": sum(look["chosen_then"] == look["first_now"] for look in decided),
        "nothing_now": sum(look["first_now"] is None for look in decided),
    }


def _risks(looks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """``alarms``: looks with an alarm; ``first_alarm_s``: when the first was, None: never, among those in both."""
    both = [look for look in looks if "alarm" in look]
    alarms = {side: sum(look["alarm"][i] for look in both) for i, side in enumerate(("then", "now"))}
    first = {
        side: next((look["t"] for look in both if look["alarm"][i]), None) for i, side in enumerate(("then", "now"))
    }
    return {
        "known": sum(all(look["risk_known"]) for look in both),
        "score": _statistics(look["risk_difference"] for look in both),
        "alarms": {**alarms, "both": sum(all(look["alarm"]) for look in both)},
        "first_alarm_s": first,
    }


def _first(said: Judgement) -> int | None:
    return said.order[0] if said.order else None


def _most(one: Any, other: Any) -> float | None:
    return _finite(float(np.abs(one - other).max(initial=0.0)))


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _statistics(values: Iterable[float | None]) -> dict[str, float]:
    """``median``, ``p95`` and ``max``; empty if there are none."""
    kept = [value for value in values if value is not None]
    if not kept:
        return {}
    median, high = np.percentile(kept, [50, 95])
    return {"median": float(median), "p95": float(high), "max": float(max(kept))}
