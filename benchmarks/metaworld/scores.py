"""Success by difficulty group, as the literature averages it: tasks in a group alike, groups alike. No simulator."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.metaworld.tasks import GROUP_OF, GROUPS
from vla_mbpo.core.errors import require
from vla_mbpo.eval.statistics import wilson
from vla_mbpo.releases.decision import Result, Scene
from vla_mbpo.training.judge import interval_by_group


def by_group(tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """From ``tasks`` of an evaluation's file: of each group rate and Wilson interval; means of groups and of tasks.

    Intervals of both means by bootstrap over attempts. All tasks have to have as many attempts.
    """
    found: dict[str, Any] = {"groups": {}}
    for group in GROUPS:
        mine = [row for name, row in tasks.items() if GROUP_OF[name] == group]
        n, successes = sum(row["n"] for row in mine), sum(row["successes"] for row in mine)
        if n:
            rate = round(successes / n, 4)
            found["groups"][group] = {"tasks": len(mine), "n": n, "rate": rate, "interval": wilson(successes, n)}
    label = np.concatenate([np.full(row["n"], GROUPS.index(GROUP_OF[name])) for name, row in tasks.items()])
    well = np.concatenate([np.arange(row["n"]) < row["successes"] for row in tasks.values()])

    def of_groups(index: np.ndarray) -> float:
        return float(np.mean([well[index][label[index] == g].mean() for g in np.unique(label[index])]))

    every = np.arange(len(well))
    for name, statistic in (("mean_of_groups", of_groups), ("mean_of_tasks", lambda index: float(well[index].mean()))):
        found[name] = [round(statistic(every), 4), *interval_by_group(statistic, every)]
    return found


def attempts_of(compared: Mapping[str, Any], first: int) -> tuple[dict[Scene, Result], dict[Scene, Result]]:
    """Both sides of a comparison of which only the counts are known; its scenes are numbered from ``first`` on.

    Which task the won and lost scenes are of is known only in sum. No statistic of the pairs as a whole depends on it,
    nor any of one side of one task.
    """
    before: dict[Scene, Result] = {}
    after: dict[Scene, Result] = {}
    counts = {
        task: (row["n"], round(row["before"] * row["n"]), round(row["after"] * row["n"]))
        for task, row in compared["tasks"].items()
    }
    won, lost = compared["won_and_lost"]
    again = won - sum(max(new - old, 0) for _, old, new in counts.values())  # won, and as many lost, within a task
    fits = again == lost - sum(max(old - new, 0) for _, old, new in counts.values())
    require(fits, "won_and_lost", compared["won_and_lost"], "what the tasks gained and lost")
    for task, (n, old, new) in counts.items():
        here = min(again, old, new, n - old, n - new)
        again -= here
        begin = here + max(old - new, 0)
        before |= {(task, first + i): Result(i < old) for i in range(n)}
        after |= {(task, first + i): Result(begin <= i < begin + new) for i in range(n)}
    require(again == 0, "won_and_lost", compared["won_and_lost"], "no more than the attempts of its tasks")
    return before, after
