"""The stages that need Meta-World: demonstrations, rollouts, evaluation; and what comes of them as scores."""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.common import write
from benchmarks.metaworld.frames import TIMEOUT
from benchmarks.metaworld.scores import attempts_of, by_group
from benchmarks.metaworld.tasks import INSTRUCTIONS, ROBOT
from vla_mbpo.core.errors import require
from vla_mbpo.eval import command as evaluation
from vla_mbpo.releases.decision import Result, Scene, compare
from vla_mbpo.sim.instructions import tasks_of
from vla_mbpo.sim.tasks import CALIBRATION_SEEDS, TEST_SEED_BASE, TRAIN_SEEDS, find_task
from vla_mbpo.spread import add_ray

SCENES = {
    "training": TRAIN_SEEDS,
    "calibration": CALIBRATION_SEEDS,
    "test": range(TEST_SEED_BASE, 2 * TEST_SEED_BASE),
}
# An expert needs 20 rows, and what is knocked away stays away: of 27 looks after 2.5 s of three attempts that
# failed, three had a candidate from which it could go on, and most of the time went there.
BRANCHING = {"wander": 0.02, "finished": 1.0, "until": 2.5, "longest": 60}


def declare(found: Any) -> None:
    """Add the commands to the parser's subparsers ``found``."""
    demos = found.add_parser("demos", help="scripted demonstrations; existing ones are kept")
    demos.add_argument("--bursts", type=float, default=0.0, help="probability per row that a perturbation begins")
    convert = found.add_parser("convert", help="demonstrations as rollouts, for the world model")
    convert.add_argument("--demos", type=Path, required=True)
    rollouts = found.add_parser("rollouts", help="attempts of policies and random motion; existing ones are kept")
    rollouts.add_argument("--branches", action="store_true", help="try each candidate of every look")
    rollouts.add_argument("--scenes", choices=SCENES, default="training", help="--seed counts from the first of them")
    add_ray(rollouts)
    for one, kind in ((demos, int), (convert, int), (rollouts, str)):
        one.add_argument("--out", type=Path, required=True)
        one.add_argument("--tasks", default="all", help="all, or names separated by commas")
        one.add_argument("--episodes", type=kind, required=True, help="per task; of rollouts SOURCE=N,…")
        one.add_argument("--seed", type=int, default=0, help="first scene seed")
        one.add_argument("--workers", type=int, default=2)
    evaluate = found.add_parser("evaluate", help="as vla-mbpo eval, in Meta-World")
    evaluation.add_arguments(evaluate)
    evaluate.add_argument("--cameras", type=int, choices=(1, 2), default=2)
    evaluate.set_defaults(robot=ROBOT, timeout=TIMEOUT, k=1, noise=0.0, program="python -m benchmarks.metaworld")
    for name, text in (("score", "an evaluation by difficulty group"), ("compare", "before against after")):
        score = found.add_parser(name, help=text)
        score.add_argument("--of", type=Path, nargs="+", required=True, help="result files of evaluate")
        score.add_argument("--json", type=Path, required=True)
    score.add_argument("--earlier", type=Path, help="a comparison of other seeds that comes in, by its counts")
    detect = found.add_parser("detect", help="the failure detector beside every baseline")
    detect.add_argument("--data", type=Path, required=True, help="folder with train, calibration and test")
    detect.add_argument("--bundle", required=True)
    detect.add_argument("--tasks", default="all")
    detect.add_argument("--samples", type=int, default=16_000)
    detect.add_argument("--unseen", type=int, default=2)
    detect.add_argument("--world-model", default="", help="bundle whose foresight is one of the scores")
    detect.add_argument("--json", type=Path, required=True)


def run(args: argparse.Namespace) -> int:
    """One of them."""
    return {
        "demos": _demos, "convert": _convert, "rollouts": _rollouts, "evaluate": _evaluate, "score": _score,
        "compare": _compare, "detect": _detect,
    }[args.what](args)  # fmt: skip


def _tasks(text: str) -> tuple[str, ...]:
    known = tasks_of(ROBOT)
    return tuple(INSTRUCTIONS if text == "all" else (find_task(name.strip(), known).name for name in text.split(",")))


def _demos(args: argparse.Namespace) -> int:
    from benchmarks.metaworld.data import demonstrate

    there = demonstrate(args.out, _tasks(args.tasks), args.episodes, args.seed, args.bursts, args.workers)
    short = {task: count for task, count in there.items() if count < args.episodes}
    require(not short, "--episodes", args.episodes, f"fewer: there are {short}")
    print(f"{sum(there.values())} demonstrations of {len(there)} tasks in {args.out}")
    return 0


def _convert(args: argparse.Namespace) -> int:
    from benchmarks.metaworld.data import as_rollouts

    print(f"{as_rollouts(args.demos, args.out, _tasks(args.tasks), args.episodes)} rollouts in {args.out}")
    return 0


def _rollouts(args: argparse.Namespace) -> int:
    from benchmarks.metaworld.world import TWO_CAMERAS
    from vla_mbpo.training.rollouts import Branching, generate

    tasks, scenes = _tasks(args.tasks), SCENES[args.scenes]
    pairs = [part.partition("=") for part in args.episodes.split(",")]
    require(all(count.isdecimal() for *_, count in pairs), "--episodes", args.episodes, "SOURCE=N, separated by commas")
    counts = {source: int(count) for source, _, count in pairs}
    first = scenes.start + args.seed
    last = first + sum(counts.values()) * len(tasks) - 1
    require(first in scenes and last in scenes, "--seed", args.seed, f"scenes {scenes.start} to {scenes.stop - 1}")
    made = generate(
        args.out, tasks, counts, first, ROBOT, args.workers, Branching(**BRANCHING) if args.branches else None,
        timeout=TIMEOUT, ray=args.ray, world=TWO_CAMERAS,
    )  # fmt: skip
    for source, row in made.items():
        print(f"{source:10} n {row['n']:5}  success {row['successes']:.2f}")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from benchmarks.metaworld.world import ONE_CAMERA, TWO_CAMERAS

    args.world = TWO_CAMERAS if args.cameras == 2 else ONE_CAMERA
    if args.ablate:
        return evaluation.run(args)
    _, outcomes = evaluation.evaluate(args)
    attempts: dict[str, str] = {}
    for one in sorted(outcomes, key=lambda o: o.seed):
        attempts[one.task] = attempts.get(one.task, "") + str(int(one.success))
    write_result(args.json, attempts)
    evaluation.partial_of(args).unlink()
    return 0


def write_result(file: Path, attempts: dict[str, str]) -> None:
    """Add to an evaluation's file what came of each scene, by task: 1 and 0 from its first scene on."""
    file.write_text(json.dumps(json.loads(file.read_text()) | {"attempts": attempts}, indent=1) + "\n")


def _score(args: argparse.Namespace) -> int:
    said = json.loads(args.of[0].read_text())
    tasks = {name: [row["successes"], row["n"], *row["interval"]] for name, row in said["tasks"].items()}
    kept = {key: said[key] for key in ("bundle_sha256", "settings", "seed")}
    write("metaworld", by_group(said["tasks"]) | kept | {"tasks": tasks}, args.json)
    return 0


def _compare(args: argparse.Namespace) -> int:
    """The first half of the files is one side, the second the other; each file is of one seed."""
    half = len(args.of) // 2
    require(len(args.of) == 2 * half, "--of", len(args.of), "as many files of the one side as of the other")
    before, after = (_results(part) for part in (args.of[:half], args.of[half:]))
    each = [compare(_results([b]), _results([a])).gain for b, a in zip(args.of[:half], args.of[half:], strict=True)]
    if args.earlier:
        earlier = json.loads(args.earlier.read_text())["metrics"]
        each = [*earlier["gain_of_each_seed"], *each]
        old, new = attempts_of(earlier, first=-earlier["n"])
        before, after = old | before, new | after
    found = compare(before, after)
    write("metaworld", {
        "n": found.n, "success_before": found.success[0], "success_after": found.success[1], "gain": found.gain,
        "gain_of_each_seed": each, "won_and_lost": found.discordant, "tasks": found.tasks,
    }, args.json)  # fmt: skip
    return 0


def _results(files: list[Path]) -> dict[Scene, Result]:
    """Of each attempt, by its task and number of its scene."""
    found: dict[Scene, Result] = {}
    for file in files:
        said = json.loads(file.read_text())
        require("attempts" in said, str(file), "no attempts", "a result of `evaluate` that has them")
        for task, attempts in said["attempts"].items():
            found |= {(task, said["seed"] + i): Result(one == "1") for i, one in enumerate(attempts)}
    return found


def _detect(args: argparse.Namespace) -> int:
    from benchmarks.metaworld.detection import detect

    found = detect(args.data, args.bundle, _tasks(args.tasks), args.samples, args.unseen, args.world_model)
    write("metaworld", found, args.json)
    return 0
