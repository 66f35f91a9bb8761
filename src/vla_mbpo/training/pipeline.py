"""``vla-mbpo train loop``: rollouts, world model, dream RL, export, promotion, one after the other.

Each stage is a command of its own in a process of its own: it gives its memory back, and resumes by itself. What is
done stands in progress.json, so that a loop which was killed goes on with the stage it was in. No torch here.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.processes import ERROR_PREFIX, end_with_parent
from vla_mbpo.training.plan import Stage, stages

PROGRESS = "progress.json"
LIVE = "live"
OUTCOMES = {"promote": {0: LIVE, 1: "refused"}}  # of the exit codes; of other stages only 0 is well
LAST_WORDS = 1.0  # s that a stage's error may take to be heard after its end


class Pipeline:
    """Runs the stages that are not done yet. One thread.

    Attributes:
        progress: as in progress.json: state (running, failed, live, refused; done where nothing is promoted), stage,
            and of each stage its state and seconds.
    """

    def __init__(
        self,
        recipe: Any,
        command: tuple[str, ...] = (sys.executable, "-m", "vla_mbpo.cli"),
        planned: Sequence[Stage] | None = None,
    ) -> None:
        """ConfigError where ``recipe.out`` holds a loop with another recipe.

        ``planned``: its stages, of a recipe that is no LoopRecipe: a dataclass with ``out``.
        """
        self.recipe, self._command = recipe, command
        self._stages = stages(recipe) if planned is None else list(planned)
        self._file = recipe.out / PROGRESS
        asked = json.loads(json.dumps(asdict(recipe), default=str))
        self.progress: dict[str, Any] = {"recipe": asked, "state": "running", "stage": "", "seconds": {}}
        if self._file.exists():
            before = _progress(self._file)
            differ = [name for name, value in before["recipe"].items() if asked.get(name) != value]
            require(not differ, "--out", str(recipe.out), f"a new folder, or the same {', '.join(differ)}")
            self.progress["seconds"] = before["seconds"]
            self.progress = before if before["state"] == LIVE else self.progress

    def run(self, say: Callable[[str], None] = print) -> int:
        """To the end. Returns the exit code: 0 the candidate is live, 1 it was refused or a stage failed."""
        self.recipe.out.mkdir(parents=True, exist_ok=True)
        if self.progress["state"] == LIVE:  # promote would find its candidate where it expects the incumbent
            say(f"{self.recipe.out}: the candidate of this loop is live already")
            return 0
        code = 0
        for number, stage in enumerate(self._stages, 1):
            done = self.progress["seconds"]
            if stage.name in done and stage.name != "promote":
                continue
            self._note(state="running", stage=stage.name, of=len(self._stages), number=number, run=stage.run)
            said = " ".join((*(stage.command[1:] or ("vla-mbpo",)), *stage.argv))
            say(f"{number} of {len(self._stages)}, {stage.name}: {said}")
            began = time.monotonic()
            code, told = followed([*(stage.command or self._command), *stage.argv])
            outcomes = OUTCOMES.get(stage.name, {0: "running"})
            if code not in outcomes:
                self._note(state="failed", reason=": ".join(filter(None, (f"{stage.name} ended with {code}", told))))
                raise ConfigError(f"loop.{stage.name}", f"exit code {code}", "0; its message is above")
            done[stage.name] = round(time.monotonic() - began, 1)
            self._note(state=outcomes[code])
        if self.progress["state"] == "running":
            self._note(state="done")
        return code

    def _note(self, **values: Any) -> None:
        self.progress |= values
        partial = self._file.with_suffix(".partial")
        partial.write_text(json.dumps(self.progress, indent=1) + "\n")
        partial.rename(self._file)


def _progress(file: Path) -> dict[str, Any]:
    """What a loop noted. ConfigError: it is damaged."""
    try:
        found = json.loads(file.read_text())
        whole = isinstance(found["recipe"], dict) and isinstance(found["seconds"], dict) and bool(found["state"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"what a loop noted there, or a new folder: {type(error).__name__}: {error}"
        raise ConfigError("--out", str(file), what) from error
    require(whole, "--out", str(file), "recipe, seconds and state of a loop, or a new folder")
    return found


def followed(argv: list[str]) -> tuple[int, str]:
    """Run a command to its end. Returns its exit code, and the last error that it told on the way. One thread."""
    said = [""]

    def listen(stream: IO[str]) -> None:
        for line in stream:
            print(line, end="", file=sys.stderr, flush=True)
            if line.startswith(ERROR_PREFIX):
                said[0] = line.removeprefix(ERROR_PREFIX).strip()

    child = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, errors="replace", preexec_fn=end_with_parent)
    listener = threading.Thread(target=listen, args=(child.stderr,), daemon=True)
    listener.start()
    try:
        code = child.wait()
    except BaseException:  # an interrupt
        child.kill()
        raise
    listener.join(LAST_WORDS)  # no longer: a process of the command may have outlived it
    return code, said[0]
