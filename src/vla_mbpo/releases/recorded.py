"""The two sides of a comparison on the arm itself: recorded attempts of both policies, by their labels alone."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vla_mbpo.core.errors import require
from vla_mbpo.record.episode import ATTEMPT
from vla_mbpo.record.repair import episodes, read_labels
from vla_mbpo.releases.decision import Result, Scene
from vla_mbpo.sim.tasks import Task, task_of

Side = tuple[dict[Scene, Result], dict[str, Any]]
JUDGED = ("succeeded", "failed")


def sides(folders: Sequence[str], versions: Sequence[str], tasks: Mapping[str, Task]) -> list[Side]:
    """Results by task and number, and facts for the report, of the policies with these ``versions``.

    Of each task as many attempts as all of them have, the first recorded ones. They are paired by their order only:
    attempts on an arm have no scene in common, and pairs of independent attempts promise no more than there is. An
    attempt that a person had a part in is none that succeeded.

    ConfigError: a version has no attempt, there is no task that all have tried, or some attempts were not judged. Those
    cannot be left out: who ends an attempt that goes wrong would improve the rate by it.
    """
    found = [_attempts(folders, version, tasks) for version in versions]
    for version, attempts in zip(versions, found, strict=True):
        require(bool(attempts), "--recorded", f"no attempt of {version} in {', '.join(folders)}", "of both policies")
    common = {task: min(len(one.get(task, ())) for one in found) for task in sorted(set().union(*found))}
    common = {task: count for task, count in common.items() if count}
    require(bool(common), "--recorded", "no task that both have tried", "attempts of the same tasks")
    return [_side(attempts, common, folders) for attempts in found]


def _attempts(folders: Sequence[str], version: str, tasks: Mapping[str, Task]) -> dict[str, list[dict[str, Any]]]:
    """Labels of a version's attempts by task, in the order of their recording."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    unjudged = []
    every = [episode for folder in folders for episode in episodes(Path(folder))]
    for episode in sorted(every, key=lambda path: path.name):  # which begins with the time
        labels = read_labels(episode)
        if labels["kind"] != ATTEMPT or labels["policy_versions"] != [version]:
            continue
        if labels["outcome"] not in JUDGED:
            unjudged.append(f"{episode.name} ({labels['outcome'] or 'none'})")
        found[task_of(labels["instruction"], tasks) or labels["instruction"]].append(labels)
    require(not unjudged, "outcome", ", ".join(unjudged[:8]), f"{' or '.join(JUDGED)}: say what these attempts were")
    return found


def _side(attempts: Mapping[str, list[dict[str, Any]]], common: Mapping[str, int], folders: Sequence[str]) -> Side:
    chosen = {(task, i): attempts[task][i] for task, count in common.items() for i in range(count)}
    sets = sum(labels["chunk_sets"] for labels in chosen.values())
    unknown = sum(labels["vetoes"].get("vetting", 0) for labels in chosen.values())
    facts = {"recorded": list(folders), "unknown_share": unknown / sets if sets else float("nan")}
    return {scene: _result(labels) for scene, labels in chosen.items()}, facts


def _result(labels: Mapping[str, Any]) -> Result:
    alone = not labels["interventions"]
    return Result(alone and labels["outcome"] == "succeeded", len(labels["cost_events"]))
