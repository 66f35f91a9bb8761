"""Who may move the arm: hold, autonomous, teleoperation, emergency stop."""

import json
import os
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path

COOL_DOWN = 500_000_000  # ns between the last e-stop signal and a reset: a bouncing button is one stop


class Mode(IntEnum):
    """Mode of the gate. Values equal GateState.msg."""

    HOLD = 0
    AUTONOMOUS = 1
    TELEOP = 2
    ESTOP = 3


class StateMachine:
    """Mode, epoch and the e-stop latch. One thread. Times are int nanoseconds of one clock.

    The epoch grows with each change of mode, and every request names the epoch it was made in: a request that was
    on its way while the mode changed is refused. With ``path``, the state survives a restart: a latched e-stop
    stays latched, and the epoch goes on from where it was.

    Requests return None when done, else one line that says why not.

    Attributes:
        mode, epoch, reason: as in GateState.msg.
        causes: e-stop causes that are still present.
        intervention: a person has taken over, or was asked to, and autonomy has not been engaged again.
        save_error: why the state could not be saved last time, empty if it was.
    """

    def __init__(
        self,
        now: int,
        path: Path | None = None,
        cool_down: int = COOL_DOWN,
        on_change: Callable[[], None] = lambda: None,
        before: "StateMachine | None" = None,
    ) -> None:
        """Start in HOLD, or in ESTOP if ``before`` or ``path`` say that it was latched, or the file cannot be read.

        ``before`` is the machine of the same process that this one takes the place of.

        ``on_change`` is called at each change of mode, before the state is saved: a stop does not wait for a disk.
        """
        self.mode, self.epoch, self.reason = Mode.HOLD, 0, "start"
        self.causes: set[str] = set()
        self.intervention = False
        self.save_error = ""
        self._latched_at = now
        self._path, self._cool_down, self._on_change = path, cool_down, on_change
        if before is not None:
            self._go_on(before.epoch, before.mode == Mode.ESTOP, set(before.causes), before.reason)
        elif path is not None and path.exists():
            self._load(path)
        self._save()

    def engage(self, epoch: int, now: int) -> str | None:
        """HOLD to AUTONOMOUS, unless the state cannot be written: after a restart nobody would know of a stop."""
        if epoch != self.epoch:
            return self._stale(epoch)
        if self.mode == Mode.AUTONOMOUS:
            return None
        if self.mode != Mode.HOLD:
            return f"cannot engage in {self.mode.name}: {self.reason}"
        self._save()
        if self.save_error:
            return f"state_file: {self.save_error}"
        self.intervention = False
        self._change(Mode.AUTONOMOUS, "engaged")
        return None

    def hold(self, reason: str, intervention: bool = False) -> None:
        """AUTONOMOUS or TELEOP to HOLD; no effect in HOLD and ESTOP. Never refused: stopping needs no epoch.

        ``intervention``: a person is asked to take over, and what was begun waits for them.
        """
        if self.mode in (Mode.AUTONOMOUS, Mode.TELEOP):
            self.intervention |= intervention
            self._change(Mode.HOLD, reason)

    def takeover(self, now: int) -> str | None:
        """HOLD or AUTONOMOUS to TELEOP: a person at the stick goes before the policy."""
        if self.mode == Mode.ESTOP:
            return f"cannot take over in ESTOP: {self.reason}"
        if self.mode != Mode.TELEOP:
            self.intervention = True
            self._change(Mode.TELEOP, "takeover")
        return None

    def release(self, reason: str = "teleoperation released") -> None:
        """TELEOP to HOLD: stick given back or its deadman lost. The policy needs a new engage."""
        if self.mode == Mode.TELEOP:
            self._change(Mode.HOLD, reason)

    def estop(self, cause: str, now: int, present: bool = True) -> None:
        """Latch. Repeated signals prolong the cool-down.

        One that comes after it is a new press: a reset that somebody was asked about before is stale by it.

        Args:
            cause: who or what asks.
            now: [ns].
            present: the cause lasts until ``clear(cause)``; False for a single event.
        """
        again = not 0 <= now - self._latched_at <= self._cool_down  # below 0: the clock was set back
        self._latched_at = now
        fresh = present and cause not in self.causes
        if fresh:
            self.causes.add(cause)
        if self.mode != Mode.ESTOP:
            self._change(Mode.ESTOP, cause)
        elif again:
            self._change(Mode.ESTOP, self.reason)
        elif fresh:
            self._save()

    def clear(self, cause: str) -> None:
        """The cause is gone. The latch stays until ``reset``."""
        if cause in self.causes:
            self.causes.discard(cause)
            self._save()

    def reset(self, epoch: int, now: int) -> str | None:
        """ESTOP to HOLD, by hand, once the cause is gone and the cool-down is over."""
        if epoch != self.epoch:
            return self._stale(epoch)
        if self.mode != Mode.ESTOP:
            return f"nothing to reset in {self.mode.name}"
        if self.causes:
            return f"cause still present: {', '.join(sorted(self.causes))}"
        if now < self._latched_at:  # the clock was set back: its readings say nothing about the time passed
            self._latched_at = now
        left = self._latched_at + self._cool_down - now
        if left > 0:
            return f"cool-down: {left / 1e9:.2f} s left"
        self._change(Mode.HOLD, "reset")
        return None

    def _stale(self, epoch: int) -> str:
        return f"stale epoch {epoch}: now {self.epoch}, in {self.mode.name} ({self.reason})"

    def _change(self, mode: Mode, reason: str) -> None:
        self.mode, self.epoch, self.reason = mode, self.epoch + 1, reason
        self._on_change()
        self._save()

    def _load(self, path: Path) -> None:
        """Take over the state of the last run. A file that cannot be read may have said ESTOP."""
        try:
            raw = json.loads(path.read_text())
            epoch, latched = int(raw["epoch"]), bool(raw["latched"])
            causes, reason = {str(cause) for cause in raw["causes"]}, str(raw["reason"])
        except (OSError, ValueError, KeyError, TypeError):
            self.mode, self.epoch, self.reason = Mode.ESTOP, 1, f"unreadable state file {path}"
            return
        self._go_on(epoch, latched, causes, reason)

    def _go_on(self, epoch: int, latched: bool, causes: set[str], reason: str) -> None:
        self.epoch = epoch + 1
        if latched:
            self.mode, self.causes, self.reason = Mode.ESTOP, causes, reason

    def _save(self) -> None:
        """Write and sync a neighbour, then rename: a crash leaves the old file or the new one."""
        if self._path is None:
            return
        state = {
            "epoch": self.epoch,
            "latched": self.mode == Mode.ESTOP,
            "causes": sorted(self.causes),
            "reason": self.reason,
        }
        draft = self._path.with_suffix(self._path.suffix + ".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with draft.open("w") as file:
                json.dump(state, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, self._path)
            self.save_error = ""
        except OSError as error:  # a full disk must not keep an e-stop from taking effect
            self.save_error = str(error)
