"""The protocols as stages: commands of ``vla-mbpo`` and of this package, one after the other. No simulator, no torch.

Scene seeds: demonstrations from 0 on, rollouts from 500,000 on (training), evaluations from 2,000,000 on (test).
"""

import sys
from pathlib import Path

from benchmarks.metaworld.recipes import Detector, Dream, Mt50, Vetting
from benchmarks.metaworld.tasks import ROBOT
from vla_mbpo.core.errors import require
from vla_mbpo.training.plan import Stage

HERE = (sys.executable, "-m", "benchmarks.metaworld")
# The branches' first scene is one to validate in, so that a reduced run has one, too.
RANDOM_SEED, POLICY_SEED, BRANCH_SEED, DETECTOR_SEED = 500_000, 550_000, 850_175, 900_000
SEEDS_APART = 20_000  # of the rollouts of one seed of the dream protocol and those of the next
TEST_APART = 1000  # of their test scenes


# Meta-World has no cost events; and no expert has gone on from what the policy did: only its own time is known.
HERE_ALSO = "multiplier=0,multiplier_rate=0,value=1"


def mt50(recipe: Mt50) -> list[Stage]:
    """Demonstrations, training, export, evaluation, scores by difficulty group."""
    out, demos = recipe.out, recipe.data or str(recipe.out / "demos")
    sft = ("--learning-rate", str(recipe.rate), *(() if recipe.cameras == 2 else ("--one-camera",)))
    score = ("score", "--of", str(out / "evaluation.json"), "--json", str(out / "mt50.json"))
    return [
        _demos(demos, recipe.tasks, recipe.demos, recipe.workers, "--bursts", str(recipe.bursts)),
        *_policy("", out, demos, recipe.samples, recipe.batch, recipe.seed, recipe.threads, recipe.device, *sft),
        _evaluate("", str(out / "bundle"), recipe.tasks, recipe.episodes, recipe.test, out / "evaluation.json",
                  recipe.workers, "--cameras", str(recipe.cameras)),
        Stage("score", score, command=HERE),
    ]  # fmt: skip


def dream_rl(recipe: Dream) -> list[Stage]:
    """Demonstrations and random motion once; then, for each seed, cloning, rollouts, control, world model, dream RL.

    Control: cloning goes on, with the policy's own successes and where things are in all the trajectories. The world
    model sees with its eyes.

    ConfigError: ``cloned`` names fewer runs, or more, than there are seeds.
    """
    out, tasks, workers = recipe.out, recipe.tasks, recipe.workers
    cloned = recipe.cloned.split(",") if recipe.cloned else [""] * recipe.seeds
    require(len(cloned) == recipe.seeds, "--cloned", recipe.cloned, f"{recipe.seeds} runs, separated by commas")
    demos, expert, random = (str(out / name) for name in ("demos", "expert", "random"))
    found = [
        _demos(demos, tasks, recipe.expert, workers),
        Stage("expert", ("convert", "--demos", demos, "--out", expert, "--tasks", tasks, "--episodes",
                         str(recipe.expert)), command=HERE),
        _rollouts("random", random, tasks, f"random={recipe.random}", RANDOM_SEED, workers),
        Stage("autoencoder", ("train", "autoencoder", "--data", expert, random, "--out", str(out / "autoencoder"),
                              "--samples", str(recipe.pictures), *_machine(recipe.threads, recipe.device),
                              "--resume"), str(out / "autoencoder")),
    ]  # fmt: skip
    for seed in range(recipe.seeds):
        found += _of_seed(recipe, seed, demos, (expert, random), cloned[seed])
    for name, before, after in (
        ("compare", "cloned", "dreamt"), ("compare_control", "cloned", "control"), ("compare_both", "control", "dreamt")
    ):  # fmt: skip
        sides = [str(out / f"seed{s}" / f"{side}.json") for side in (before, after) for s in range(recipe.seeds)]
        file = str(out / ("dream_rl.json" if name == "compare" else f"{name}.json"))
        found.append(Stage(name, ("compare", "--of", *sides, "--json", file), command=HERE))
    return found


def _of_seed(recipe: Dream, seed: int, demos: str, common: tuple[str, ...], cloned: str) -> list[Stage]:
    out, tail, workers = recipe.out / f"seed{seed}", f"_{seed}", recipe.workers
    bundle, logged, world, vetting = (str(out / name) for name in ("cloned", "policy", "world_model", "vetting"))
    more, control = str(out / "more"), str(out / "control")
    taught, dreamt, better = (str(out / name) for name in ("taught", "dream_run", "dreamt"))
    machine, test = _machine(recipe.threads, recipe.device), seed * TEST_APART
    dream = ("train", "dream-rl", "--robot", ROBOT, "--data", logged, "--demos", demos, "--policy", bundle,
             "--world-model", world, "--vetting", vetting, "--seed", str(seed), *machine)  # fmt: skip
    first = POLICY_SEED + seed * SEEDS_APART
    return [
        *_policy(tail, out, demos, recipe.samples, recipe.batch, seed, recipe.threads, recipe.device, bundle="cloned",
                 run=cloned),
        _evaluate(tail, bundle, recipe.tasks, recipe.episodes, test, out / "cloned.json", workers),
        _rollouts(f"rollouts{tail}", logged, recipe.tasks, f"{bundle}={recipe.policy}", first, workers),
        Stage(f"more{tail}", ("train", "sft", "--robot", ROBOT, "--data", demos, logged, "--watched", common[1], logged,
                              "--init", cloned or str(out / "sft"), "--out", more, "--samples", str(recipe.more),
                              "--batch", str(recipe.batch), "--seed", str(seed), *machine, "--resume"), more),
        Stage(f"export_control{tail}", ("train", "export", "--run", more, "--out", control, "--robot", ROBOT)),
        _evaluate(f"_control{tail}", control, recipe.tasks, recipe.episodes, test, out / "control.json", workers),
        *_world_model(tail, recipe, (*common, logged), bundle, more, world, vetting, seed),
        Stage(f"lessons{tail}", (*dream, "--out", taught, "--samples", str(recipe.lessons), "--set",
                                 f"{recipe.lesson},{HERE_ALSO}", "--resume"), taught),
        Stage(f"dreams{tail}", (*dream, "--init", taught, "--out", dreamt, "--samples", str(recipe.dreams), "--set",
                                f"{recipe.dream},{HERE_ALSO}", "--resume"), dreamt),
        Stage(f"export_dreamt{tail}", ("train", "export", "--run", dreamt, "--out", better, "--robot", ROBOT)),
        _evaluate(f"_dreamt{tail}", better, recipe.tasks, recipe.episodes, test, out / "dreamt.json", workers),
    ]  # fmt: skip


def vetting(recipe: Vetting) -> list[Stage]:
    """Branched attempts, a world model that learns from them, evaluation of all variants on the same scenes."""
    out, seed0 = recipe.out, recipe.start / "seed0"
    bundle, branches = str(seed0 / "cloned"), str(out / "branches")
    data = [str(recipe.start / "expert"), str(recipe.start / "random"), str(seed0 / "policy")]
    world, model, stages = str(out / "world_model"), str(out / "vetting"), []
    further: tuple[str, ...] = ()
    if recipe.branches:
        stages.append(_rollouts("branches", branches, recipe.tasks, f"{bundle}={recipe.branches}", BRANCH_SEED,
                                recipe.workers, "--branches"))  # fmt: skip
        data, further = [*data, branches], ("--branches", branches)
    stages += _world_model("", recipe, tuple(data), bundle, str(seed0 / "more"), world, model, 0, *further)
    return [*stages, _evaluate("", bundle, recipe.tasks, recipe.episodes, recipe.test, out / "vetting.json",
                               recipe.workers, "--ablate", "imagination,k", "--k", str(recipe.k), "--noise", "1",
                               "--world-model", model)]  # fmt: skip


def detector(recipe: Detector) -> list[Stage]:
    """Rollouts for training, bands and test; then training and every baseline (benchmarks/detector.py)."""
    out = recipe.out
    counts = {"train": recipe.train, "calibration": recipe.calibration, "test": recipe.episodes}
    scenes = {"train": "training", "calibration": "calibration", "test": "test"}
    made = [
        _rollouts(name, str(out / name), recipe.tasks, f"{recipe.bundle}={count}", DETECTOR_SEED, recipe.workers,
                  "--scenes", scenes[name]) for name, count in counts.items()
    ]  # fmt: skip
    return [*made, Stage("score", ("detect", "--data", str(out), "--bundle", recipe.bundle, "--tasks", recipe.tasks,
                                   "--samples", str(recipe.samples), "--unseen", str(recipe.unseen),
                                   "--world-model", recipe.world_model, "--json", str(out / "detector.json")),
                         command=HERE)]  # fmt: skip


def _demos(out: str, tasks: str, count: int, workers: int, *more: str) -> Stage:
    argv = ("demos", "--out", out, "--tasks", tasks, "--episodes", str(count), "--workers", str(workers), *more)
    return Stage("demos", argv, command=HERE)


def _policy(
    tail: str, out: Path, demos: str, samples: int, batch: int, seed: int, threads: int, device: str, *more: str,
    bundle: str = "bundle", run: str = "",
) -> list[Stage]:  # fmt: skip
    """Training and export; of ``run``, where there is one already, the export alone."""
    made, bundle = run or str(out / "sft"), str(out / bundle)
    stages = [
        Stage(f"sft{tail}", ("train", "sft", "--robot", ROBOT, "--data", demos, "--out", made, "--samples",
                             str(samples), "--batch", str(batch), "--seed", str(seed), *_machine(threads, device),
                             *more, "--resume"), made),
        Stage(f"export{tail}", ("train", "export", "--run", made, "--out", bundle, "--robot", ROBOT)),
    ]  # fmt: skip
    return stages[1:] if run else stages


def _world_model(
    tail: str, recipe: Dream | Vetting, data: tuple[str, ...], bundle: str, eyes: str, run: str, out: str, seed: int,
    *more: str,
) -> list[Stage]:  # fmt: skip
    start = recipe.out if isinstance(recipe, Dream) else recipe.start
    train = ("train", "world-model", "--robot", ROBOT, "--data", *data, "--autoencoder", str(start / "autoencoder"),
             "--eyes", eyes, "--out", run, "--samples", str(recipe.looks), "--seed", str(seed),
             *_machine(recipe.threads, recipe.device), *more, "--resume")  # fmt: skip
    export = ("train", "export", "--run", run, "--policies", bundle, "--out", out, "--robot", ROBOT)
    return [Stage(f"world_model{tail}", train, run), Stage(f"export_world_model{tail}", export)]


def _rollouts(name: str, out: str, tasks: str, episodes: str, seed: int, workers: int, *more: str) -> Stage:
    argv = ("rollouts", "--out", out, "--tasks", tasks, "--episodes", episodes, "--seed", str(seed), "--workers",
            str(workers), *more)  # fmt: skip
    return Stage(name, argv, command=HERE)


def _evaluate(
    tail: str, bundle: str, tasks: str, episodes: int, seed: int, file: Path, workers: int, *more: str
) -> Stage:
    argv = ("evaluate", "--bundle", bundle, "--tasks", tasks, "--episodes", str(episodes), "--seed", str(seed),
            "--json", str(file), "--workers", str(workers), *more)  # fmt: skip
    return Stage(f"evaluate{tail}", argv, command=HERE)


def _machine(threads: int, device: str) -> tuple[str, ...]:
    return "--threads", str(threads), "--device", device
