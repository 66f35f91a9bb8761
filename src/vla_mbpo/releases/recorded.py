"""The two sides of a comparison on the arm itself: recorded attempts of both policies, by their labels alone."""

from collections import Counter, defaultdict
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

    ConfigError: they were not told the same tasks, some attempts were not judged, or are of several policies. None of
    those can be left out: a task in which one is worse, or an attempt that somebody ended because it went wrong.
    """
    every = _every(folders)
    found = [_attempts(every, version, tasks) for version in versions]
    told = [", ".join(sorted(attempts)) or "none" for attempts in found]
    same = f"the same tasks for {' and '.join(versions)}"
    require(told[0] != "none" and len(set(told)) == 1, "--recorded", f"tasks {' and '.join(told)}", same)
    common = {task: min(len(attempts[task]) for attempts in found) for task in sorted(found[0])}
    scenes = [(task, i) for task, count in common.items() for i in range(count)]
    facts = {"recorded": list(folders)}
    return [({(task, i): _result(attempts[task][i]) for task, i in scenes}, facts) for attempts in found]


def _every(folders: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Labels of all attempts in the folders, each once, in the order of their recording.

    By name, or by folder where two cells have begun one in the same second.
    """
    there = {episode.resolve() for folder in folders for episode in episodes(Path(folder))}
    counted = Counter(episode.name for episode in there)
    found = {
        episode.name if counted[episode.name] == 1 else str(episode): read_labels(episode)
        for episode in sorted(there, key=lambda path: (path.name, path))
    }
    attempts = {name: labels for name, labels in found.items() if labels["kind"] == ATTEMPT}
    nobodys = sum(not labels["policy_versions"] for labels in attempts.values())
    if nobodys:
        print(f"{nobodys} attempts without a chunk set: of which policy they are, nobody can say")
    return attempts


def _attempts(
    every: Mapping[str, dict[str, Any]], version: str, tasks: Mapping[str, Task]
) -> dict[str, list[dict[str, Any]]]:
    """Labels of a version's attempts by task."""
    mine = {name: labels for name, labels in every.items() if version in labels["policy_versions"]}
    mixed = [name for name, labels in mine.items() if len(labels["policy_versions"]) > 1]
    require(not mixed, "policy_versions", ", ".join(mixed[:8]), "attempts of one policy each")
    unjudged = [f"{name} ({one['outcome'] or 'none'})" for name, one in mine.items() if one["outcome"] not in JUDGED]
    require(not unjudged, "outcome", ", ".join(unjudged[:8]), f"{' or '.join(JUDGED)}: say what these attempts were")
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for labels in mine.values():
        found[task_of(labels["instruction"], tasks) or labels["instruction"]].append(labels)
    return found


def _result(labels: Mapping[str, Any]) -> Result:
    begin, end = labels.get("began_ns", 0), labels.get("ended_ns", 0) or float("inf")
    alone = not any(span["begin_ns"] < end and span["end_ns"] > begin for span in labels["interventions"])
    return Result(alone and labels["outcome"] == "succeeded", len(labels["cost_events"]))
