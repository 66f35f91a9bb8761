"""``vla-mbpo eval``: success rates with intervals, resumable."""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.progress import Progress

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.eval.lockstep import Attempt, Outcome, Settings, attempt_expert
from vla_mbpo.eval.realtime import run_realtime
from vla_mbpo.eval.report import machine, now, percentiles, summarise
from vla_mbpo.failure.calibration import Calibration, calibration_file
from vla_mbpo.failure.detector import FailureDetector
from vla_mbpo.imagination.session import WorldModelSession
from vla_mbpo.imagination.vetting import Vetting
from vla_mbpo.paths import bundle_dir, robot_dir
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.policy.sessions import Policy, load_policy
from vla_mbpo.reports.evaluation import evaluation_page
from vla_mbpo.sim.disturbances import KINDS
from vla_mbpo.sim.instructions import tasks_of
from vla_mbpo.sim.scene import check_arm
from vla_mbpo.sim.tasks import CALIBRATION_SEEDS, TASKS, TEST_SEED_BASE, find_task
from vla_mbpo.sim.world import TABLETOP, World
from vla_mbpo.spread import Place, add_ray, spread

EXPERT = "expert"
IDENTITY = ("bundle", "bundle_sha256", "robot", "settings")  # a partial file of another run is not resumed
SCENES = {"test": TEST_SEED_BASE, "calibration": CALIBRATION_SEEDS.start}  # first scene seed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--bundle", required=True, help="bundle name or folder, or 'expert' for the scripted experts")
    add("--tasks", default="all", help=f"all, or names separated by commas: {', '.join(TASKS)}")
    add("--episodes", type=int, default=50, help="episodes per task")
    add("--seed", type=int, default=0, help="first test seed (any; never a training or calibration seed)")
    add("--json", type=Path, required=True, help="result file; an interrupted run resumes from FILE.partial.jsonl")
    add("--html", type=Path, help="the result also as a page")
    add("--k", type=int, default=8, help="candidates per inference")
    add("--replan-rows", type=int, help=f"rows between inferences (lockstep); {TABLETOP.replan_rows} by default")
    add(
        "--noise", type=float, default=Settings().noise, help="of the flow, as a multiple; 0: no two looks differ by it"
    )
    add("--gate", choices=("on", "off"), default="on")
    add("--corrupt", type=float, default=0.0, metavar="SHARE", help="share of chunk sets to corrupt (lockstep)")
    add("--clock", choices=("lockstep", "realtime"), default="lockstep")
    add("--imagination", choices=("off", "on", "random"), default="off", help="random: choice without a world model")
    add("--world-model", default="world_model", help="bundle name or folder, for --imagination on")
    add("--detector", choices=("off", "on"), default="off", help="failure detector (lockstep)")
    add("--detector-bundle", default="detector_full", help="bundle name or folder, for --detector on")
    add("--alpha", type=float, default=0.0, help="false-alarm rate of the detector; 0: the one of its bands")
    add(
        "--on-alarm", choices=("human", "hold"), default="human", help="an expert has the arm from then on, or it rests"
    )
    add("--disturbance", default="", metavar="KIND", help=f"what goes wrong (lockstep): any, {', '.join(KINDS)}")
    add("--ablate", default="", metavar="PART,…", help="with and without: imagination, k; scenes are the same")
    add("--scenes", choices=SCENES, default="test", help="calibration: to choose parameters without the test scenes")
    add("--robot", default="sim_panda")
    add("--timeout", type=float, default=Settings().timeout, help="of an attempt [s] (lockstep)")
    parser.set_defaults(world=TABLETOP, program="vla-mbpo")
    add("--workers", type=int, default=2, help="processes, or Ray workers (lockstep)")
    add_ray(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate and write the result file."""
    require(not (args.html and args.ablate), "--html", str(args.html), "without --ablate")
    if args.ablate:
        from vla_mbpo.eval.ablation import ablate

        _check_noise(args)  # before the variant with one candidate
        return ablate(args, evaluate, partial_of)
    result, _ = evaluate(args)
    if args.html:
        args.html.write_text(evaluation_page(result))
    partial_of(args).unlink()
    return 0


def evaluate(args: argparse.Namespace) -> tuple[dict[str, Any], list[Outcome]]:
    """One evaluation: the result as it is in the file, and what came of each attempt. Its partial file stays."""
    known = tasks_of(args.robot)
    chosen = known if args.tasks == "all" else [find_task(n.strip(), known).name for n in args.tasks.split(",")]
    tasks = list(dict.fromkeys(chosen))
    _check(args)
    args.json.parent.mkdir(parents=True, exist_ok=True)
    head = _head(args)
    first = SCENES[args.scenes] + args.seed
    jobs = [(task, first + i) for i in range(args.episodes) for task in tasks]
    cadence: dict[str, Any] = {"missed_cycles": 0, "latency_ms": {}}
    outcomes = _evaluate(args, head, jobs, cadence)
    stages = {stage for o in outcomes for stage in o.stage_ms}
    for stage in sorted(stages):
        cadence["latency_ms"][stage] = percentiles([v for o in outcomes for v in o.stage_ms.get(stage, [])])
    result = {**head, "date": now(), **summarise(outcomes, known), "cadence": cadence}
    args.json.write_text(json.dumps(result, indent=1) + "\n")
    _print(result)
    return result, outcomes


def _check(args: argparse.Namespace) -> None:
    """ConfigError: a number is out of range, or options do not go together."""
    require(args.episodes > 0, "--episodes", args.episodes, "a number above 0")
    require(args.seed >= 0, "--seed", args.seed, "0 or more")
    require(0.0 < args.timeout <= 60.0, "--timeout", args.timeout, "above 0, at most 60 s")
    require(1 <= args.k <= 64, "--k", args.k, "1 to 64")
    spec = RobotSpec.load(robot_dir(args.robot))
    if args.world is TABLETOP:
        check_arm(spec)
    rows, horizon = args.replan_rows, spec.horizon
    require(rows is None or 1 <= rows <= horizon, "--replan-rows", rows, f"1 to {horizon}, the horizon")
    _check_noise(args)
    simulated = args.clock == "lockstep"
    require(simulated or args.noise == Settings().noise, "--noise", args.noise, "1 with --clock realtime")
    usual = Settings().timeout
    require(simulated or args.timeout == usual, "--timeout", args.timeout, f"{usual:g} with --clock realtime")
    require(simulated or rows is None, "--replan-rows", rows, "with --clock lockstep")
    Place(args.workers, args.ray).check()
    require(simulated or args.bundle != EXPERT, "--bundle", EXPERT, "with --clock realtime: a policy bundle")
    require(simulated or args.ray is None, "--ray", args.ray, "with --clock lockstep")
    require(simulated or args.gate == "on", "--gate", args.gate, "with --clock realtime: on")
    require(0.0 <= args.corrupt <= 1.0, "--corrupt", args.corrupt, "0 to 1")
    policy = simulated and args.bundle != EXPERT
    require(policy or args.imagination != "random", "--imagination", "random", "with a policy and --clock lockstep")
    require(args.bundle != EXPERT or args.imagination == "off", "--imagination", args.imagination, "with a policy")
    require(policy or args.detector == "off", "--detector", args.detector, "with a policy and --clock lockstep")
    require(args.disturbance in ("", "any", *KINDS), "--disturbance", args.disturbance, f"any, {', '.join(KINDS)}")
    require(policy or not args.disturbance, "--disturbance", args.disturbance, "with a policy and --clock lockstep")
    require(policy or not args.corrupt, "--corrupt", args.corrupt, "0 but for a policy with --clock lockstep")
    last = SCENES[args.scenes] + args.seed + args.episodes - 1
    fits = args.scenes != "calibration" or last in CALIBRATION_SEEDS  # beyond them are the scenes of the tests
    require(fits, "--seed", args.seed, f"0 to {len(CALIBRATION_SEEDS) - args.episodes} for {args.episodes} episodes")


def _check_noise(args: argparse.Namespace) -> None:
    require(0.0 <= args.noise <= 4.0, "--noise", args.noise, "0 to 4")
    require(args.noise > 0.0 or args.k == 1, "--noise", args.noise, "above 0 with --k above 1: all would be the same")


def _head(args: argparse.Namespace) -> dict[str, Any]:
    """What the result file begins with."""
    expert = args.bundle == EXPERT
    return {
        "bundle": args.bundle,
        "bundle_sha256": "" if expert else Bundle.load(bundle_dir(args.bundle)).digest,
        "robot": args.robot,
        "command": f"{args.program} " + " ".join(sys.argv[1:]),
        "machine": machine(),
        "seed": args.seed,
        "settings": {
            **({"timeout": args.timeout} if expert else asdict(_settings(args))),
            **{name: getattr(args, name) for name in ("clock", "imagination", "detector", "scenes")},
            **({"world": args.world.name} if args.world.name else {}),
            **(_detector(args) if args.detector == "on" else {}),
            **({"world_model": Bundle.load(bundle_dir(args.world_model)).digest} if args.imagination == "on" else {}),
        },
    }


def _detector(args: argparse.Namespace) -> dict[str, Any]:
    bundle = Bundle.load(bundle_dir(args.detector_bundle))
    bands = Calibration.load(calibration_file(args.detector_bundle), bundle)
    return {"failure_detector": bundle.digest, "bands": bands.id, "alpha": args.alpha}


def identity(args: argparse.Namespace) -> dict[str, Any]:
    """What outcomes of one partial file have in common; scenes, tasks and their number may differ."""
    head = _head(args)
    return {key: head[key] for key in IDENTITY}


def _settings(args: argparse.Namespace) -> Settings:
    return Settings(
        k=args.k,
        gate=args.gate == "on",
        replan_rows=args.replan_rows or args.world.replan_rows,
        noise=args.noise,
        corrupt=args.corrupt,
        imagination=args.imagination,
        disturbance=args.disturbance,
        on_alarm=args.on_alarm,
        timeout=args.timeout,
    )


def partial_of(args: argparse.Namespace) -> Path:
    """Where the outcomes of an evaluation are while it runs."""
    return args.json.with_name(args.json.name + ".partial.jsonl")


def _evaluate(args: argparse.Namespace, head: dict, jobs: list[tuple[str, int]], cadence: dict) -> list[Outcome]:
    """Outcomes of all jobs, each on disk as soon as it is known. A real-time run fills ``cadence``."""
    partial = partial_of(args)
    _prepare(*_common(args))  # says here what no worker could do
    outcomes = _resume(partial, {key: head[key] for key in IDENTITY}, jobs)
    done = {(o.task, o.seed) for o in outcomes}
    left = [job for job in jobs if job not in done]
    with partial.open("a") as file, Progress() as bar:
        row = bar.add_task("episodes", total=len(jobs), completed=len(outcomes))
        for outcome in _lockstep(args, left) if args.clock == "lockstep" else run_realtime(args, left, cadence):
            outcomes.append(outcome)
            file.write(json.dumps(asdict(outcome)) + "\n")
            file.flush()
            rate = sum(o.success for o in outcomes) / len(outcomes)
            bar.update(row, advance=1, description=f"episodes, success {rate:.0%}")
    return outcomes


def _resume(partial: Path, identity: dict, jobs: list[tuple[str, int]]) -> list[Outcome]:
    """Outcomes of an interrupted run with the same settings. Leaves a file of whole lines to append to."""
    lines = []
    for line in partial.read_text().splitlines() if partial.exists() else []:
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break  # torn by the interruption
    if lines and lines[0] != identity:
        raise ConfigError(
            "--json", str(partial), "belongs to a run with other settings; remove it or choose another file"
        )
    lines = lines or [identity]
    whole = partial.with_suffix(".whole")
    whole.write_text("".join(json.dumps(line) + "\n" for line in lines))
    whole.rename(partial)
    wanted = set(jobs)
    outcomes = [Outcome(**line) for line in lines[1:]]
    return [o for o in outcomes if (o.task, o.seed) in wanted]


def _lockstep(args: argparse.Namespace, jobs: list[tuple[str, int]]) -> Iterator[Outcome]:
    """Run the jobs in processes or by Ray workers (spread.py)."""
    return spread(Place(args.workers, args.ray), _job, jobs, _prepare, *_common(args))


@dataclass(frozen=True)
class _Prepared:
    """What a worker attempts with. ``session``: None for the scripted experts."""

    spec: RobotSpec
    settings: Settings
    session: Policy | None
    vetting: Vetting | None
    watch: FailureDetector | None
    world: World


def _common(args: argparse.Namespace) -> tuple[str, str, Settings, str, str, float, World]:
    world_model = args.world_model if args.imagination == "on" else ""
    detector = args.detector_bundle if args.detector == "on" else ""
    return args.robot, args.bundle, _settings(args), world_model, detector, args.alpha, args.world


def _prepare(
    robot: str, bundle: str, settings: Settings, world_model: str, detector: str, alpha: float, world: World
) -> _Prepared:
    spec = RobotSpec.load(robot_dir(robot))
    session = None if bundle == EXPERT else load_policy(bundle_dir(bundle), spec, patient=True)
    vetting = Vetting(WorldModelSession.load(bundle_dir(world_model), spec)) if world_model else None
    watch = FailureDetector.load(detector, alpha, session.version) if detector and session else None
    return _Prepared(spec, settings, session, vetting, watch, world)


def _job(prepared: _Prepared, _shared: None, job: tuple[str, int]) -> Outcome:
    if prepared.session is None:
        return attempt_expert(prepared.spec, *job, prepared.settings.timeout, prepared.world)
    task, seed = job
    vetting, watch = prepared.vetting, prepared.watch
    world = prepared.world
    return Attempt(prepared.spec, prepared.session, task, seed, prepared.settings, vetting, watch, world).run()


def _print(result: dict[str, Any]) -> None:
    """A table for the terminal."""
    for group in ("tasks", "unseen_tasks"):
        for name, row in result[group].items():
            low, high = row["interval"]
            mark = " (held out)" if group == "unseen_tasks" else ""
            score = f"{row['successes']:3}/{row['n']:<3} [{low:.2f}, {high:.2f}]"
            rest = f"{row['mean_seconds']:5.1f} s  vetoes {row['vetoes']}  costs {sum(row['cost_events'].values())}"
            print(f"{name + mark:24} {score}  {rest}")
    if result["success_rate"] is not None:
        low, high = result["interval"]
        print(f"{'training tasks':24} {result['success_rate']:.3f} [{low:.3f}, {high:.3f}]")
