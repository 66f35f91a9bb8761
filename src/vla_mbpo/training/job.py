"""A training loop as a child process that can be set aside: for the ``trainer`` node. No torch, no rclpy."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vla_mbpo.core.errors import require
from vla_mbpo.processes import end_with_parent
from vla_mbpo.training.pipeline import OUTCOMES, PROGRESS

PATIENCE = 5.0  # s from the request to end until it is killed; what was checkpointed is not lost
LOWEST = 19  # nice
ENDS = {state: code for code, state in OUTCOMES["promote"].items()}  # exit codes of a loop
COMMAND = (sys.executable, "-m", "vla_mbpo.cli", "train", "loop")


class TrainingJob:
    """At most one loop. One thread.

    Attributes:
        out: folder of the loop.
        state: idle, running, paused, or how it ended: live, refused, failed, stopped.
    """

    def __init__(self, out: Path, arguments: Sequence[str] = (), command: Sequence[str] = COMMAND) -> None:
        self.out, self.state = out, "idle"
        self._argv = [*command, "--out", str(out), *arguments, "--resume"]
        self._child: subprocess.Popen | None = None
        self._reason = ""

    def start(self) -> None:
        """Begin, go on with what was cut off, or go on after a pause. ConfigError while it runs."""
        require(self.state != "running", "trainer", self.state, "not running")
        if self._child is None:
            self.out.mkdir(parents=True, exist_ok=True)
            with (self.out / "loop.log").open("ab") as log:
                self._child = subprocess.Popen(
                    self._argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                    preexec_fn=_humble,
                )  # fmt: skip
        self._signal(signal.SIGCONT)
        self.state = "running"

    def pause(self) -> None:
        """Set all its processes aside, at once. ConfigError where it does not run."""
        require(self.state == "running", "trainer", self.state, "running")
        self._signal(signal.SIGSTOP)
        self.state = "paused"

    def stop(self) -> None:
        """End it; ``start`` goes on from its last checkpoint."""
        child = self._child
        if child is None:
            return
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGINT)
        until = time.monotonic() + PATIENCE
        while child.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        self._signal(signal.SIGKILL)
        child.wait()
        self._child, self.state = None, "stopped"

    def poll(self) -> dict[str, Any]:
        """Look after the child. What progress.json says, and of the training run that is under way its last line."""
        child = self._child
        if child is not None and child.poll() is not None:
            self._child = None
            said, code = _read(self.out / PROGRESS), child.returncode
            # A loop that could not begin leaves the file of the one before as it was.
            self.state = said["state"] if ENDS.get(said.get("state", "")) == code else "failed"
            told = said.get("reason", "") if said.get("state") == "failed" else ""
            self._reason = told or f"ended with {code}: see loop.log"
        found = _read(self.out / PROGRESS)
        run = _read(Path(found["run"]) / "state.json") if found.get("run") else {}
        history = run.get("history") or [{}]
        return {
            "stage": found.get("stage", ""), "number": found.get("number", 0), "of": found.get("of", 0),
            "reason": self._reason if self.state == "failed" else "", "losses": history[-1],
        }  # fmt: skip

    def _signal(self, number: int) -> None:
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, number)


def _humble() -> None:
    """In the child: ends with the node, and gets a processor only when nothing else wants it."""
    end_with_parent()
    os.nice(LOWEST)
    # The kernel shares processors among sessions first: niceness counts within one, this among them.
    with contextlib.suppress(OSError):
        Path(f"/proc/{os.getpid()}/autogroup").write_text(str(LOWEST))


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):  # not there yet, or just being replaced
        return {}
    return found if isinstance(found, dict) else {}
