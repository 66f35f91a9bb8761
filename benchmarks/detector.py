"""The failure detector beside every baseline, on rollouts of both policies with and without disturbances.

Rollouts are made first (``--data``, kept): for training on training seeds, for the bands on calibration seeds, for the
test on test seeds of all ten tasks. A split leaves tasks out of training and bands; ``shipped`` leaves out those no
policy was trained on. A score counts as what it reached by the end of an attempt, or by a moment early in it. Because
most failures are attempts that time out, a clock tells them by the end, too; alarms are compared with its alarms.
"""

import json
import multiprocessing
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import betabinom

from benchmarks.common import parser, write
from vla_mbpo.core.errors import require
from vla_mbpo.core.observation import Observation
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.eval.lockstep import Settings
from vla_mbpo.eval.report import percentiles
from vla_mbpo.eval.statistics import wilson
from vla_mbpo.failure.attempts import Attempt, curve, read_all
from vla_mbpo.failure.bands import Band, rank
from vla_mbpo.failure.detector import MEMBERS, VOTES, FailureDetector, Parts
from vla_mbpo.failure.scores import FloatArray
from vla_mbpo.imagination.session import WorldModelSession
from vla_mbpo.paths import bundle_dir, robot_dir
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.processes import end_with_parent
from vla_mbpo.sim.disturbances import KINDS
from vla_mbpo.sim.tasks import CALIBRATION_SEEDS, HELD_OUT_TASKS, TASKS, TEST_SEED_BASE, TRAINING_TASKS
from vla_mbpo.training.judge import interval_by_group, roc_auc
from vla_mbpo.training.rollouts import generate

# What is made of each policy and task: folder, first seed, tasks, attempts, share that is disturbed.
DATA = {
    "train": (950_000, TRAINING_TASKS, 40, 0.6),
    "calibration": (CALIBRATION_SEEDS.start + 300_000, TRAINING_TASKS, 40, 0.5),
    "test": (TEST_SEED_BASE + 650_000, tuple(TASKS), 35, 0.5),
}
POLICIES = {"full": "sft_full", "few": "sft_few"}
SPLITS = {"shipped": (), "second": ("red_bin", "drawer"), "third": ("green_plate", "button")}
SCORES = (
    "safe_mlp", "safe_mlp_sum", "safe_lstm", "knn_euclidean", "knn_cosine", "mahalanobis", "rnd", "overlap",
    "overlap_of_sets", "reversals", "reversals_sum", "spread", "spread_sum", "imagined", "elapsed",
)  # fmt: skip
EARLY = 8  # looks, 3.2 s on the tabletop
ALPHAS = (0.05, 0.1, 0.2)


def scored(job: tuple[str, list[Attempt]]) -> list[FloatArray]:
    """(scores, looks) of each attempt."""
    bundle, attempts = job
    parts = Parts(Bundle.load(Path(bundle)))
    scores = parts.scores(SCORES)
    return [curve(attempt, scores, parts.period) for attempt in attempts]


_SESSION: list[WorldModelSession] = []


def foreseen(job: tuple[Path, str, str]) -> list[float]:
    """Failure at each look of a rollout as the world model expects it of the candidates; NaN: UNKNOWN."""
    file, bundle, robot = job
    if not _SESSION:
        _SESSION.append(WorldModelSession.load(bundle_dir(bundle), RobotSpec.load(robot_dir(robot))))
    session, found = _SESSION[0], []
    with np.load(file) as episode:
        body = [episode[name].astype(float) for name in ("joints", "velocities", "gripper")]
        views = episode["head"], episode["wrist"]
        for i, chunks in enumerate(episode["candidates"].astype(float)):
            seen = Observation(0, views[0][i], views[1][i], body[0][i], body[1][i], float(body[2][i]))
            positions, gripper = chunks[..., :-1], chunks[..., -1]
            told = str(episode["told" if "told" in episode.files else "instruction"])  # disturbances change it
            said = session.vet(seen, told, positions, gripper, session.tool_ways(positions))
            found.append(float("nan") if isinstance(said, str) else 1.0 - float(said.success.mean()))
    return found


def with_foresight(pool: Any, bundle: str, attempts: list[Attempt], robot: str = "sim_panda") -> list[Attempt]:
    """The attempts with what the world model said at each look; where it knew nothing, what it said before."""
    made = []
    for attempt, said in zip(attempts, pool.map(foreseen, [(a.file, bundle, robot) for a in attempts]), strict=True):
        last, looks = 0.5, []
        for look, one in zip(attempt.looks, said, strict=False):
            last = last if np.isnan(one) else one
            looks.append(replace(look, failure=last))
        made.append(replace(attempt, looks=tuple(looks)))
    return made


def all_scored(pool: Any, bundle: Path, attempts: list[Attempt]) -> list[FloatArray]:
    """``scored``, by several processes."""
    parts = [(str(bundle), attempts[i : i + 25]) for i in range(0, len(attempts), 25)]
    return [one for part in pool.map(scored, parts) for one in part]


def auc(values: FloatArray, fails: NDArray[np.bool_]) -> list[float]:
    """ROC-AUC of failure and its interval by bootstrap over attempts."""
    interval = interval_by_group(lambda i: roc_auc(values[i], fails[i]), np.arange(len(fails)))
    return [round(roc_auc(values, fails), 4), *interval]


def heights(curves: list[FloatArray], until: int | None = None) -> FloatArray:
    """(N, scores) what each score has reached, by the end or by a look."""
    return np.array([one[:, :until].max(1) for one in curves])


def voted(band: Band, curves: list[FloatArray], rows: list[int], until: int | None = None) -> FloatArray:
    """(N,) what the vote of these rows of the curves has reached, by the end or by a look."""
    return np.array([band.reached(one[rows][:, :until])[-1] for one in curves])


def table(band: Band, curves: list[FloatArray], fails: NDArray[np.bool_], rows: list[int]) -> dict[str, Any]:
    """AUC of every score and of the vote, by the end and early; without scores that nobody gave (``imagined``)."""
    found: dict[str, Any] = {"n": len(fails), "failures": int(fails.sum())}
    for label, until in (("end", None), ("early", EARLY)):
        reached = heights(curves, until)
        given = [(name, reached[:, i]) for i, name in enumerate(SCORES) if np.isfinite(reached[:, i]).all()]
        found[label] = {name: auc(values, fails) for name, values in given}
        found[label]["vote"] = auc(voted(band, curves, rows, until), fails)
    return found


def alarms(
    band: Band, curves: list[FloatArray], attempts: list[Attempt], fails: NDArray[np.bool_], rows: list[int]
) -> dict[str, Any]:
    """False alarms, alarms in time and when, at each alpha."""
    found: dict[str, Any] = {}
    for alpha in ALPHAS:
        width, moments = band.width(alpha), []
        for one in curves:
            over = band.reached(one[rows]) > width
            moments.append(int(over.argmax()) / len(over) if over.any() else np.nan)
        raised = np.isfinite(moments)
        n, well = len(band.statistics), ~fails
        k = rank(n, alpha)
        slack = betabinom(int(well.sum()), n + 1 - k, k).ppf(0.975) / max(1, well.sum())
        late = np.where(raised, moments, 1.0)[fails]
        found[f"alpha {alpha:g}"] = {
            "false_alarm_rate": round(float(raised[well].mean()), 4),
            "interval": wilson(int(raised[well].sum()), int(well.sum())),
            "successes": int(well.sum()),
            "at_most_with_slack": round(float(slack), 4),
            "true_positive_rate": round(float(raised[fails].mean()), 4),
            "true_positive_interval": wilson(int(raised[fails].sum()), int(fails.sum())),
            "median_detection_time": round(float(np.median(late)), 3),
            "by_disturbance": {
                kind or "none": [int(raised[m].sum()), int(m.sum())]
                for kind in ("", *KINDS)
                if (m := fails & np.array([a.disturbance == kind for a in attempts])).any()
            },
        }
    return found


def split(
    pool: Any,
    bundle: Bundle,
    out: Path,
    name: str,
    data: dict[str, list[Attempt]],
    steps: int,
    tasks: tuple[str, ...],
    unseen: tuple[str, ...],
) -> dict[str, Any]:
    """Train and calibrate on ``tasks``, test on them and on ``unseen``; run and bundle are named after ``name``."""
    from vla_mbpo.training.detector import DetectorRecipe, Trainer
    from vla_mbpo.training.detector_export import export_detector, load_detector

    run, made = out / f"run_{name}", out / f"detector_{name}"
    trainer = Trainer(DetectorRecipe((), bundle.version, tasks, samples=steps), data["train"], run)
    if (made / "manifest.json").exists():
        told = Bundle.load(made).manifest["training"]
        ours = json.loads(json.dumps(asdict(trainer.recipe))), len(trainer.attempts)
        require((told["recipe"], told["attempts"]) == ours, "detector", str(made), "of this recipe and these attempts")
    else:
        trainer.run(resume=True)
        export_detector(*load_detector(run), trainer.attempts, bundle, made)
    calm = [a for a in data["calibration"] if a.success and a.task in tasks]
    rows, well = [SCORES.index(member) for member in MEMBERS], all_scored(pool, made, calm)
    band, clock = Band.fit([one[rows] for one in well], VOTES), Band.fit([one[-1:] for one in well], 1)
    found: dict[str, Any] = {"calibrated_on": len(calm)}
    for group, mine in (("seen", tasks), ("unseen", unseen)):
        if not mine:
            continue
        attempts = [a for a in data["test"] if a.task in mine]
        curves, fails = all_scored(pool, made, attempts), np.array([not a.success for a in attempts])
        found[group] = table(band, curves, fails, rows)
        found[group]["alarms"] = alarms(band, curves, attempts, fails, rows)
        found[group]["alarms by the clock alone"] = alarms(clock, curves, attempts, fails, [-1])
    return found


def run_time(bundle: Path, attempts: list[Attempt], band_of: list[FloatArray]) -> dict[str, float]:
    """Of the shipped vote per chunk set [ms], one core."""
    parts = Parts(Bundle.load(bundle))
    detector, took = FailureDetector(parts, Band.fit(band_of, VOTES), 1e9), []
    for attempt in attempts:
        detector.reset()
        for look in attempt.looks:
            begin = time.perf_counter()
            detector.add(look)
            took.append(1e3 * (time.perf_counter() - begin))
    return percentiles(took[20:])


def main() -> None:
    """Make the rollouts, train, calibrate, test."""
    cli = parser(__doc__ or "")
    cli.add_argument("--data", type=Path, default=Path("data/detector15"))
    cli.add_argument("--out", type=Path, default=Path("runs/detector"))
    cli.add_argument("--world-model", default="world_model", help="whose expectation of failure is a score too")
    cli.add_argument("--splits", default=",".join(SPLITS))
    cli.add_argument("--samples", type=int, default=16_000, help="attempts seen in each training")
    args = cli.parse_args()
    for name, (seed, tasks, count, disturbed) in DATA.items():
        counts = dict.fromkeys(POLICIES, count)
        generate(args.data / name, tasks, counts, seed, disturbed=disturbed, timeout=Settings().timeout)
    metrics: dict[str, Any] = {}
    with multiprocessing.get_context("spawn").Pool(2, end_with_parent) as pool:
        for policy in POLICIES:
            data = {name: [a for a in read_all([args.data / name]) if a.source == policy] for name in DATA}
            data["test"] = with_foresight(pool, args.world_model, data["test"])
            bundle = Bundle.load(bundle_dir(POLICIES[policy]))
            for name in args.splits.split(","):
                left_out = SPLITS[name]
                tasks = tuple(task for task in TRAINING_TASKS if task not in left_out)
                metrics[f"{policy}, {name}"] = split(
                    pool, bundle, args.out, f"{policy}_{name}", data, args.samples, tasks, (*HELD_OUT_TASKS, *left_out)
                )
            made = args.out / f"detector_{policy}_shipped"
            rows = [SCORES.index(member) for member in MEMBERS]
            calm = [a for a in data["calibration"] if a.success][:40]
            curves = [one[rows] for one in all_scored(pool, made, calm)]
            metrics[f"{policy}, run time ms"] = run_time(made, data["test"][:50], curves)
    write("detector", metrics, args.json)


if __name__ == "__main__":
    main()
