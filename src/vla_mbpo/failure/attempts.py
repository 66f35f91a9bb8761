"""Rollouts (training/tape.py) as a failure detector sees them: one look after another, and how it ended."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla_mbpo.failure.scores import FloatArray, Look, Score


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
    """One rollout; None if no policy drove it. Looks after the task was done are left out: nobody waits for them."""
    with np.load(file) as episode:
        if not str(episode["policy"]):
            return None
        at, done = episode["at"], int(episode["success_row"])
        count = len(at) if done < 0 else max(1, int(np.searchsorted(at, done, side="right")))
        features, chunks, joints = (episode[name][:count] for name in ("features", "candidates", "joints"))
        looks = tuple(
            Look(features[i], chunks[i].astype(np.float64), joints[i].astype(np.float64), int(at[i]))
            for i in range(count)
        )
        kind = str(episode["disturbance"]) if "disturbance" in episode else ""
        when = float(episode["disturbed_at"]) if "disturbance" in episode else -1.0
        task, source, policy = (str(episode[name]) for name in ("task", "source", "policy"))
        return Attempt(looks, done >= 0, task, source, policy, int(episode["seed"]), kind, when, file)


def read_all(folders: list[Path]) -> list[Attempt]:
    """All rollouts that a policy drove."""
    files = [file for folder in folders for file in sorted(folder.glob("*.npz")) if ".partial" not in file.name]
    return [attempt for attempt in map(read, files) if attempt is not None]


def curve(attempt: Attempt, scores: list[Score]) -> FloatArray:
    """(scores, looks) of an attempt."""
    for score in scores:
        score.reset()
    return np.array([[score.add(look) for look in attempt.looks] for score in scores])
