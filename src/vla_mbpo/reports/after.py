"""The report after a run of the stack: in a process of its own, so that whatever becomes of it the run is over."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from vla_mbpo.processes import ERROR_PREFIX, end_with_parent
from vla_mbpo.record.episode import LABELS

PATIENCE = 120.0  # s
LOOK = 0.1  # s between two looks whether it is there


class AfterRun:
    """Reports the episodes that a run records into a folder. One thread."""

    def __init__(self, folder: str, robot: str, world_model: str) -> None:
        """To be made before the run. ``folder``: empty, nothing is recorded. ``world_model``: bundle, or empty."""
        self._folder = Path(folder).expanduser() if folder else None
        self._words = ["--robot", robot, *(["--world-model", world_model] if world_model else [])]
        self._name = f"report_{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}.html"
        self._before = self._episodes()

    def write(self, interrupted: Callable[[], bool]) -> str:
        """Write the page beside the episodes. Returns a line that says where it is or why not; empty: no episodes.

        ``interrupted``: asked now and then; if so, the page is left out.
        """
        new = sorted(self._episodes() - self._before)
        if self._folder is None or not new:
            return ""
        out = self._folder / self._name
        words = [sys.executable, "-m", "vla_mbpo.cli", "record", "report", *map(str, new), "--out", str(out)]
        try:
            child = subprocess.Popen(
                [*words, *self._words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, preexec_fn=end_with_parent,
            )  # fmt: skip
        except OSError as error:
            return f"no report: {error}"
        said = _wait(child, interrupted)
        return f"report: {out}" if child.returncode == 0 else f"no report: {said}"

    def _episodes(self) -> set[Path]:
        return {path.parent for path in self._folder.glob(f"*/{LABELS}")} if self._folder else set()


def _wait(child: subprocess.Popen, interrupted: Callable[[], bool]) -> str:
    """Wait for it, not for ever. Returns its last line."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            said, _ = child.communicate(timeout=LOOK)
            break
        except subprocess.TimeoutExpired:
            late = time.monotonic() > end
            if late or interrupted():
                child.kill()
                child.communicate()
                return f"not written within {PATIENCE:.0f} s" if late else "interrupted"
    lines = said.strip().splitlines() or [f"exit code {child.returncode}"]
    return lines[-1].removeprefix(ERROR_PREFIX)
