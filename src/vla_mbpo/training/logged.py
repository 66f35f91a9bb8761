"""The log that dream RL learns from: observations, where chunks are tried, what went well; and whether it will do."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vla_mbpo.core.errors import require
from vla_mbpo.training.dream_world import DreamWorld, States
from vla_mbpo.training.episodes import check_scenes, overlapping
from vla_mbpo.training.marks import Marks
from vla_mbpo.training.overview import overview
from vla_mbpo.training.rollout_data import Rollouts
from vla_mbpo.training.world_model import held_out, to_calibrate

LEAST_FAILURES = 0.1  # of the logged attempts


@dataclass(frozen=True)
class Log:
    """Logged attempts of one policy, on the dream world's device.

    Attributes:
        states: all looks.
        chunks: (N, H, A) what was executed from them, as the policy gives it.
        pictures: head and wrist view, each (N, s, s, 3) uint8.
        starts: per task, looks before it was done: where chunks are tried.
        good: per task, those of attempts that went well, the policy's own.
        marks: what people and safety layers said about the looks.
        facts: attempts, failures, observations, admission of the world model, overview of the episodes; looks that a
            person corrected, looks that led to a takeover or alarm, refused candidates.
    """

    states: States
    chunks: Tensor
    pictures: tuple[Tensor, ...]
    starts: list[Tensor]
    good: list[Tensor]
    marks: Marks
    facts: dict[str, Any]

    @classmethod
    def read(
        cls, files: list[Path], folders: tuple[str, ...], world: DreamWorld, version: str, gap: float, before: int = 0
    ) -> "Log":
        """Rollouts of the policy's ``version`` from ``files``, of ``folders``.

        ``gap``: the largest that the world model may have (training/admission.py); ``before``: see ``Marks.read``.

        Raises:
            ConfigError: another policy's rollouts, scenes that are not for training, too few failures, no success of
                the policy's own, or a world model that does not know how these attempts ended.
        """
        states, data = world.read(files)
        check_scenes(data.facts)
        strangers = sorted({fact["policy"] for fact in data.facts} - {version})
        require(not strangers, "data", strangers, f"rollouts of {version} only")
        fails = float(np.mean([not (fact["success"] or fact["aborted"]) for fact in data.facts]))
        require(fails >= LEAST_FAILURES, "failures", f"{fails:.2f}", f"{LEAST_FAILURES} of the logged attempts or more")
        looks = _under_way(data)
        own = looks[data.unaided[looks]]  # what a person did, or saved, is not the policy's
        admitted = world.admission(states, data, _unseen(data, own[data.whole[own, 0]], folders, world)).check(gap)
        well = np.array([fact["success"] for fact in data.facts])[data.episode[own]] & data.whole[own, 0]
        require(well.any(), "data", "no success of the policy's own", "attempts that went well without a person")
        facts: dict[str, Any] = {"attempts": len(data.facts), "failures": fails, "observations": len(looks)}
        facts |= {"admission": admitted, "episodes": overview(files)}
        pictures = tuple(torch.from_numpy(view).to(states.words.device) for view in data.pictures)
        chunks = world.standardised(data, torch.arange(len(states)))
        marks = _marks(files, chunks, before)
        facts |= {"corrected": int(marks.corrected.any(1).sum()), "leading": int(marks.leading.any(1).sum()),
                  "refused": len(marks.look)}  # fmt: skip
        return cls(states, chunks, pictures, _by_task(data, looks), _by_task(data, own[well]), marks, facts)


def evenly(groups: list[Tensor], count: int) -> Tensor:
    """``count`` of the indices, each group with the same chance: else the task that takes longest counts most."""
    which = torch.randint(0, len(groups), (count,))
    return torch.stack([groups[g][torch.randint(0, len(groups[g]), ())] for g in which.tolist()])


def _marks(files: list[Path], chunks: Tensor, before: int) -> Marks:
    count, horizon, width = chunks.shape
    return Marks.read(files, horizon, before) if files else Marks.none(count, horizon, width)


def _by_task(data: Rollouts, looks: NDArray[np.int64]) -> list[Tensor]:
    tasks = np.array([fact["task"] for fact in data.facts])[data.episode[looks]]
    return [torch.from_numpy(looks[tasks == task]) for task in np.unique(tasks)]


def _under_way(data: Rollouts) -> NDArray[np.int64]:
    """Looks before the task was done."""
    done = np.array([fact["success_row"] for fact in data.facts])[data.episode]
    return np.flatnonzero((done < 0) | (data.at < done))


def _unseen(data: Rollouts, looks: NDArray[np.int64], folders: tuple[str, ...], world: DreamWorld) -> NDArray[np.int64]:
    """Those of the looks that the world model was neither trained nor calibrated on.

    All, unless it was trained on this log, too, or on something in the same folder.
    """
    if not overlapping(folders, world.trained_on):
        return looks
    seeds = [fact["seed"] for fact in data.facts]
    return looks[(held_out(seeds) & ~to_calibrate(seeds))[data.episode[looks]]]
