"""``vla-mbpo train``: one stage of training a bundle. Needs the ``train`` extra."""

import argparse
import json
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.paths import bundle_dir, robot_dir
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.sim.tasks import CALIBRATION_SEEDS, TRAIN_SEEDS, TRAINING_TASKS, find_task
from vla_mbpo.spread import Place, add_ray
from vla_mbpo.training.pipeline import PROGRESS, Pipeline
from vla_mbpo.training.plan import LoopRecipe

# Rollouts per task and source: a third and more fail.
MIX = "expert=25,clumsy=65,full=75,full_warm=25,full_wide=15,few=180,few_warm=45,few_wide=15,unguarded=25,random=25"

LOOP_OPTIONS = {
    "policy": "bundle to improve",
    "world_model": "run folder of the world model",
    "vetting": "bundle of that run",
    "detector": "failure detector that goes along; none by default",
    "rollouts": "attempts per task that are logged",
    "refresh": "observations to train the world model on with them; 0: it stays as it is",
    "midway": "attempts per task of the policy of half the way, after which all is refreshed again; 0: not",
    "samples": "observations of dream RL",
    "calibration": "attempts per task for the detector's bands",
    "episodes": "attempts per task and side before promotion",
    "seed": "first scene seed of the log, and the run's",
    "workers": "processes, threads",
    "store": "of the releases",
    "options": "other numbers of dream RL's recipe: NAME=VALUE, separated by commas",
}
SCENES = {"training": TRAIN_SEEDS, "calibration": CALIBRATION_SEEDS}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the stages and their options."""
    stages = parser.add_subparsers(dest="stage", required=True, metavar="|".join(STAGES))
    demos = stages.add_parser("demos", help="make scripted demonstrations; existing ones are kept")
    demos.add_argument("--out", type=Path, default=Path("data/demos"))
    demos.add_argument("--tasks", default="all", help=f"all training tasks, or some of {', '.join(TRAINING_TASKS)}")
    demos.add_argument("--episodes", type=int, default=250, help="per task")
    demos.add_argument("--seed", type=int, default=0, help="first scene seed, below 1,000,000")
    demos.add_argument("--pilot", default="", help="policy bundle that drives in turns with the expert (DAgger)")
    demos.add_argument("--workers", type=int, default=2)
    demos.add_argument("--resume", action="store_true", help="accepted for symmetry: demos always resume")
    sft = stages.add_parser("sft", help="supervised finetuning of the policy")
    sft.add_argument(
        "--data", "--demos", nargs="+", default=["data/demos"], dest="demos", metavar="FOLDER",
        help="demonstrations; rollouts, recorded attempts, exported datasets: those that went well",
    )  # fmt: skip
    sft.add_argument("--out", type=Path, required=True, help="run folder: checkpoints, state.json, curves.png")
    sft.add_argument("--init", default="", help="run folder whose averaged network is the start")
    sft.add_argument("--per-task", type=int, default=0, help="examples per task, 0: all")
    sft.add_argument("--samples", type=int, default=360_000, help="observations to train on")
    sft.add_argument("--batch", type=int, default=64)
    sft.add_argument("--seed", type=int, default=0)
    sft.add_argument("--threads", type=int, default=2)
    sft.add_argument("--resume", action="store_true", help="go on from the last checkpoint of --out")
    rollouts = stages.add_parser("rollouts", help="attempts of experts, policies and random motion")
    rollouts.add_argument("--out", type=Path, default=Path("data/rollouts"))
    rollouts.add_argument(
        "--episodes", default=MIX, help=f"SOURCE=N,… per task, a SOURCE may be any policy bundle; default {MIX}"
    )
    rollouts.add_argument("--seed", type=int, default=700_000, help="first scene seed, below 1,000,000")
    rollouts.add_argument("--scenes", choices=SCENES, default="training", help="calibration: --seed counts from there")
    rollouts.add_argument("--branches", action="store_true", help="try each candidate of every look (policies only)")
    rollouts.add_argument(
        "--disturbed", type=float, default=0.0, help="share of attempts in which something goes wrong"
    )
    rollouts.add_argument("--wander", type=float, default=0.0, help="m that half of the branched candidates go astray")
    rollouts.add_argument("--timeout", type=float, default=10.0, help="of an attempt, s")
    rollouts.add_argument("--world-model", default="", help="bundle that vets what policies propose; none by default")
    rollouts.add_argument("--workers", type=int, default=2, help="processes, or Ray workers")
    add_ray(rollouts)
    rollouts.add_argument("--resume", action="store_true", help="accepted for symmetry: rollouts always resume")
    pictures = stages.add_parser("autoencoder", help="the world model's image autoencoder")
    world = stages.add_parser("world-model", help="the world model, on rollouts")
    for one, samples, batch, rate in ((pictures, 400_000, 48, 1.5e-3), (world, 300_000, 32, 5e-4)):
        one.add_argument("--data", nargs="+", default=["data/rollouts"], help="one or more folders")
        one.add_argument("--out", type=Path, required=True, help="run folder")
        one.add_argument("--samples", type=int, default=samples)
        one.add_argument("--seed", type=int, default=0)
        one.add_argument("--batch", type=int, default=batch)
        one.add_argument("--learning-rate", type=float, default=rate)
        one.add_argument("--threads", type=int, default=2)
        one.add_argument("--device", default="cpu", help="cpu or cuda")
        one.add_argument("--resume", action="store_true", help="go on from the last checkpoint of --out")
    world.add_argument("--init", default="", help="run folder whose averaged network is the start")
    world.add_argument("--autoencoder", required=True, help="run folder")
    world.add_argument("--branches", nargs="*", default=[], help="those folders of --data with branched rollouts")
    world.add_argument("--eyes", required=True, help="policy whose eyes it sees with: run folder or bundle folder")
    world.add_argument("--independent-views", action="store_true", help="the wrist view does not see the head view")
    detector = stages.add_parser("detector", help="the failure detector of one policy, on rollouts; writes its bundle")
    detector.add_argument("--data", nargs="+", default=["data/rollouts_disturbed"], help="one or more folders")
    detector.add_argument("--policy", default="sft_full", help="bundle whose rollouts and features count")
    detector.add_argument("--run", type=Path, required=True, help="run folder: checkpoints, state.json, curves.png")
    detector.add_argument("--out", type=Path, required=True, help="bundle folder")
    detector.add_argument("--samples", type=int, default=16_000, help="attempts seen")
    detector.add_argument("--seed", type=int, default=0)
    detector.add_argument("--resume", action="store_true", help="go on from the last checkpoint of --run")
    dream = stages.add_parser("dream-rl", help="reinforcement learning of a policy in the world model, on rollouts")
    dream.add_argument("--data", nargs="+", default=["data/logged"], help="folders of rollouts of the policy")
    dream.add_argument("--demos", nargs="+", default=[], help="folders of the demonstrations that it was trained on")
    dream.add_argument("--policy", default="sft_few", help="bundle that it starts from, and that the log is of")
    dream.add_argument("--init", default="", help="run or bundle of an earlier stage, to go on from its network")
    dream.add_argument("--world-model", default="models/training/world_model", help="run folder")
    dream.add_argument("--vetting", default="world_model", help="bundle or folder of that run, for its calibration")
    dream.add_argument("--out", type=Path, required=True, help="run folder: checkpoints, state.json, curves.png")
    dream.add_argument("--method", default="ppo", choices=("ppo", "recap"), help="recap: without a policy gradient")
    dream.add_argument("--samples", type=int, default=16_000, help="observations in updates")
    dream.add_argument("--seed", type=int, default=0)
    dream.add_argument("--threads", type=int, default=2)
    dream.add_argument("--device", default="cpu", help="cpu or cuda")
    dream.add_argument("--workers", type=int, default=1, help="that try chunks; 1 without --ray: the trainer itself")
    add_ray(dream)
    dream.add_argument("--set", default="", help="other numbers of the recipe: NAME=VALUE, separated by commas")
    dream.add_argument("--resume", action="store_true", help="go on from the last checkpoint of --out")
    vampo = stages.add_parser("vampo", help="post-training of the world model's denoiser on the logged future")
    vampo.add_argument("--data", nargs="+", default=["data/rollouts"], help="one or more folders of rollouts")
    vampo.add_argument("--world-model", default="models/training/world_model", help="run folder that it starts from")
    vampo.add_argument("--out", type=Path, required=True, help="run folder: checkpoints, state.json, curves.png")
    vampo.add_argument("--samples", type=int, default=3_200, help="observations in updates")
    vampo.add_argument("--seed", type=int, default=0)
    vampo.add_argument("--threads", type=int, default=2)
    vampo.add_argument("--set", default="", help="other numbers of the recipe: NAME=VALUE, separated by commas")
    vampo.add_argument("--resume", action="store_true", help="go on from the last checkpoint of --out")
    loop = stages.add_parser("loop", help="all of it: rollouts, world model, dream RL, export, promotion")
    usual = LoopRecipe(Path())
    loop.add_argument("--out", type=Path, required=True, help="folder of everything that it makes; progress.json")
    for name, what in LOOP_OPTIONS.items():
        kind = type(getattr(usual, name))
        loop.add_argument(f"--{name.replace('_', '-')}", type=kind, default=getattr(usual, name), help=what)
    loop.add_argument("--limits", default="", help="further options of `vla-mbpo promote`, in one string")
    loop.add_argument("--resume", action="store_true", help="go on with a loop that was cut off")
    listed = stages.add_parser("episodes", help="what is in folders of rollouts and recorded attempts")
    listed.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="as other stages take as --data")
    listed.add_argument("--robot", default="sim_panda")
    listed.add_argument("--json", action="store_true", help="print it as JSON")
    report = stages.add_parser("report", help="HTML page of a run; written at the end of each, too")
    report.add_argument("run", type=Path, metavar="RUN", help="run folder: state.json")
    report.add_argument("--out", type=Path, help="the file; default: report.html in the folder")
    report.add_argument("--world-model", default="", help="bundle that imagines; default: vetting of the recipe")
    export = stages.add_parser("export", help="ONNX, int8, parity check and manifest of a training run")
    export.add_argument("--run", type=Path, required=True, help="run folder of sft or world-model")
    export.add_argument("--policies", default="sft_full,sft_few", help="bundles that a world model may vet")
    export.add_argument("--out", type=Path, required=True, help="bundle folder")
    export.add_argument("--familiar", default="", help="world model whose idea of a familiar view stays")
    export.add_argument("--slim", type=Path, help="also keep the run itself here: averaged network, half precision")
    export.add_argument("--robot", default="sim_panda")


def run(args: argparse.Namespace) -> int:
    """Run one stage."""
    try:
        return STAGES[args.stage](args)
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "onnx", "onnxslim", "safetensors", "matplotlib"):
            raise
        raise ConfigError("install", f"without {error.name}", "training needs `make setup-dev`") from error


def _demos(args: argparse.Namespace) -> int:
    from vla_mbpo.training.demonstrations import Recipe, generate

    names = (
        TRAINING_TASKS
        if args.tasks == "all"
        else tuple(dict.fromkeys(find_task(n.strip()).name for n in args.tasks.split(",")))
    )
    held = [name for name in names if name not in TRAINING_TASKS]
    require(not held, "--tasks", held, f"these are held out of all training; choose from {', '.join(TRAINING_TASKS)}")
    require(args.episodes > 0, "--episodes", args.episodes, "a number above 0")
    seeds = args.seed in TRAIN_SEEDS and args.seed + args.episodes - 1 in TRAIN_SEEDS
    require(seeds, "--seed", args.seed, "first and last scene seed from 0 to 999999")
    made = generate(args.out, names, args.episodes, Recipe(pilot=args.pilot, seed=args.seed), args.workers)
    print(f"{made} of {args.episodes * len(names)} demonstrations in {args.out} (the rest failed under perturbation)")
    return 0


def _sft(args: argparse.Namespace) -> int:
    from vla_mbpo.training.sft import SftConfig, Trainer

    if not args.resume and (args.out / "state.json").exists():
        raise ConfigError("--out", str(args.out), "holds a run already: add --resume or choose another folder")
    chosen = {f.name: getattr(args, f.name) for f in fields(SftConfig) if hasattr(args, f.name)}
    trainer = Trainer(SftConfig(**{**chosen, "demos": tuple(args.demos)}), args.out)
    trainer.run(resume=args.resume)
    _curves(trainer, args.out / "curves.png", f"{len(trainer.demos)} observations")
    return 0


def _rollouts(args: argparse.Namespace) -> int:
    from vla_mbpo.training.rollouts import generate

    try:
        episodes = {name.strip(): int(count) for name, count in (part.split("=") for part in args.episodes.split(","))}
    except ValueError:
        raise ConfigError("--episodes", args.episodes, "SOURCE=N, separated by commas") from None
    first, scenes = args.seed + SCENES[args.scenes].start, SCENES[args.scenes]
    last = first + sum(episodes.values()) * len(TRAINING_TASKS) - 1
    require(1.0 <= args.timeout <= 60.0, "--timeout", args.timeout, "1 to 60 s")
    require(first in scenes and last in scenes, "--seed", args.seed, f"0 to 999999, also the last, {last - scenes[0]}")
    made = generate(
        args.out, TRAINING_TASKS, episodes, first, workers=args.workers, branched=args.branches,
        world_model=args.world_model, disturbed=args.disturbed, timeout=args.timeout,
        wander=args.wander, ray=args.ray,
    )  # fmt: skip
    for source, row in made.items():
        print(f"{source:10} n {row['n']:5}  success {row['successes']:.2f}  cost events {row['cost_events']:.2f}")
    return 0


def _world(args: argparse.Namespace) -> int:
    from vla_mbpo.training import autoencoder, world_model

    if not args.resume and (args.out / "state.json").exists():
        raise ConfigError("--out", str(args.out), "holds a run already: add --resume or choose another folder")
    names = ("samples", "batch", "learning_rate", "seed", "threads", "device")
    common = {"data": tuple(args.data), **{name: getattr(args, name) for name in names}}
    if args.stage == "autoencoder":
        seeing = autoencoder.Trainer(autoencoder.AutoencoderRecipe(**common), args.out)
        seeing.run(resume=args.resume)
        _curves(seeing, args.out / "curves.png", "autoencoder")
        return 0
    recipe = world_model.WorldModelRecipe(
        **common,
        init=args.init,
        autoencoder=args.autoencoder,
        eyes=args.eyes,
        interleaved=not args.independent_views,
        branches=tuple(args.branches),
    )
    trainer = world_model.Trainer(recipe, args.out)
    trainer.run(resume=args.resume)
    _curves(trainer, args.out / "curves.png", f"{len(trainer.train)} observations")
    return 0


def _detector(args: argparse.Namespace) -> int:
    from vla_mbpo.failure.attempts import read_all
    from vla_mbpo.training.detector import DetectorRecipe, Trainer
    from vla_mbpo.training.detector_export import export_detector, load_detector

    if not args.resume and (args.run / "state.json").exists():
        raise ConfigError("--run", str(args.run), "holds a run already: add --resume or choose another folder")
    policy = Bundle.load(bundle_dir(args.policy))
    attempts = [a for a in read_all([Path(folder) for folder in args.data]) if a.policy == policy.version]
    recipe = DetectorRecipe(tuple(args.data), policy.version, TRAINING_TASKS, samples=args.samples, seed=args.seed)
    trainer = Trainer(recipe, attempts, args.run)
    trainer.run(resume=args.resume)
    _curves(trainer, args.run / "curves.png", f"{len(trainer.attempts)} attempts")
    if not trainer.ranks.leads:
        return 0
    bundle = export_detector(*load_detector(args.run), trainer.attempts, policy, args.out)
    print(f"{bundle.version}: parity {bundle.manifest['parity']}; next: vla-mbpo calibrate detector")
    return 0


def _dream_rl(args: argparse.Namespace) -> int:
    from vla_mbpo.training.dream_rl import DreamRlRecipe, Trainer

    if not args.resume and (args.out / "state.json").exists():
        raise ConfigError("--out", str(args.out), "holds a run already: add --resume or choose another folder")
    names = ("policy", "init", "world_model", "vetting", "method", "samples", "seed", "threads", "device")
    common = {"data": tuple(args.data), "demos": tuple(args.demos), **{name: getattr(args, name) for name in names}}
    place = Place(args.workers, args.ray).check()
    recipe = DreamRlRecipe(**common, **_numbers(args.set, DreamRlRecipe(())))
    trainer = Trainer(recipe, args.out, place)
    trainer.run(resume=args.resume)
    _curves(trainer, args.out / "curves.png", f"{len(trainer.refills)} refills")
    return 0


def _vampo(args: argparse.Namespace) -> int:
    from vla_mbpo.training.vampo import Trainer, VampoRecipe

    if not args.resume and (args.out / "state.json").exists():
        raise ConfigError("--out", str(args.out), "holds a run already: add --resume or choose another folder")
    common = {name: getattr(args, name) for name in ("world_model", "samples", "seed", "threads")}
    recipe = VampoRecipe(tuple(args.data), **common, **_numbers(args.set, VampoRecipe(())))
    trainer = Trainer(recipe, args.out)
    trainer.run(resume=args.resume)
    _curves(trainer, args.out / "curves.png", f"{len(trainer.refills)} refills")
    return 0


def _loop(args: argparse.Namespace) -> int:
    require(args.resume or not (args.out / PROGRESS).exists(), "--out", str(args.out), "a new folder, or add --resume")
    chosen = {name: getattr(args, name) for name in LOOP_OPTIONS}
    return Pipeline(LoopRecipe(args.out, limits=tuple(shlex.split(args.limits)), **chosen)).run()


def _episodes(args: argparse.Namespace) -> int:
    from vla_mbpo.training.episodes import find
    from vla_mbpo.training.overview import overview, table

    for folder in args.folders:
        require(folder.is_dir(), "FOLDER", str(folder), "a folder")
    found = find(args.folders, args.robot)
    said = overview(found.files)
    if args.json:
        print(json.dumps(said | {"passed_over": found.passed_over}, indent=1))
        return 0
    print("\n".join([table(said), *found.lines()]))
    return 0


def _curves(trainer: Any, file: Path, title: str) -> None:
    """Plot a run's history and write its page; of several ranks the first one does."""
    from vla_mbpo.reports.training import after_run
    from vla_mbpo.training.curves import plot

    if trainer.ranks.leads:
        plot(trainer.history, file, title)
        print(after_run(file.parent))


def _report(args: argparse.Namespace) -> int:
    from vla_mbpo.reports.training import write

    print(f"report: {write(args.run, args.out, args.world_model)}")
    return 0


def _numbers(text: str, recipe: Any) -> dict[str, Any]:
    """NAME=VALUE, … as numbers of a recipe. ConfigError for what it does not have."""
    found: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        kind: Any = type(getattr(recipe, name.strip(), None))
        known = ", ".join(f.name for f in fields(recipe) if isinstance(getattr(recipe, f.name), int | float))
        require(kind in (int, float), "--set", part, f"NAME=VALUE, NAME one of {known}")
        try:
            found[name.strip()] = kind(value)
        except ValueError:
            raise ConfigError("--set", part, f"a number of type {kind.__name__}") from None
    return found


def _export(args: argparse.Namespace) -> int:
    require((args.run / "state.json").is_file(), "--run", str(args.run), "a folder of sft or world-model")
    kind = _export_world_model if "world_model" in json.loads((args.run / "state.json").read_text()) else _export_policy
    bundle = kind(args, RobotSpec.load(robot_dir(args.robot)))
    if args.slim:
        from vla_mbpo.training.loop import slim

        slim(args.run, args.slim)
    size = sum(f.stat().st_size for f in args.out.iterdir()) / 1e6
    print(f"{bundle.version}: {size:.1f} MB in {args.out}, parity {bundle.manifest['parity']}")
    return 0


def _export_policy(args: argparse.Namespace, spec: RobotSpec) -> Bundle:
    from vla_mbpo.policy.export import export_bundle
    from vla_mbpo.training.curves import plot
    from vla_mbpo.training.sft import load_average

    net, state = load_average(args.run)
    plot(state["history"], args.run / "curves.png", f"{state['observations']} observations")
    return export_bundle(net, state, spec, args.out, args.out.name)


def _export_world_model(args: argparse.Namespace, spec: RobotSpec) -> Bundle:
    from vla_mbpo.imagination.export import export_world_model
    from vla_mbpo.training.calibration import load_calibration
    from vla_mbpo.training.world_model import WorldModelRecipe, load_perception, load_world_model

    net, state = load_world_model(args.run)
    found, familiar = load_calibration(args.run)
    versions = [Bundle.load(bundle_dir(name.strip())).version for name in args.policies.split(",")]
    strangers = sorted(set(versions) - set(state["policies"]))
    require(not strangers, "--policies", strangers, f"policies of the rollouts: {', '.join(state['policies'])}")
    extra = {"policies": versions, "calibration": found, "choice": found.pop("choice", {})}
    perception = load_perception(WorldModelRecipe(**state["recipe"]))
    kept = Bundle.load(bundle_dir(args.familiar)) if args.familiar else None
    return export_world_model(net, perception, familiar, state, spec, args.out, extra, kept)


STAGES = {
    "demos": _demos,
    "sft": _sft,
    "rollouts": _rollouts,
    "autoencoder": _world,
    "world-model": _world,
    "detector": _detector,
    "dream-rl": _dream_rl,
    "loop": _loop,
    "vampo": _vampo,
    "episodes": _episodes,
    "report": _report,
    "export": _export,
}
