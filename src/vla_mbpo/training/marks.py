"""What people and safety layers said about logged chunks: corrections, what led to a takeover, what was refused.

Read from the optional arrays of rollouts (training/tape.py); a log without them has no marks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

STILL = 5e-4  # rad per row (m for the gripper); what is slower is waiting: for a person's hand, or for "engage"


@dataclass(frozen=True)
class Marks:
    """Of N looks, in the order of ``Rollouts``; H rows of the chunk executed from each.

    Attributes:
        corrected: (N, H) rows that a person steered, from the look's first one on, in an attempt that went well.
        leading: (N, H) rows that the policy drove within some time before a takeover or an alarm.
        own: (N, H) rows that were driven without a person.
        look, plan: (R,) looks and (R, H, A) chunks [rad relative to the measured joints, m] of candidates that were
            refused, or that an alarm was about.
    """

    corrected: NDArray[np.bool_]
    leading: NDArray[np.bool_]
    own: NDArray[np.bool_]
    look: NDArray[np.int64]
    plan: NDArray[np.float32]

    @classmethod
    def none(cls, count: int, horizon: int, width: int) -> "Marks":
        """Of ``count`` looks about which nobody said anything; ``width``: joints and gripper."""
        nothing = np.zeros((count, horizon), bool)
        look, plan = np.zeros(0, np.int64), np.zeros((0, horizon, width), np.float32)
        return cls(nothing, nothing, ~nothing, look, plan)

    @classmethod
    def read(cls, files: list[Path], horizon: int, before: int) -> "Marks":
        """Of some rollouts, at least one; ``before``: rows before a takeover or an alarm that led to it."""
        parts: list[Marks] = []
        base = 0
        for file in files:
            with np.load(file) as episode:
                made = _marks(episode, horizon, before)
            parts.append(replace(made, look=made.look + base))
            base += len(made.own)
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))


def _marks(episode: Mapping[str, Any], horizon: int, before: int) -> Marks:
    """Of one rollout."""
    at, rows, done = episode["at"].astype(np.int64), len(episode["set_point"]), int(episode["success_row"])
    human = episode["human"] if "human" in episode else np.zeros(rows, bool)
    alarm = episode["alarm"] if "alarm" in episode else np.zeros(len(at), bool)
    until = done if done >= 0 else rows  # what comes after the task was done is no part of it
    index = at[:, None] + np.arange(horizon)
    inside = index < min(until + 1, rows)
    index = np.minimum(index, rows - 1)
    theirs, under_way = human[index], at < until
    steered = steering(human, episode["set_point"], episode["opening"])[index] & inside & under_way[:, None]
    corrected = np.cumprod(steered, 1).astype(bool) & (done >= 0)
    last = int(np.flatnonzero(human).max(initial=-1))
    # Where the policy went on and succeeded, the alarm was a false one.
    alarmed = alarm & under_way & ((at <= last) | (done < 0))
    leading = np.zeros_like(theirs)
    begins = np.flatnonzero(human & ~np.r_[False, human[:-1]])
    for event in np.concatenate([begins[begins < until], at[alarmed]]):
        near = under_way & (at >= event - before) & (at < event)
        leading |= near[:, None] & (index < event) & inside & ~theirs
    none = np.zeros((len(at), 0, horizon, episode["set_point"].shape[1] + 1), np.float32)
    look, plan = _refused(episode, alarmed, under_way, none)
    # An attempt that fails ends before its last chunks do; what stands in for their other rows was not driven.
    own = (at[:, None] + np.arange(horizon) < rows) & ~theirs
    return Marks(corrected, leading, own, look, plan)


def steering(human: NDArray[np.bool_], set_point: NDArray, opening: NDArray) -> NDArray[np.bool_]:
    """(T,) rows of ``human`` (T,) in which the person steered: each turn without the waiting at its ends.

    A turn begins when a takeover is asked for and lasts until autonomy is engaged again; the arm stands at first and at
    last, and a policy that copied that would wait for nobody. A pause between two motions is the person's.
    """
    speed = np.abs(np.diff(np.concatenate([set_point, opening[:, None]], 1), axis=0, prepend=np.nan)).max(1)
    moving, found = human & (speed > STILL), np.zeros_like(human)
    edges = np.flatnonzero(np.diff(np.r_[False, human, False]))
    for begin, end in edges.reshape(-1, 2):
        active = begin + np.flatnonzero(moving[begin:end])
        if len(active):
            found[active[0] : active[-1] + 1] = True
    return found


def _refused(
    episode: Mapping[str, Any], alarmed: NDArray, under_way: NDArray, none: NDArray
) -> tuple[NDArray, NDArray]:
    """Looks and plans of refused candidates; at a look with an alarm also the first that was not refused."""
    plans = episode["candidates"] if "candidates" in episode else none
    against = np.array(episode["vetoed"]) if "vetoed" in episode else np.zeros(plans.shape[:2], bool)
    passed = ~against & np.isfinite(plans).all((2, 3))
    for number in np.flatnonzero(alarmed & passed.any(1)):
        against[number, passed[number].argmax()] = True
    against &= np.isfinite(plans).all((2, 3)) & under_way[:, None]
    look, candidate = np.nonzero(against)
    plan = plans[look, candidate].astype(np.float32)
    plan[..., :-1] -= episode["joints"][look, None]
    return look, plan
