"""Episodes as examples for supervised finetuning: one reader, whatever they are kept as.

Demonstrations (training/demonstrations.py) are what they are. Of attempts (rollouts, recordings, datasets;
training/episodes.py) those are examples that went well, in which nothing was disturbed on purpose, and not in scenes to
test with. What is learned is what the arm was commanded, whoever did it: where a person took over, what the person did,
and what the policy did after the last takeover. What it had done before is left out: it is why somebody had to take
over. So are moments from which nothing was commanded for a chunk's length: the arm waited, for a person or for a chunk
that passes. ``AFTER_SUCCESS`` rows after the end belong to it, as they do in demonstrations.

Others can be watched: what is seen in them says where things are, and what was done counts for nothing, so that failed
and random attempts will do.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.sim.instructions import instruction_of
from vla_mbpo.sim.tasks import TASKS
from vla_mbpo.training.demonstrations import AFTER_SUCCESS
from vla_mbpo.training.episodes import to_learn_from

DISTURBED = ("clumsy", "random", "unguarded")  # sources of rollouts that are commanded something wrong on purpose
WAITING = 16  # rows
STILL = 1e-3  # rad, m; what moves less in WAITING rows waits
PER_LOOK = ("head", "wrist", "joints", "velocities", "gripper", "points")


def chosen(files: Iterable[Path], per_task: int = 0, watched: bool = False) -> list[Path]:
    """Those that are examples, the first ``per_task`` of each task, or all. Says how many are not, and why.

    ``watched``: those that can be watched instead.

    Raises:
        ConfigError: a file is no episode; it is named.
    """
    kept: dict[str, list[Path]] = {}
    others: Counter[str] = Counter()
    order = []
    for file in files:
        task, reason = _looked_into(file, watched)
        if reason:
            others[reason] += 1
            continue
        kept.setdefault(task, []).append(file)
        order.append(file)
    if others:
        told = ", ".join(f"{count} {reason}" for reason, count in others.most_common())
        print(f"{others.total()} of {len(order) + others.total()} episodes are no examples: {told}", flush=True)
    return [file for group in kept.values() for file in group[:per_task]] if per_task else order


def read(file: Path, watched: bool = False) -> dict[str, Any]:
    """Arrays of training/demonstrations.py of an example, with ``task`` and ``seed``.

    ``watched``: all its looks, and no row of it is clean.
    """
    with np.load(file) as episode:
        if "target" in episode:
            found = {name: episode[name] for name in episode.files}
            return found | ({"clean": np.zeros(len(found["target"]), bool)} if watched else {})
        rows, looks = followed(episode)
        if watched:
            rows, looks = np.zeros(len(episode["set_point"]), bool), np.ones(len(episode["at"]), bool)
        end = len(rows)
        return {
            "task": str(episode["task"]),
            "seed": int(episode["seed"]),
            "instruction": instruction_of(episode),
            "target": episode["set_point"][:end],
            "gripper_target": episode["opening"][:end],
            "clean": rows,
            "at": episode["at"][looks],
            **{name: episode[name][looks] for name in (*PER_LOOK, "things") if name in episode},
        }


def followed(episode: Mapping[str, Any]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Of an attempt that went well, up to its end: which rows are an example (T,), and which of all looks (M,)."""
    done, commanded = int(episode["success_row"]), episode["set_point"]
    number = np.arange(min(done + 1 + AFTER_SUCCESS, len(commanded)))
    human = episode["human"][: len(number)] if "human" in episode else np.zeros(len(number), bool)
    after = human & (number > done)  # who takes the arm then shows something else
    human = human & ~after
    rows = (human | (number > np.flatnonzero(human).max(initial=-1))) & ~after
    rows &= ~_waiting(np.concatenate([commanded, episode["opening"][:, None]], 1)[: len(number)]) | (number >= done)
    at = episode["at"]
    return rows, (at < len(rows)) & rows[np.minimum(at, len(rows) - 1)]


def _waiting(commanded: NDArray[np.floating]) -> NDArray[np.bool_]:
    """(T,) rows from which nothing is commanded (T, n) for WAITING rows; what comes after the end stands still."""
    ahead = np.minimum(np.arange(len(commanded))[:, None] + np.arange(WAITING), len(commanded) - 1)
    return (np.ptp(commanded[ahead], axis=1) < STILL).all(1)


def _looked_into(file: Path, watched: bool) -> tuple[str, str]:
    """Task of an episode, and why it is no example, or cannot be ``watched``, or an empty string."""
    try:
        with np.load(file) as episode:
            return str(episode["task"]), _unwatchable(episode) if watched else _against(episode)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        what = f"an episode of training ({type(error).__name__}: {error})"
        raise ConfigError("data", str(file), what) from None


def _against(episode: Mapping[str, Any]) -> str:
    if "target" in episode:
        return ""
    if str(episode["source"]) in DISTURBED or "hits" in episode or str(episode.get("disturbance", "")):
        return "disturbed on purpose"
    if _held_out(episode) or not to_learn_from(str(episode["source"]), int(episode["seed"])):
        return "of scenes or tasks to test with"
    if bool(episode.get("aborted", False)):
        return "aborted"
    if int(episode["success_row"]) < 0:
        return "failed"
    return "" if followed(episode)[1].any() else "without a look to learn from"


def _unwatchable(episode: Mapping[str, Any]) -> str:
    if _held_out(episode) or not to_learn_from(str(episode.get("source", "")), int(episode["seed"])):
        return "of scenes or tasks to test with"
    return "" if np.isfinite(episode["points"]).all() else "in which nobody knew where things were"


def _held_out(episode: Mapping[str, Any]) -> bool:
    """Of the tabletop's tasks; another world's episodes name their task themselves, and hold none back."""
    task = str(episode["task"])
    return TASKS[task].held_out if task in TASKS or "instruction" not in episode else False
