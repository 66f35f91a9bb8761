"""Rollouts (training/tape.py) as a failure detector sees them: one look after another, and how it ended."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from vla_mbpo.failure.scores import FloatArray, Look, Score, Turns
from vla_mbpo.policy.runtime import REPLAN_ROWS
from vla_mbpo.training.episodes import rollout_files


@dataclass(frozen=True)
class Attempt:
    """A policy's attempt.

    Attributes:
        looks: until the attempt was over, at least one.
        success: the task was done.
        task, source, policy, seed: as on the tape.
        disturbance: what went wrong on the table; empty: nothing did.
        disturbed_at: when [s]; below 0: not.
        file: the tape.
    """

    looks: tuple[Look, ...]
    success: bool
    task: str
    source: str
    policy: str
    seed: int
    disturbance: str
    disturbed_at: float
    file: Path


def read(file: Path) -> Attempt | None:
    """One rollout; None if no policy drove it, or if nobody knows how it would have ended under the policy.

    Looks after the task was done are left out: nobody waits for them. So are those at which the policy was not asked.
    """
    with np.load(file) as episode:
        if not str(episode["policy"]):
            return None
        at, (part, success) = episode["at"], _driven(episode)
        features, chunks, joints = (episode[name] for name in ("features", "candidates", "joints"))
        asked = np.isfinite(features).all(1) & np.isfinite(chunks).all((1, 2, 3))
        looks = tuple(
            Look(features[i], chunks[i].astype(np.float64), joints[i].astype(np.float64), int(at[i]))
            for i in np.arange(len(at))[part][asked[part]]
        )
        if not looks:
            return None
        kind = str(episode["disturbance"]) if "disturbance" in episode else ""
        when = float(episode["disturbed_at"]) if "disturbance" in episode else -1.0
        task, source, policy = (str(episode[name]) for name in ("task", "source", "policy"))
        return Attempt(looks, success, task, source, policy, int(episode["seed"]), kind, when, file)


def _driven(episode: Mapping[str, Any]) -> tuple[slice, bool]:
    """Looks of the policy's last turn of which the end is known, and whether it went well; no looks: of none it is.

    Autonomy that is engaged again after a takeover is a new turn, as for the detector on the robot. A policy that never
    gets another turn had failed when the person took over, unless that was for an alarm: a detector that learned from
    its own alarms would only become surer of them.
    """
    at, done = episode["at"], int(episode["success_row"])
    count = len(at) if done < 0 else max(1, int(np.searchsorted(at, done, side="right")))
    human = episode["human"] if "human" in episode else np.zeros(0, bool)
    held = np.flatnonzero(human[: done + 1] if done >= 0 else human)  # who takes the arm after that helps nobody
    aborted = bool(episode["aborted"]) if "aborted" in episode else False
    again = int(np.searchsorted(at, held[-1], side="right")) if len(held) else 0
    if again < count and not aborted:
        return slice(again, count), done >= 0
    before = int(np.searchsorted(at, held[0])) if len(held) else 0
    return slice(0, 0 if episode["alarm"][:before].any() else before), False


def cut_short(file: Path, policy: str) -> bool:
    """Whether an alarm ended a turn of ``policy`` in a rollout: the attempt was stopped, or a person took over.

    What the attempts without such an alarm are like says nothing of how often there is a false one.
    """
    with np.load(file) as episode:
        if str(episode["policy"]) != policy or "alarm" not in episode or not episode["alarm"].any():
            return False
        human, row = episode.get("human", np.zeros(0, bool)), int(episode["at"][episode["alarm"].argmax()])
        return bool(episode.get("aborted", False)) or bool(human[row:].any())


def read_all(folders: Iterable[str | Path], robot: str = "sim_panda") -> list[Attempt]:
    """All rollouts that a policy drove, recorded ones of ``robot`` too."""
    return [attempt for attempt in map(read, rollout_files(folders, robot)) if attempt is not None]


def period(attempts: Sequence[Attempt]) -> int:
    """Rows from one look to the next, in most cases; 8 where no attempt has two."""
    steps = [after.row - look.row for one in attempts for look, after in pairwise(one.looks)]
    return max(1, round(float(np.median(steps)))) if steps else REPLAN_ROWS


def curve(attempt: Attempt, scores: list[Score], period: int = REPLAN_ROWS) -> FloatArray:
    """(scores, looks) of an attempt, its looks counted as on the robot (scores.Turns); a missing one is as the last.

    Of looks that share a number each score counts with the highest, as the robot has lived them all.
    """
    for score in scores:
        score.reset()
    turns, found = Turns(period), dict[int, FloatArray]()
    for look in attempt.looks:
        if (number := turns.number(look)) is not None:
            said = np.array([score.add(look) for score in scores], float)
            found[number] = np.maximum(found.get(number, said), said)
    numbers = list(found)
    last = np.searchsorted(numbers, np.arange(numbers[-1] + 1), side="right") - 1
    return np.array(list(found.values()))[last].T
