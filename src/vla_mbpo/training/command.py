"""``vla-mbpo train demos|sft|export``. Needs the ``train`` extra."""

import argparse
from dataclasses import fields
from pathlib import Path

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.paths import robot_dir
from vla_mbpo.sim.tasks import TRAIN_SEEDS, TRAINING_TASKS, find_task


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the stages and their options."""
    stages = parser.add_subparsers(dest="stage", required=True, metavar="demos|sft|export")
    demos = stages.add_parser("demos", help="make scripted demonstrations; existing ones are kept")
    demos.add_argument("--out", type=Path, default=Path("data/demos"))
    demos.add_argument("--tasks", default="all", help=f"all training tasks, or some of {', '.join(TRAINING_TASKS)}")
    demos.add_argument("--episodes", type=int, default=250, help="per task")
    demos.add_argument("--seed", type=int, default=0, help="first scene seed, below 1,000,000")
    demos.add_argument("--pilot", default="", help="policy bundle that drives in turns with the expert (DAgger)")
    demos.add_argument("--workers", type=int, default=2)
    demos.add_argument("--resume", action="store_true", help="accepted for symmetry: demos always resume")
    sft = stages.add_parser("sft", help="supervised finetuning of the policy")
    sft.add_argument("--demos", nargs="+", default=["data/demos"], help="one or more folders")
    sft.add_argument("--out", type=Path, required=True, help="run folder: checkpoints, state.json, curves.png")
    sft.add_argument("--init", default="", help="run folder whose averaged network is the start")
    sft.add_argument("--per-task", type=int, default=0, help="demonstrations per task, 0: all")
    sft.add_argument("--samples", type=int, default=360_000, help="observations to train on")
    sft.add_argument("--batch", type=int, default=64)
    sft.add_argument("--seed", type=int, default=0)
    sft.add_argument("--threads", type=int, default=2)
    sft.add_argument("--resume", action="store_true", help="go on from the last checkpoint of --out")
    export = stages.add_parser("export", help="ONNX, int8, parity check and manifest of a training run")
    export.add_argument("--run", type=Path, required=True, help="run folder of sft")
    export.add_argument("--out", type=Path, required=True, help="bundle folder")
    export.add_argument("--robot", default="sim_panda")


def run(args: argparse.Namespace) -> int:
    """Run one stage."""
    try:
        return {"demos": _demos, "sft": _sft, "export": _export}[args.stage](args)
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
    from vla_mbpo.training.curves import plot
    from vla_mbpo.training.sft import SftConfig, Trainer

    if not args.resume and (args.out / "state.json").exists():
        raise ConfigError("--out", str(args.out), "holds a run already: add --resume or choose another folder")
    chosen = {f.name: getattr(args, f.name) for f in fields(SftConfig) if hasattr(args, f.name)}
    trainer = Trainer(SftConfig(**{**chosen, "demos": tuple(args.demos)}), args.out)
    trainer.run(resume=args.resume)
    plot(trainer.history, args.out / "curves.png", f"{len(trainer.demos)} observations")
    return 0


def _export(args: argparse.Namespace) -> int:
    from vla_mbpo.policy.export import export_bundle
    from vla_mbpo.training.curves import plot
    from vla_mbpo.training.sft import load_average

    require((args.run / "state.json").is_file(), "--run", str(args.run), "a run folder of `vla-mbpo train sft`")
    net, state = load_average(args.run)
    bundle = export_bundle(net, state, RobotSpec.load(robot_dir(args.robot)), args.out, args.out.name)
    plot(state["history"], args.run / "curves.png", f"{state['observations']} observations")
    size = sum(f.stat().st_size for f in args.out.iterdir()) / 1e6
    print(f"{bundle.version}: {size:.1f} MB in {args.out}, parity {bundle.manifest['parity']}")
    return 0
