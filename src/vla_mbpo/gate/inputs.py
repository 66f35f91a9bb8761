"""How long ago the gate heard each of its inputs."""

import time

JOINT_STATES, ARM_DRIVER, TASK = "joint_states", "arm_driver", "task"
TASK_SILENT = f"no message of {TASK}"


class Inputs:
    """Which input is missing or silent. One thread.

    The arm's are waited for from the beginning, the task node's from the beginning of an attempt to its end: who gives
    out an instruction has to live to take it back. A person who takes over needs no task node.
    """

    def __init__(self, arm: float, task: float) -> None:
        """Longest silences [s]: ``arm`` of joint states or arm driver, ``task`` of the task node."""
        self._patience = {JOINT_STATES: arm, ARM_DRIVER: arm, TASK: task}
        self._heard = dict.fromkeys((JOINT_STATES, ARM_DRIVER), float("-inf"))
        self._before = ""

    def hear(self, name: str) -> None:
        """A sign of life."""
        self._heard[name] = time.monotonic()

    def attempt(self, number: int) -> None:
        """The task node's sign of life, with the number of the running attempt; 0: there is none."""
        if number:
            self.hear(TASK)
        else:
            self._heard.pop(TASK, None)

    def silent(self, autonomy: bool = True) -> str:
        """The first that has been silent for too long for ``autonomy``, or else for a person, or an empty string."""
        now = time.monotonic()
        late = (name for name, last in self._heard.items() if now - last > self._patience[name])
        return next((name for name in late if autonomy or name != TASK), "")

    def lost(self, autonomy: bool) -> str:
        """As ``silent``, if something was so at the call before, too.

        After a stall of the process the first look comes before the messages that wait.
        """
        silent, before = self.silent(autonomy), self._before
        self._before = silent
        return silent if before else ""
