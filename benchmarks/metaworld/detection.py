"""The failure detector on Meta-World: ``benchmarks/detector.py`` on other rollouts."""

import multiprocessing
from pathlib import Path
from typing import Any

from benchmarks.detector import split, with_foresight
from benchmarks.metaworld.tasks import ROBOT
from vla_mbpo.core.errors import require
from vla_mbpo.failure.attempts import read_all
from vla_mbpo.paths import bundle_dir
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.processes import end_with_parent

PARTS = ("train", "calibration", "test")


def detect(
    data: Path, bundle: str, tasks: tuple[str, ...], samples: int, unseen: int, world_model: str = ""
) -> dict[str, Any]:
    """Of each split: ROC-AUC of every score and of the vote, and alarms, on seen and on unseen tasks.

    Args:
        data: folder with rollouts ``train``, ``calibration`` and ``test``; models are made there.
        bundle: whose rollouts they are.
        tasks: all of them; the first ``unseen`` are left out in one split, the next ``unseen`` in the other. With 0
            there is one split, of all tasks.
        samples: attempts seen in a training.
        unseen: see ``tasks``.
        world_model: bundle whose foresight is one of the scores; empty: none. It knows all tasks.

    Raises:
        ConfigError: too few tasks for that.
    """
    require(0 <= 2 * unseen < len(tasks), "--unseen", unseen, f"less than half of {len(tasks)} tasks")
    policy = Bundle.load(bundle_dir(bundle))
    attempts = {part: [a for a in read_all([data / part]) if a.policy == policy.version] for part in PARTS}
    found: dict[str, Any] = {"attempts": {part: len(some) for part, some in attempts.items()}}
    with multiprocessing.get_context("spawn").Pool(1, end_with_parent) as pool:
        if world_model:
            attempts["test"] = with_foresight(pool, world_model, attempts["test"], ROBOT)
        for number in range(2 if unseen else 1):
            left = tasks[number * unseen : (number + 1) * unseen]
            seen = tuple(task for task in tasks if task not in left)
            name = f"without {', '.join(left)}" if left else "all tasks"
            found[name] = split(pool, policy, data, f"{number}", attempts, samples, seen, left)
    return found
