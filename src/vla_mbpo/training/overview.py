"""What is in a set of rollouts (training/tape.py), so that one sees it before training: counts and shares."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vla_mbpo.core.errors import require

THIRDS = ("first", "middle", "last")  # of the rows of an attempt


def overview(files: Sequence[Path]) -> dict[str, Any]:
    """Plain values.

    Returns:
        ``attempts``; ``live``: how many of them were recorded on the running stack; shares of the attempts:
        ``success``, ``failure``, ``aborted`` (how they would have ended nobody knows), ``veto`` (a candidate was
        refused at some look), ``alarm`` (the failure detector raised one), ``takeover`` (a person was in command);
        ``looks``, of them ``looks_with_veto``, ``looks_with_alarm`` and ``looks_of_a_person``, each in every third of
        the attempt; ``tasks`` and ``policies``: attempts of each.
    """
    counted: Counter[str] = Counter()
    looks = {name: [0, 0, 0] for name in ("looks", "looks_with_veto", "looks_with_alarm", "looks_of_a_person")}
    tasks: Counter[str] = Counter()
    policies: Counter[str] = Counter()
    for file in files:
        with np.load(file) as episode:
            require("success_row" in episode, "rollout", str(file), "arrays of a rollout (training/tape.py)")
            facts = _facts(episode)
            tasks[str(episode["task"])] += 1
            policies[str(episode["policy"]) or "none"] += 1
        counted.update(name for name, value in facts["of_attempt"].items() if value)
        for name, places in facts["of_looks"].items():
            for third in range(len(THIRDS)):
                looks[name][third] += int((places == third).sum())
    shares = "success failure aborted veto alarm takeover".split()
    return {
        "attempts": len(files),
        "live": counted["live"],
        **{name: round(counted[name] / max(1, len(files)), 4) for name in shares},
        **{name: dict(zip(THIRDS, values, strict=True)) for name, values in looks.items()},
        "tasks": dict(sorted(tasks.items())),
        "policies": dict(sorted(policies.items())),
    }


def _facts(episode: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Of one rollout: what is so of the attempt, and in which third the looks are of which something is so."""
    at, rows = episode["at"], len(episode["set_point"])
    third = np.minimum(len(THIRDS) * at // max(1, rows), len(THIRDS) - 1)
    nothing = np.zeros(len(at), bool)
    veto = episode["vetoed"].any(1) if "vetoed" in episode else nothing
    alarm = episode["alarm"] if "alarm" in episode else nothing
    human = episode["human"] if "human" in episode else np.zeros(rows, bool)
    aborted = bool(episode["aborted"]) if "aborted" in episode else False
    done = int(episode["success_row"]) >= 0
    return {
        "of_attempt": {
            "live": "made_of" in episode,
            "success": done,
            "failure": not done and not aborted,
            "aborted": aborted,
            "veto": veto.any(),
            "alarm": alarm.any(),
            "takeover": human.any(),
        },
        "of_looks": {
            "looks": third,
            "looks_with_veto": third[veto],
            "looks_with_alarm": third[alarm],
            "looks_of_a_person": third[human[at]],
        },
    }


def table(said: Mapping[str, Any]) -> str:
    """``overview`` as lines to read."""
    shares = "success failure aborted veto alarm takeover".split()
    lines = [f"attempts {said['attempts']}, {said['live']} of them recorded live"]
    lines += [f"  {name:18} {said[name]:.3f}" for name in shares]
    lines += [f"{'looks':20} {'  '.join(f'{third:>7}' for third in THIRDS)}"]
    for name, what in (
        ("looks", "all"),
        ("looks_with_veto", "with a veto"),
        ("looks_with_alarm", "with an alarm"),
        ("looks_of_a_person", "of a person"),
    ):
        lines.append(f"  {what:18} {'  '.join(f'{said[name][third]:7}' for third in THIRDS)}")
    for kind in ("tasks", "policies"):
        lines.append(kind)
        lines += [f"  {name:30} {count}" for name, count in said[kind].items()]
    return "\n".join(lines)
