"""What ``vla-mbpo train loop`` does: its recipe, and the commands that come of it. No torch here.

With ``midway`` all but the promotion is done twice: after half of the dreams the policy of then makes rollouts of its
own, the world model is refreshed on them and has to be admitted anew (training/admission.py), and dream RL goes on from
that policy, in those rollouts. It is exported in between: a log has to be of the bundle that dreams begin with.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.sim.tasks import TRAIN_SEEDS, TRAINING_TASKS

TIMEOUT = "15"  # s, of the attempts that bands are fitted on: as long as those of the evaluation


@dataclass(frozen=True)
class LoopRecipe:
    """What a loop does.

    Attributes:
        out: folder of everything that it makes.
        policy: bundle to improve.
        world_model, vetting: run folder and bundle of the world model.
        detector: failure detector to take along; empty: none.
        rollouts: attempts per task that are logged.
        refresh: observations to train the world model on with them; 0: it stays as it is.
        midway: attempts per task of the policy of half the way, in which dreaming goes on after another refresh; 0: it
            is not stopped. Needs ``refresh``.
        samples: observations of dream RL, of both halves together.
        calibration: attempts per task for the detector's bands.
        episodes: attempts per task and side before promotion.
        seed: first scene seed of the log, and the run's.
        store: of the releases; empty: the usual one.
        options: NAME=VALUE, ... of dream RL's recipe.
        limits: further options of ``promote``.
    """

    out: Path
    policy: str = "sft_few"
    world_model: str = "models/training/world_model"
    vetting: str = "world_model"
    detector: str = ""
    rollouts: int = 50
    refresh: int = 0
    midway: int = 0
    samples: int = 16_000
    calibration: int = 20
    episodes: int = 50
    seed: int = 970_000
    workers: int = 2
    store: str = ""
    options: str = ""
    limits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stage:
    """One command of vla-mbpo; ``run``: the training run's folder that it writes to, if there is one.

    ``command``: what ``argv`` is said to in place of vla-mbpo.
    """

    name: str
    argv: tuple[str, ...]
    run: str = ""
    command: tuple[str, ...] = ()


@dataclass(frozen=True)
class Models:
    """What a half begins with: policy, run folder and bundle of the world model, and the logs that it was shown."""

    policy: str
    world_model: str
    vetting: str
    logs: tuple[str, ...] = ()


def stages(recipe: LoopRecipe) -> list[Stage]:
    """The commands, in order. ConfigError: there is no such loop."""
    out, threads = recipe.out, str(recipe.workers)
    require(recipe.midway >= 0, "midway", recipe.midway, "a number of attempts, or 0")
    shown = recipe.refresh > 0 or not recipe.midway
    require(shown, "midway", recipe.midway, "0 where the world model is not refreshed")
    last = recipe.seed + (recipe.rollouts + recipe.midway) * len(TRAINING_TASKS) - 1
    require(last in TRAIN_SEEDS, "seed", recipe.seed, f"so that the last scene, {last}, is below {TRAIN_SEEDS.stop}")
    before = Models(recipe.policy, recipe.world_model, recipe.vetting)
    found, after = _half(recipe, before, "", str(out / ("midway" if recipe.midway else "candidate")))
    if recipe.midway:
        more, after = _half(recipe, after, "_2", str(out / "candidate"))
        found += more
    promote = ["promote", "--candidate", after.policy, "--incumbent", recipe.policy, "--world-model", after.vetting,
               "--incumbent-world-model", recipe.vetting, "--episodes", str(recipe.episodes), "--workers", threads,
               "--evaluations", str(out / "evaluations"), *recipe.limits]  # fmt: skip
    if recipe.store:
        promote += ["--store", recipe.store]
    if recipe.detector:
        curves = str(out / "calibration")
        found.append(Stage("calibrate", (*_rollouts(recipe, curves, after.policy, recipe.calibration, 400_000),
                           "--scenes", "calibration", "--timeout", TIMEOUT)))  # fmt: skip
        promote += ["--detector", recipe.detector, "--rollouts", curves, "--incumbent-detector", recipe.detector]
    return [*found, Stage("promote", tuple(promote))]


def _half(recipe: LoopRecipe, before: Models, tail: str, candidate: str) -> tuple[list[Stage], Models]:
    """Attempts of a policy, a world model that has seen them, dream RL in both, and the policy that comes of it.

    Args:
        recipe: of the loop.
        before: what it begins with.
        tail: of the names of its stages and folders: empty for the first one, or for all there is.
        candidate: bundle to export to.
    """
    out, policy, threads = recipe.out, before.policy, str(recipe.workers)
    world, vetting = before.world_model, before.vetting
    logged, run = str(out / f"logged{tail}"), str(out / f"dream_rl{tail}")
    first = recipe.samples // 2 if recipe.midway else recipe.samples
    samples, count, seed = first, recipe.rollouts, recipe.seed
    if tail:  # other scenes: these were already learned from
        samples, count, seed = recipe.samples - first, recipe.midway, seed + count * len(TRAINING_TASKS)
    logs = (*before.logs, logged)
    found = [Stage(f"record{tail}", _rollouts(recipe, logged, policy, count, seed))]
    if recipe.refresh:
        shown, world, vetting = world, str(out / f"world_model{tail}"), str(out / f"vetting{tail}")
        found.append(Stage(f"refresh{tail}", _refresh(recipe, logs, shown, world), world))
        both = policy if not tail else f"{recipe.policy},{policy}"
        found.append(Stage(f"export_world_model{tail}", ("train", "export", "--run", world, "--out", vetting,
                           "--policies", both, "--familiar", recipe.vetting)))  # fmt: skip
    found.append(Stage(f"dream_rl{tail}", ("train", "dream-rl", "--data", logged, "--policy", policy, "--world-model",
                       world, "--vetting", vetting, "--out", run, "--samples", str(samples), "--seed",
                       str(recipe.seed), "--threads", threads, "--set", recipe.options, "--resume"), run))  # fmt: skip
    found.append(Stage(f"export{tail}", ("train", "export", "--run", run, "--out", candidate)))
    return found, Models(candidate, world, vetting, logs)


def _rollouts(recipe: LoopRecipe, out: str, policy: str, count: int, seed: int) -> tuple[str, ...]:
    """``count`` attempts of a policy per task, in scenes from ``seed`` on."""
    return (
        "train", "rollouts", "--workers", str(recipe.workers), "--out", out, "--episodes", f"{policy}={count}",
        "--seed", str(seed),
    )  # fmt: skip


def _refresh(recipe: LoopRecipe, logs: tuple[str, ...], before: str, run: str) -> tuple[str, ...]:
    """The world model of run ``before`` sees the logs, carefully: a tenth of the usual learning rate."""
    # A first half's run is not there yet, and sees as the one that it began with.
    file = Path(recipe.world_model) / "state.json"
    try:
        said = json.loads(file.read_text())["recipe"]
        autoencoder, eyes = said["autoencoder"], said["eyes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"a run folder of `train world-model`, to refresh it: {type(error).__name__}: {error}"
        raise ConfigError("world_model", recipe.world_model, what) from error
    return (
        "train", "world-model", "--data", *logs, "--init", before, "--autoencoder", autoencoder, "--eyes",
        eyes, "--samples", str(recipe.refresh), "--learning-rate", "5e-5", "--out", run, "--threads",
        str(recipe.workers), "--resume",
    )  # fmt: skip
