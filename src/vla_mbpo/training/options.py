"""The stages of ``vla-mbpo train`` and their options."""

import argparse
from pathlib import Path

from vla_mbpo.sim.tasks import CALIBRATION_SEEDS, TRAIN_SEEDS, TRAINING_TASKS
from vla_mbpo.spread import add_ray
from vla_mbpo.training.plan import LoopRecipe

Stages = argparse._SubParsersAction

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


def _demos(stages: Stages) -> None:
    add = stages.add_parser("demos", help="make scripted demonstrations; existing ones are kept").add_argument
    add("--out", type=Path, default=Path("data/demos"))
    add("--tasks", default="all", help=f"all training tasks, or some of {', '.join(TRAINING_TASKS)}")
    add("--episodes", type=int, default=250, help="per task")
    add("--seed", type=int, default=0, help="first scene seed, below 1,000,000")
    add("--pilot", default="", help="policy bundle that drives in turns with the expert (DAgger)")
    add("--workers", type=int, default=2)
    add("--resume", action="store_true", help="accepted for symmetry: demos always resume")


def _sft(stages: Stages) -> None:
    add = stages.add_parser("sft", help="supervised finetuning of the policy").add_argument
    add(
        "--data", "--demos", nargs="+", default=["data/demos"], dest="demos", metavar="FOLDER",
        help="demonstrations; rollouts, recorded attempts, exported datasets: those that went well",
    )  # fmt: skip
    add(
        "--watched", nargs="*", default=[], metavar="FOLDER",
        help="the same, those that failed too: only where things are is learned from them",
    )  # fmt: skip
    add("--out", type=Path, required=True, help="run folder: checkpoints, state.json, curves.png")
    add("--init", default="", help="run folder whose averaged network is the start")
    add("--per-task", type=int, default=0, help="examples per task, 0: all")
    add("--samples", type=int, default=360_000, help="observations to train on")
    add("--batch", type=int, default=64)
    add("--learning-rate", type=float, default=6e-4)
    add("--robot", default="sim_panda", help="whose tasks the vocabulary is of")
    add("--one-camera", dest="wrist", action="store_false", help="the wrist view is black")
    add("--seed", type=int, default=0)
    add("--threads", type=int, default=2)
    add("--device", default="cpu", help="cpu or cuda")
    add("--resume", action="store_true", help="go on from the last checkpoint of --out")


def _rollouts(stages: Stages) -> None:
    parser = stages.add_parser("rollouts", help="attempts of experts, policies and random motion")
    add = parser.add_argument
    add("--out", type=Path, default=Path("data/rollouts"))
    add("--episodes", default=MIX, help=f"SOURCE=N,… per task, a SOURCE may be any policy bundle; default {MIX}")
    add("--seed", type=int, default=700_000, help="first scene seed, below 1,000,000")
    add("--scenes", choices=SCENES, default="training", help="calibration: --seed counts from there")
    add("--branches", action="store_true", help="try each candidate of every look (policies only)")
    add("--disturbed", type=float, default=0.0, help="share of attempts in which something goes wrong")
    add("--wander", type=float, default=0.0, help="m that half of the branched candidates go astray")
    add("--timeout", type=float, default=10.0, help="of an attempt, s")
    add("--world-model", default="", help="bundle that vets what policies propose; none by default")
    add("--workers", type=int, default=2, help="processes, or Ray workers")
    add_ray(parser)
    add("--resume", action="store_true", help="accepted for symmetry: rollouts always resume")


def _world(stages: Stages) -> None:
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
        one.add_argument("--robot", default="sim_panda", help="whose episodes these are (default %(default)s)")
        one.add_argument("--resume", action="store_true", help="go on from the last checkpoint of --out")
    world.add_argument("--init", default="", help="run folder whose averaged network is the start")
    world.add_argument("--autoencoder", required=True, help="run folder")
    world.add_argument("--branches", nargs="*", default=[], help="those folders of --data with branched rollouts")
    world.add_argument("--eyes", required=True, help="policy whose eyes it sees with: run folder or bundle folder")
    world.add_argument("--independent-views", action="store_true", help="the wrist view does not see the head view")


def _detector(stages: Stages) -> None:
    add = stages.add_parser(
        "detector", help="the failure detector of one policy, on rollouts; writes its bundle"
    ).add_argument
    add("--data", nargs="+", default=["data/rollouts_disturbed"], help="one or more folders")
    add("--policy", default="sft_full", help="bundle whose rollouts and features count")
    add("--run", type=Path, required=True, help="run folder: checkpoints, state.json, curves.png")
    add("--out", type=Path, required=True, help="bundle folder")
    add("--robot", default="sim_panda", help="whose tasks it learns from")
    add("--samples", type=int, default=16_000, help="attempts seen")
    add("--seed", type=int, default=0)
    add("--resume", action="store_true", help="go on from the last checkpoint of --run")


def _dream_rl(stages: Stages) -> None:
    parser = stages.add_parser("dream-rl", help="reinforcement learning of a policy in the world model, on rollouts")
    add = parser.add_argument
    add("--data", nargs="+", default=["data/logged"], help="folders of rollouts of the policy")
    add("--demos", nargs="+", default=[], help="folders of the demonstrations that it was trained on")
    add("--policy", default="sft_few", help="bundle that it starts from, and that the log is of")
    add("--init", default="", help="run or bundle of an earlier stage, to go on from its network")
    add("--world-model", default="models/training/world_model", help="run folder")
    add("--vetting", default="world_model", help="bundle or folder of that run, for its calibration")
    add("--out", type=Path, required=True, help="run folder: checkpoints, state.json, curves.png")
    add("--robot", default="sim_panda")
    add("--method", default="ppo", choices=("ppo", "recap"), help="recap: without a policy gradient")
    add("--samples", type=int, default=16_000, help="observations in updates")
    add("--seed", type=int, default=0)
    add("--threads", type=int, default=2)
    add("--device", default="cpu", help="cpu or cuda")
    add("--workers", type=int, default=1, help="that try chunks; 1 without --ray: the trainer itself")
    add_ray(parser)
    add("--set", default="", help="other numbers of the recipe: NAME=VALUE, separated by commas")
    add("--resume", action="store_true", help="go on from the last checkpoint of --out")


def _vampo(stages: Stages) -> None:
    add = stages.add_parser(
        "vampo", help="post-training of the world model's denoiser on the logged future"
    ).add_argument
    add("--data", nargs="+", default=["data/rollouts"], help="one or more folders of rollouts")
    add("--world-model", default="models/training/world_model", help="run folder that it starts from")
    add("--out", type=Path, required=True, help="run folder: checkpoints, state.json, curves.png")
    add("--samples", type=int, default=3_200, help="observations in updates")
    add("--seed", type=int, default=0)
    add("--threads", type=int, default=2)
    add("--set", default="", help="other numbers of the recipe: NAME=VALUE, separated by commas")
    add("--resume", action="store_true", help="go on from the last checkpoint of --out")


def _loop(stages: Stages) -> None:
    add = stages.add_parser("loop", help="all of it: rollouts, world model, dream RL, export, promotion").add_argument
    usual = LoopRecipe(Path())
    add("--out", type=Path, required=True, help="folder of everything that it makes; progress.json")
    for name, what in LOOP_OPTIONS.items():
        kind = type(getattr(usual, name))
        add(f"--{name.replace('_', '-')}", type=kind, default=getattr(usual, name), help=what)
    add("--limits", default="", help="further options of `vla-mbpo promote`, in one string")
    add("--resume", action="store_true", help="go on with a loop that was cut off")


def _episodes(stages: Stages) -> None:
    add = stages.add_parser("episodes", help="what is in folders of rollouts and recorded attempts").add_argument
    add("folders", nargs="+", type=Path, metavar="FOLDER", help="as other stages take as --data")
    add("--robot", default="sim_panda")
    add("--json", action="store_true", help="print it as JSON")


def _report(stages: Stages) -> None:
    add = stages.add_parser("report", help="HTML page of a run; written at the end of each, too").add_argument
    add("run", type=Path, metavar="RUN", help="run folder: state.json")
    add("--out", type=Path, help="the file; default: report.html in the folder")
    add("--world-model", default="", help="bundle that imagines; default: vetting of the recipe")


def _export(stages: Stages) -> None:
    add = stages.add_parser("export", help="ONNX, int8, parity check and manifest of a training run").add_argument
    add(
        "--run", type=Path, nargs="+", required=True, metavar="RUN",
        help="run folder; of several policies', or bundles', the mean of their weights",
    )  # fmt: skip
    add("--policies", default="sft_full,sft_few", help="bundles that a world model may vet")
    add("--out", type=Path, required=True, help="bundle folder")
    add("--familiar", default="", help="world model whose idea of a familiar view stays")
    add("--slim", type=Path, help="also keep the run itself here: averaged network, half precision")
    add("--robot", default="sim_panda")


_ALL = (_demos, _sft, _rollouts, _world, _detector, _dream_rl, _vampo, _loop, _episodes, _report, _export)


def declare(stages: Stages) -> None:
    """Declare them all."""
    for stage in _ALL:
        stage(stages)
