"""Cost events with corrupted chunks: gate on and off, with 10 % of the chunk sets corrupted in eight ways and without.

All cells see the same calibration scenes, noise and schedule. What corruption costs is the corrupted episode minus its
uncorrupted twin. An interrupted run resumes from FILE.partial.jsonl; after changes to the stack remove that file.
"""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import parser, write
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.eval.corruption import WAYS
from vla_mbpo.eval.lockstep import Attempt, Settings
from vla_mbpo.eval.statistics import wilson
from vla_mbpo.paths import bundle_dir, robot_dir
from vla_mbpo.policy.runtime import PolicySession
from vla_mbpo.sim.tasks import TRAINING_TASKS

FIRST_SEED, SHARE = 1_600_000, 0.1
WINDOW = 1.5  # s after a corrupted set in which a cost event is counted to it
CELLS = {
    f"gate_{gate}_{kind}": Settings(gate=gate == "on", corrupt=share)
    for gate in ("on", "off")
    for kind, share in (("clean", 0.0), ("corrupted", SHARE))
}
Runs = dict[tuple[str, str, int], dict[str, Any]]  # (cell, task, seed) -> outcome


def main() -> None:
    """Measure, print and write."""
    cli = parser(__doc__ or "")
    cli.add_argument("--bundle", default="sft_full")
    cli.add_argument("--tasks", default=",".join(TRAINING_TASKS))
    cli.add_argument("--episodes", type=int, default=50, help="per task and cell")
    args = cli.parse_args()
    tasks = args.tasks.split(",")
    every = len(TRAINING_TASKS)  # each task has seeds, and so schedules, of its own
    grid = [
        [(task, FIRST_SEED + i * every + TRAINING_TASKS.index(task)) for i in range(args.episodes)] for task in tasks
    ]
    runs = measure(args.bundle, [row[i] for i in range(args.episodes) for row in grid], args.json)
    metrics: dict[str, Any] = {"bundle": args.bundle, "tasks": tasks, "episodes_per_task_and_cell": args.episodes}
    metrics |= {"first_seed": FIRST_SEED, "share": SHARE, "window_s": WINDOW}
    metrics |= {cell: describe([runs[cell, *job] for row in grid for job in row]) for cell in CELLS}
    counts = {cell: np.array([[events(runs[cell, *job]) for job in row] for row in grid]) for cell in CELLS}
    metrics["events"] = compare(counts)
    metrics["episodes_with_event"] = compare({cell: (values > 0).astype(float) for cell, values in counts.items()})
    metrics |= {f"ways_gate_{gate}": ways(runs, gate, grid) for gate in ("on", "off")}
    write("corrupted", metrics, args.json)
    if args.json:
        partial_of(args.json).unlink(missing_ok=True)


def partial_of(path: Path | None) -> Path:
    """Outcomes as they become known."""
    return path.with_name(path.name + ".partial.jsonl") if path else Path("/dev/null")


def measure(bundle: str, jobs: list[tuple[str, int]], path: Path | None) -> Runs:
    """All attempts in all cells; those of an interrupted run are read."""
    partial = partial_of(path)
    partial.parent.mkdir(parents=True, exist_ok=True)
    spec, session = RobotSpec.load(robot_dir("sim_panda")), PolicySession.load(bundle_dir(bundle))
    whole = [line for line in partial.read_text().splitlines(True) if line.endswith("}\n")] if partial.exists() else []
    lines = [line for line in map(json.loads, whole) if line["digest"] == session.bundle.digest]
    runs: Runs = {(line["cell"], line["task"], line["seed"]): line for line in lines}
    with partial.open("w") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines))
        for task, seed in jobs:
            for cell, settings in CELLS.items():
                if (cell, task, seed) not in runs:
                    outcome = asdict(Attempt(spec, session, task, seed, settings).run())
                    del outcome["stage_ms"]
                    runs[cell, task, seed] = outcome
                    file.write(json.dumps({"digest": session.bundle.digest, "cell": cell} | outcome) + "\n")
                    file.flush()
    return runs


def events(outcome: dict[str, Any]) -> int:
    """Cost events of an episode, every onset counted."""
    return len(outcome["cost_events"])


def describe(outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    """One cell."""
    n, good, hit = len(outcomes), sum(o["success"] for o in outcomes), sum(events(o) > 0 for o in outcomes)
    return {
        "n": n,
        "success_rate": [good / n, wilson(good, n)],
        "share_of_episodes_with_event": [hit / n, wilson(hit, n)],
        "events": dict(Counter(e for o in outcomes for e in o["cost_events"])),
        "chunk_sets": sum(o["chunks"] for o in outcomes),
        "corrupted_sets": sum(len(o["corruptions"]) for o in outcomes),
    }


def compare(counts: dict[str, np.ndarray]) -> dict[str, Any]:
    """Number per episode and what corruption adds, with bootstrap intervals over the episodes of each task.

    ``counts``: per cell (tasks, episodes), the same scenes in the same places.
    """
    shape = next(iter(counts.values())).shape
    rng = np.random.default_rng(0)
    pick = np.arange(shape[0])[:, None], rng.integers(shape[1], size=(4000, *shape))

    def mean(values: np.ndarray) -> np.ndarray:
        return np.concatenate([[values.mean()], values[pick].mean(axis=(1, 2))])  # the first is the estimate

    def shown(values: np.ndarray) -> list[Any]:
        return [round(float(values[0]), 4), [round(float(v), 4) for v in np.percentile(values[1:], [2.5, 97.5])]]

    total = {cell: mean(values) for cell, values in counts.items()}
    added = {gate: total[f"gate_{gate}_corrupted"] - total[f"gate_{gate}_clean"] for gate in ("on", "off")}
    return {
        "per_episode": {cell: shown(values) for cell, values in total.items()},
        "added_by_corruption": {gate: shown(values) for gate, values in added.items()},
        "reduction_of_added": shown(1.0 - added["on"] / added["off"]),
        "reduction_of_total": shown(1.0 - total["gate_on_corrupted"] / total["gate_off_corrupted"]),
    }


def ways(runs: Runs, gate: str, grid: list[list[tuple[str, int]]]) -> dict[str, dict[str, Any]]:
    """Per way: sets, what the gate and the driver did, events within WINDOW and in the twin's same moments."""
    found: dict[str, Counter] = {way: Counter() for way in WAYS}
    for job in (job for row in grid for job in row):
        outcome, twin = runs[f"gate_{gate}_corrupted", *job], runs[f"gate_{gate}_clean", *job]
        ends = [entry["time"] for entry in outcome["corruptions"][1:]] + [float("inf")]
        for entry, end in zip(outcome["corruptions"], ends, strict=False):  # an attempt without any has one end
            count, start, end = found[entry["way"]], entry["time"], min(end, entry["time"] + WINDOW)
            inside = [e for e, t in zip(outcome["cost_events"], outcome["cost_times"], strict=True) if start < t <= end]
            taken = entry["passed"] and not entry["driver"]
            count.update({"sets": 1, "passed_gate": int(entry["passed"]), "taken": int(taken)})
            count.update(f"gate {check}" for check in entry["gate"])
            count.update(f"driver {check}" for check in entry["driver"])
            count.update(f"event {event}" for event in inside)
            before = sum(start < t <= end for t in twin["cost_times"])
            what = "taken" if taken else "refused"
            count.update({f"after_{what}": len(inside), f"twin_of_{what}": before})
    return {way: dict(sorted(count.items())) for way, count in found.items()}


if __name__ == "__main__":
    main()
