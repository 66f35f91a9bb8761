"""An attempt over time as plots: risk against its band, verdicts, decisions, motion."""

from collections import Counter

from vla_mbpo.core.verdict import Verdict
from vla_mbpo.reports.attempt import ACCEPTED, REFUSED, Look, Told
from vla_mbpo.reports.page import Html, row
from vla_mbpo.reports.plot import Column, Plot, Series

POINTS = 300  # of a curve at most
TIME = "s since the attempt's begin"
VERDICTS = (Verdict.SAFE, Verdict.RISKY, Verdict.UNSAFE, Verdict.UNKNOWN)
DECISIONS = ("accepted", "refused by the world model", "refused by the gate's checks")


def plots(told: Told) -> Html:
    """Those of which something was recorded, side by side. Grey: a person was in command."""
    made = [_risk(told), _verdicts(told), _decisions(told), *_motion(told)]
    return row(*(plot.figure() for plot in made if plot is not None))


def _ends(told: Told) -> tuple[float, float]:
    return -0.3, max(0.1, (int(told.labels["end_ns"]) - told.begin) / 1e9)


def _risk(told: Told) -> Plot | None:
    if not told.risk:
        return None
    known = [(score, band) for _, score, band, _ in told.risk if score is not None and band is not None]
    highest, lost = max((score for score, _ in known), default=None), len(told.risk) - len(known)
    words = [f"The risk reaches {highest:.2f}" if highest is not None else "The risk was never known"]
    words.append("no alarm" if told.alarm is None else f"alarm at {told.alarm:.1f} s")
    words += [f"unknown at {lost} looks"] if lost else []
    return Plot(
        "Risk of failure against its band", TIME, "risk", words=f"{', '.join(words)}.", ends=_ends(told),
        lines=(Series("risk", [p[:2] for p in told.risk]), Series("band", [(p[0], p[2]) for p in told.risk])),
        marks=[] if told.alarm is None else [(told.alarm, "alarm")], spans=told.takeovers,
    )  # fmt: skip


def _verdicts(told: Told) -> Plot | None:
    looks = [look for look in told.looks if look.vetted]
    if not looks:
        return None
    counted = told.verdicts()
    words = ", ".join(f"{counted[v.name]} {v.name}" for v in VERDICTS)
    bars = [_column(told, look, [sum(c.verdict == v for c in look.candidates) for v in VERDICTS]) for look in looks]
    return Plot(
        "The world model's verdicts per chunk set", TIME, "candidates", words=f"{words}.", bars=bars,
        parts=[v.name for v in VERDICTS], ends=_ends(told), spans=told.takeovers,
    )  # fmt: skip


def _decisions(told: Told) -> Plot | None:
    if not told.looks:
        return None
    counts = [_decided(look) for look in told.looks]
    words = ", ".join(f"{sum(c[k] for c in counts)} {name}" for k, name in enumerate(DECISIONS))
    whole = Counter(look.whole.split(":")[0] for look in told.looks if look.whole)
    sets = f" Sets refused as a whole: {', '.join(f'{name} {n}' for name, n in whole.items())}." if whole else ""
    bars = [_column(told, look, count) for look, count in zip(told.looks, counts, strict=True)]
    return Plot(
        "The gate's decisions per chunk set", TIME, "candidates", words=f"Candidates: {words}.{sets}", bars=bars,
        parts=DECISIONS, ends=_ends(told), spans=told.takeovers,
    )  # fmt: skip


def _decided(look: Look) -> list[int]:
    refused = [c.checks[:1] == ("imagination",) for c in look.candidates if c.decision == REFUSED]
    return [sum(c.decision == ACCEPTED for c in look.candidates), sum(refused), len(refused) - sum(refused)]


def _column(told: Told, look: Look, heights: list[int]) -> Column:
    return (look.stamp - told.begin) / 1e9, [float(height) for height in heights]


def _motion(told: Told) -> list[Plot]:
    """Speed of the fastest joint and the gripper's opening, as commanded."""
    inside = [point for point in told.motion if 0.0 <= point[0] <= _ends(told)[1]]
    if not inside:
        return []
    thin = inside[:: max(1, len(inside) // POINTS)]
    fastest = max(speed for _, speed, _ in inside)
    costs = ", ".join(f"{name} at {time:.1f} s" for time, name in told.costs)
    words = f"At most {fastest:.2f} rad/s. {f'Cost events: {costs}.' if costs else 'No cost event.'}"
    speed = Plot(
        "Commanded speed of the fastest joint", TIME, "rad/s", lines=[Series("speed", [p[:2] for p in thin])],
        words=words, marks=told.costs, ends=_ends(told), spans=told.takeovers,
    )  # fmt: skip
    openings = [(time, opening) for time, _, opening in thin if opening is not None]
    if not openings:
        return [speed]
    low, high = min(v for _, v in openings), max(v for _, v in openings)
    grip = Plot(
        "Commanded opening of the gripper", TIME, "cm", lines=[Series("opening", openings)],
        words=f"Between {low:.1f} and {high:.1f} cm.", marks=told.costs, ends=_ends(told),
        spans=told.takeovers,
    )  # fmt: skip
    return [speed, grip]
