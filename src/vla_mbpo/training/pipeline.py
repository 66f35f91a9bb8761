"""``vla-mbpo train loop``: rollouts, world model, dream RL, export, promotion, one after the other.

Each stage is a command of its own in a process of its own: it gives its memory back, and resumes by itself. What is
done stands in progress.json, so that a loop which was killed goes on with the stage it was in. No torch here.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.processes import end_with_parent

PROGRESS = "progress.json"
OUTCOMES = {"promote": {0: "live", 1: "refused"}}  # of the exit codes; of other stages only 0 is well
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
        samples: observations of dream RL.
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
    """One command; ``run``: the training run's folder that it writes to, if there is one."""

    name: str
    argv: tuple[str, ...]
    run: str = ""


def stages(recipe: LoopRecipe) -> list[Stage]:
    """The commands, in order."""
    out, threads = recipe.out, str(recipe.workers)
    logged, candidate = str(out / "logged"), str(out / "candidate")
    world, vetting = recipe.world_model, recipe.vetting
    rollouts = ("train", "rollouts", "--workers", threads)
    found = [Stage("record", (*rollouts, "--out", logged, "--episodes", f"{recipe.policy}={recipe.rollouts}",
                              "--seed", str(recipe.seed)))]  # fmt: skip
    if recipe.refresh:
        run, world, vetting = str(out / "world_model"), str(out / "world_model"), str(out / "vetting")
        found.append(Stage("refresh", _refresh(recipe, logged, run, threads), run))
        found.append(Stage("export_world_model", ("train", "export", "--run", run, "--out", vetting,
                           "--policies", recipe.policy, "--familiar", recipe.vetting)))  # fmt: skip
    run = str(out / "dream_rl")
    found.append(Stage("dream_rl", ("train", "dream-rl", "--data", logged, "--policy", recipe.policy, "--world-model",
                       world, "--vetting", vetting, "--out", run, "--samples", str(recipe.samples), "--seed",
                       str(recipe.seed), "--threads", threads, "--set", recipe.options, "--resume"), run))  # fmt: skip
    found.append(Stage("export", ("train", "export", "--run", run, "--out", candidate)))
    promote = ["promote", "--candidate", candidate, "--incumbent", recipe.policy, "--world-model", vetting,
               "--incumbent-world-model", recipe.vetting, "--episodes", str(recipe.episodes), "--workers", threads,
               "--evaluations", str(out / "evaluations"), *recipe.limits]  # fmt: skip
    if recipe.store:
        promote += ["--store", recipe.store]
    if recipe.detector:
        curves = str(out / "calibration")
        found.append(Stage("calibrate", (*rollouts, "--scenes", "calibration", "--out", curves, "--timeout", TIMEOUT,
                           "--episodes", f"{candidate}={recipe.calibration}", "--seed", "400000")))  # fmt: skip
        promote += ["--detector", recipe.detector, "--rollouts", curves, "--incumbent-detector", recipe.detector]
    return [*found, Stage("promote", tuple(promote))]


def _refresh(recipe: LoopRecipe, logged: str, run: str, threads: str) -> tuple[str, ...]:
    """The world model sees the new log, carefully: a tenth of the usual learning rate."""
    state = json.loads((Path(recipe.world_model) / "state.json").read_text())
    return (
        "train", "world-model", "--data", logged, "--init", recipe.world_model, "--autoencoder",
        state["recipe"]["autoencoder"], "--eyes", state["recipe"]["eyes"], "--samples", str(recipe.refresh),
        "--learning-rate", "5e-5", "--out", run, "--threads", threads, "--resume",
    )  # fmt: skip


class Pipeline:
    """Runs the stages that are not done yet. One thread.

    Attributes:
        progress: as in progress.json: state (running, failed, live, refused), stage, and of each stage its state and
            seconds.
    """

    def __init__(self, recipe: LoopRecipe, command: tuple[str, ...] = (sys.executable, "-m", "vla_mbpo.cli")) -> None:
        """ConfigError where ``recipe.out`` holds a loop with another recipe."""
        self.recipe, self._command = recipe, command
        self._stages = stages(recipe)
        self._file = recipe.out / PROGRESS
        asked = json.loads(json.dumps(asdict(recipe) | {"out": str(recipe.out)}))
        self.progress: dict[str, Any] = {"recipe": asked, "state": "running", "stage": "", "seconds": {}}
        if self._file.exists():
            before = json.loads(self._file.read_text())
            differ = [name for name, value in before["recipe"].items() if asked.get(name) != value]
            require(not differ, "--out", str(recipe.out), f"a new folder, or the same {', '.join(differ)}")
            self.progress["seconds"] = before["seconds"]

    def run(self, say: Callable[[str], None] = print) -> int:
        """To the end. Returns the exit code: 0 the candidate is live, 1 it was refused or a stage failed."""
        self.recipe.out.mkdir(parents=True, exist_ok=True)
        code = 0
        for number, stage in enumerate(self._stages, 1):
            done = self.progress["seconds"]
            if stage.name in done and stage.name != "promote":
                continue
            self._note(state="running", stage=stage.name, of=len(self._stages), number=number, run=stage.run)
            say(f"{number} of {len(self._stages)}, {stage.name}: vla-mbpo {' '.join(stage.argv)}")
            began = time.monotonic()
            code = subprocess.run([*self._command, *stage.argv], preexec_fn=end_with_parent).returncode
            outcomes = OUTCOMES.get(stage.name, {0: "running"})
            if code not in outcomes:
                self._note(state="failed", reason=f"{stage.name} ended with {code}")
                raise ConfigError(f"loop.{stage.name}", f"exit code {code}", "0; its message is above")
            done[stage.name] = round(time.monotonic() - began, 1)
            self._note(state=outcomes[code])
        return code

    def _note(self, **values: Any) -> None:
        self.progress |= values
        partial = self._file.with_suffix(".partial")
        partial.write_text(json.dumps(self.progress, indent=1) + "\n")
        partial.rename(self._file)
