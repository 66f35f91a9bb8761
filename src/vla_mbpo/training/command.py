"""``vla-mbpo train``: one stage of training a bundle. Needs the ``train`` extra."""

import argparse
import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.paths import bundle_dir, robot_dir
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.sim.instructions import tasks_of
from vla_mbpo.sim.tasks import TRAIN_SEEDS, TRAINING_TASKS, find_task
from vla_mbpo.spread import Place
from vla_mbpo.training.dream_recipe import DreamRlRecipe
from vla_mbpo.training.options import LOOP_OPTIONS, SCENES, declare
from vla_mbpo.training.pipeline import PROGRESS, Pipeline
from vla_mbpo.training.plan import LoopRecipe

# Of the recipe of dream RL, what has an option of its own.
DREAM_RL = ("policy", "init", "world_model", "vetting", "robot", "method", "samples", "seed", "threads", "device")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the stages and their options."""
    declare(parser.add_subparsers(dest="stage", required=True, metavar="|".join(STAGES)))


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

    _require_new("--out", args.out, args.resume)
    chosen = {f.name: getattr(args, f.name) for f in fields(SftConfig) if hasattr(args, f.name)}
    trainer = Trainer(SftConfig(**{**chosen, "demos": tuple(args.demos), "watched": tuple(args.watched)}), args.out)
    trainer.run(resume=args.resume)
    _curves(trainer, args.out / "curves.png", f"{len(trainer.demos)} observations")
    return 0


def _rollouts(args: argparse.Namespace) -> int:
    from vla_mbpo.training.rollouts import Branching, generate

    require(args.branches or not args.wander, "--wander", args.wander, "0 without --branches")
    branching = Branching(args.wander, 1.0 if args.wander else Branching.finished) if args.branches else None
    try:
        episodes = {name.strip(): int(count) for name, count in (part.split("=") for part in args.episodes.split(","))}
    except ValueError:
        raise ConfigError("--episodes", args.episodes, "SOURCE=N, separated by commas") from None
    first, scenes = args.seed + SCENES[args.scenes].start, SCENES[args.scenes]
    last = first + sum(episodes.values()) * len(TRAINING_TASKS) - 1
    require(1.0 <= args.timeout <= 60.0, "--timeout", args.timeout, "1 to 60 s")
    require(first in scenes and last in scenes, "--seed", args.seed, f"0 to 999999, also the last, {last - scenes[0]}")
    made = generate(
        args.out, TRAINING_TASKS, episodes, first, workers=args.workers, branching=branching,
        world_model=args.world_model, disturbed=args.disturbed, timeout=args.timeout, ray=args.ray,
    )  # fmt: skip
    for source, row in made.items():
        print(f"{source:10} n {row['n']:5}  success {row['successes']:.2f}  cost events {row['cost_events']:.2f}")
    return 0


def _world(args: argparse.Namespace) -> int:
    from vla_mbpo.training import autoencoder, world_model

    _require_new("--out", args.out, args.resume)
    names = ("samples", "batch", "learning_rate", "seed", "threads", "device", "robot")
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

    _require_new("--run", args.run, args.resume)
    policy = Bundle.load(bundle_dir(args.policy))
    attempts = [a for a in read_all(args.data, args.robot) if a.policy == policy.version]
    tasks = tuple(name for name, task in tasks_of(args.robot).items() if not task.held_out)
    recipe = DetectorRecipe(tuple(args.data), policy.version, tasks, samples=args.samples, seed=args.seed)
    trainer = Trainer(recipe, attempts, args.run)
    trainer.run(resume=args.resume)
    _curves(trainer, args.run / "curves.png", f"{len(trainer.attempts)} attempts")
    if not trainer.ranks.leads:
        return 0
    bundle = export_detector(*load_detector(args.run), trainer.attempts, policy, args.out)
    print(f"{bundle.version}: parity {bundle.manifest['parity']}; next: vla-mbpo calibrate detector")
    return 0


def _dream_rl(args: argparse.Namespace) -> int:
    from vla_mbpo.training.dream_rl import Trainer

    _require_new("--out", args.out, args.resume)
    common = {name: getattr(args, name) for name in DREAM_RL} | {"data": tuple(args.data), "demos": tuple(args.demos)}
    place = Place(args.workers, args.ray).check()
    recipe = DreamRlRecipe(**common, **_numbers(args.set, DreamRlRecipe(()), DREAM_RL))
    trainer = Trainer(recipe, args.out, place)
    trainer.run(resume=args.resume)
    _curves(trainer, args.out / "curves.png", f"{len(trainer.refills)} refills")
    return 0


def _vampo(args: argparse.Namespace) -> int:
    from vla_mbpo.training.vampo import Trainer, VampoRecipe

    _require_new("--out", args.out, args.resume)
    names = ("world_model", "samples", "seed", "threads")
    common = {name: getattr(args, name) for name in names}
    recipe = VampoRecipe(tuple(args.data), **common, **_numbers(args.set, VampoRecipe(()), names))
    trainer = Trainer(recipe, args.out)
    trainer.run(resume=args.resume)
    _curves(trainer, args.out / "curves.png", f"{len(trainer.refills)} refills")
    return 0


def _loop(args: argparse.Namespace) -> int:
    require(args.resume or not (args.out / PROGRESS).exists(), "--out", str(args.out), "a new folder, or add --resume")
    DreamRlRecipe((), **_numbers(args.options, DreamRlRecipe(()), DREAM_RL, "--options"))  # else refused hours later
    try:
        limits = tuple(shlex.split(args.limits))
    except ValueError as error:
        raise ConfigError("--limits", args.limits, f"options of `vla-mbpo promote`, as in a shell: {error}") from None
    chosen = {name: getattr(args, name) for name in LOOP_OPTIONS}
    return Pipeline(LoopRecipe(args.out, limits=limits, **chosen)).run()


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


def _require_new(option: str, folder: Path, resume: bool) -> None:
    free = resume or not (folder / "state.json").exists()
    require(free, option, str(folder), "holds a run already: add --resume or choose another folder")


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


def _numbers(text: str, recipe: Any, taken: Sequence[str], option: str = "--set") -> dict[str, Any]:
    """NAME=VALUE, … as numbers of a recipe. ConfigError for what it does not have, or has an option for (``taken``)."""
    found: dict[str, Any] = {}
    names = [f.name for f in fields(recipe) if isinstance(getattr(recipe, f.name), int | float) and f.name not in taken]
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        require(name.strip() in names, option, part, f"NAME=VALUE, NAME one of {', '.join(names)}")
        kind: Any = type(getattr(recipe, name.strip()))
        try:
            number = kind(value)
        except ValueError:
            raise ConfigError(option, part, f"a number of type {kind.__name__}") from None
        require(math.isfinite(number), option, part, "a finite number")
        found[name.strip()] = number
    return found


def _export(args: argparse.Namespace) -> int:
    for run in args.run:
        known = (run / "state.json").is_file() or (run / "manifest.json").is_file()
        require(known, "--run", str(run), "a folder of a training run; to average policies, also bundles")
    first = args.run[0] / "state.json"
    of_world = first.is_file() and "world_model" in json.loads(first.read_text())
    require(len(args.run) == 1 or not (of_world or args.slim), "--run", len(args.run), "one, unless of policies alone")
    kind = _export_world_model if of_world else _export_policy
    bundle = kind(args, RobotSpec.load(robot_dir(args.robot)))
    if args.slim:
        from vla_mbpo.training.loop import slim

        slim(args.run[0], args.slim)
    size = sum(f.stat().st_size for f in args.out.iterdir()) / 1e6
    print(f"{bundle.version}: {size:.1f} MB in {args.out}, parity {bundle.manifest['parity']}")
    return 0


def _export_policy(args: argparse.Namespace, spec: RobotSpec) -> Bundle:
    from vla_mbpo.policy.export import export_bundle
    from vla_mbpo.training.soup import load_mean

    return export_bundle(*load_mean(args.run), spec, args.out, args.out.name)


def _export_world_model(args: argparse.Namespace, spec: RobotSpec) -> Bundle:
    from vla_mbpo.imagination.export import export_world_model
    from vla_mbpo.training.calibration import load_calibration
    from vla_mbpo.training.world_model import WorldModelRecipe, load_perception, load_world_model

    net, state = load_world_model(args.run[0])
    found, familiar = load_calibration(args.run[0])
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
