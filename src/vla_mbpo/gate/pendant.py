"""A hardware pendant's heartbeat: while it is pressed or silent there is a cause for an e-stop."""

import time

from vla_mbpo.gate.machine import StateMachine


class Pendant:
    """Tells the state machine. One thread."""

    def __init__(self, machine: StateMachine, patience: float) -> None:
        """``patience``: longest silence [s]; 0: there is no pendant, and nothing that one has said counts."""
        self._machine, self._patience = machine, patience
        self.restart()
        if not patience:
            for cause in [cause for cause in machine.causes if cause.startswith("pendant")]:
                machine.clear(cause)

    def restart(self) -> None:
        """It is listened to from now on."""
        self._heard, self._lost = time.monotonic(), False

    def beat(self, released: bool, now: int) -> None:
        """A beat, and whether the button is not pressed; ``now`` [ns] of the machine's clock."""
        self._heard = time.monotonic()
        self._say("pressed", not released, now)
        self._say("silent", False, now)

    def tick(self, now: int) -> None:
        """Look whether it is silent, which has to be so twice.

        After a stall of the process a tick comes before the beats that wait.
        """
        lost = bool(self._patience) and time.monotonic() - self._heard > self._patience
        if lost and self._lost:
            self._say("silent", True, now)
        self._lost = lost

    def _say(self, what: str, present: bool, now: int) -> None:
        if present:
            self._machine.estop(f"pendant {what}", now)
        else:
            self._machine.clear(f"pendant {what}")
