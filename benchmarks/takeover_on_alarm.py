"""A person who takes over on the failure detector's alarm: failures and cost events, against alarms by chance.

Every attempt is made four times, on the same scene and with the same noise: nobody looks on; a scripted person takes
over for the rest of the attempt when the detector raises the alarm; or when chance does, at every look alike and as
often as the detector over all looks; or when timed chance does, which raises it at each look as often as the detector
did there: it knows all that the time tells, and nothing of the attempt. Something goes wrong on the table in every
other attempt. An interrupted run resumes from FILE.partial.jsonl, if policy and bands are the same.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.common import parser, write
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.eval.lockstep import Attempt, Settings
from vla_mbpo.eval.statistics import paired, paired_ratio, wilson
from vla_mbpo.failure.calibration import Calibration, calibration_file
from vla_mbpo.failure.detector import FailureDetector
from vla_mbpo.failure.scores import Look
from vla_mbpo.paths import bundle_dir, robot_dir
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.policy.runtime import PolicySession
from vla_mbpo.processes import end_with_parent
from vla_mbpo.sim.tasks import TASKS, TEST_SEED_BASE

FIRST_SEED = TEST_SEED_BASE + 700_000
POLICIES = {"sft_full": "detector_full", "sft_few": "detector_few"}
CHANCES = ("chance", "timed chance")
WHAT = ("policy", "watched", "alpha")
Rates = tuple[float, ...]  # probability of an alarm at each look of an attempt


class Job(NamedTuple):
    """One attempt. ``version``: of policy and bands; ``watched``: nobody, detector or a chance with its ``rates``."""

    version: str
    policy: str
    watched: str
    task: str
    seed: int
    alpha: float
    rates: Rates = ()


class Chance:
    """Raises the alarm at a look with the probability that it is given, whatever it sees."""

    def __init__(self, rates: Rates, seed: list[int]) -> None:
        self._rates, self._rng, self._looks = rates, np.random.default_rng(seed), 0

    def reset(self) -> None:
        """A new attempt begins."""
        self._looks = 0

    def alarm(self, look: Look) -> bool:
        """Whether it is raised at this look."""
        self._looks += 1
        return self._looks <= len(self._rates) and self._rng.random() < self._rates[self._looks - 1]


_KEPT: dict[Any, Any] = {}


def attempt(job: Job) -> dict[str, Any]:
    """What came of it; runs in a worker."""
    if job.policy not in _KEPT:
        _KEPT[job.policy] = PolicySession.load(bundle_dir(job.policy))
    session, watch = _KEPT[job.policy], None
    if job.watched == "detector":
        key = job.policy, job.alpha
        if key not in _KEPT:
            _KEPT[key] = FailureDetector.load(POLICIES[job.policy], job.alpha, session.version)
        watch = _KEPT[key]
    elif job.rates:
        watch = Chance(job.rates, [job.seed, 31, list(TASKS).index(job.task)])
    settings = Settings(disturbance="any" if job.seed % 2 else "")
    spec = RobotSpec.load(robot_dir("sim_panda"))
    outcome = asdict(Attempt(spec, session, job.task, job.seed, settings, watch=watch).run())
    kept = ("task", "seed", "success", "seconds", "cost_events", "alarm", "chunks", "disturbance")
    return {name: getattr(job, name) for name in ("version", *WHAT)} | {name: outcome[name] for name in kept}


def rates_of(outcomes: list[dict[str, Any]], timed: bool) -> Rates:
    """Share of the looks without an alarm before at which one was raised: for each look of an attempt, or for all."""
    looks = np.array([o["chunks"] for o in outcomes])
    raised = np.array([o["alarm"] is not None for o in outcomes])
    if not timed:
        return (float(raised.sum() / looks.sum()),) * int(looks.max())
    return tuple(
        float((raised & (looks == t)).sum() / max(1, (looks >= t).sum())) for t in range(1, int(looks.max()) + 1)
    )


def run(jobs: list[Job], pool: ProcessPoolExecutor, done: dict[tuple, dict], partial: Path) -> list[dict[str, Any]]:
    """Outcomes of the jobs; those of an interrupted run are taken over."""
    left = [job for job in jobs if job[:6] not in done]
    with partial.open("a") as file:
        for job, outcome in zip(left, pool.map(attempt, left), strict=True):
            done[job[:6]] = outcome
            file.write(json.dumps(outcome) + "\n")
            file.flush()
    return [done[job[:6]] for job in jobs]


def read(partial: Path) -> Iterator[tuple[tuple, dict[str, Any]]]:
    """Whole lines of an interrupted run."""
    for line in partial.read_text().splitlines(True) if partial.exists() else []:
        if line.endswith("}\n"):
            found = json.loads(line)
            yield tuple(found[name] for name in Job._fields[:6]), found


def describe(outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    """One way to look on."""
    n, good, raised = len(outcomes), sum(o["success"] for o in outcomes), sum(o["alarm"] is not None for o in outcomes)
    return {
        "n": n,
        "success_rate": [round(good / n, 4), wilson(good, n)],
        "cost_events_per_attempt": round(sum(len(o["cost_events"]) for o in outcomes) / n, 4),
        "takeovers": [raised, wilson(raised, n)],
        "median_alarm_s": round(float(np.median([o["alarm"] for o in outcomes if o["alarm"] is not None])), 2)
        if raised
        else None,
    }


def compare(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> dict[str, Any]:
    """The same attempts looked on in two ways: differences, with intervals over seeds, which tasks have in common."""
    seeds = [o["seed"] for o in before]
    fails = [[not o["success"] for o in side] for side in (before, after)]
    costs = [[len(o["cost_events"]) for o in side] for side in (before, after)]
    return {
        "success_difference": paired([not f for f in fails[0]], [not f for f in fails[1]], group=seeds),
        "failure_ratio": paired_ratio(*fails, group=seeds),
        "cost_ratio": paired_ratio(*costs, group=seeds),
    }


def group(sides: dict[str, list[dict[str, Any]]], keep: Any) -> dict[str, Any]:
    """All ways and their differences, on some of the attempts."""
    mine = {name: [o for o in side if keep(o)] for name, side in sides.items()}
    found: dict[str, Any] = {name: describe(side) for name, side in mine.items()}
    for name, side in mine.items():
        pairs = zip(mine["nobody"], side, strict=True)
        found[name]["takeovers_not_needed"] = sum(a["success"] and b["alarm"] is not None for a, b in pairs)
        if name != "detector":
            found[f"detector against {name}"] = compare(side, mine["detector"])
    return found


def main() -> None:
    """Measure, print and write."""
    cli = parser(__doc__ or "")
    cli.add_argument("--policies", default=",".join(POLICIES))
    cli.add_argument("--episodes", type=int, default=50, help="per task, policy and way to look on")
    cli.add_argument("--alpha", type=float, default=0.1)
    args = cli.parse_args()
    partial = args.json.with_name(args.json.name + ".partial.jsonl") if args.json else Path("/dev/null")
    partial.parent.mkdir(parents=True, exist_ok=True)
    done = dict(read(partial))
    metrics: dict[str, Any] = {"first_seed": FIRST_SEED, "alpha": args.alpha}
    with ProcessPoolExecutor(2, get_context("spawn"), end_with_parent) as pool:
        for policy in args.policies.split(","):
            scenes = [(task, FIRST_SEED + i) for i in range(args.episodes) for task in TASKS]
            detector = Bundle.load(bundle_dir(POLICIES[policy]))
            version = Calibration.load(calibration_file(POLICIES[policy]), detector).id
            sides = {
                name: run([Job(version, policy, name, *scene, args.alpha) for scene in scenes], pool, done, partial)
                for name in ("nobody", "detector")
            }
            for name in CHANCES:
                found = {}
                for held_out in (False, True):  # unseen tasks have alarms at rates of their own
                    mine = [o for o in sides["detector"] if TASKS[o["task"]].held_out == held_out]
                    rates = rates_of(mine, name == "timed chance")
                    jobs = [Job(version, policy, name, o["task"], o["seed"], args.alpha, rates) for o in mine]
                    found |= {(o["task"], o["seed"]): o for o in run(jobs, pool, done, partial)}
                sides[name] = [found[scene] for scene in scenes]
            metrics[policy] = {
                "training tasks": group(sides, lambda o: not TASKS[o["task"]].held_out),
                "training tasks, undisturbed": group(
                    sides, lambda o: not TASKS[o["task"]].held_out and not o["disturbance"]
                ),
                "training tasks, disturbed": group(
                    sides, lambda o: not TASKS[o["task"]].held_out and bool(o["disturbance"])
                ),
                "unseen tasks": group(sides, lambda o: TASKS[o["task"]].held_out),
            }
    write("takeover_on_alarm", metrics, args.json)
    if args.json:
        partial.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
