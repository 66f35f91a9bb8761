"""The running stack, asked by `vla-mbpo promote` and `rollback` to use another release."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vla_mbpo.paths import domain, ros_environment
from vla_mbpo.processes import domain_is_held

if TYPE_CHECKING:
    from vla_mbpo.nodes.client import StackClient

DISCOVERY = 4.0  # s within which a stack has to be found, if nothing says that there is one
STARTING = 60.0  # s for one that holds the domain: it may be starting, or the machine busy
# s for the answer. Longer than the task node may take in all, which is why `task.swap_patience` ends at 300 s: whoever
# gives up first would say that a release does not go live, and then it does. The rest is for loading and switching.
PATIENCE = 450.0


@dataclass(frozen=True)
class Swapped:
    """What came of asking: ``refused`` is False where there is no stack that should have swapped."""

    refused: bool
    message: str


class Running:
    """The stack of this ROS domain, if it uses a release of the store.

    Attributes:
        used: name of that release; empty: there is no such stack, and ``why`` says so.
        unknown: there is a stack, but what it uses, or whether it would swap, cannot be known.
    """

    def __init__(self, used: str, why: str, client: "StackClient | None" = None, unknown: bool = False) -> None:
        self.used, self.why, self.unknown, self._client = used, why, unknown, client

    def swap(self, release: Path, now: bool) -> Swapped:
        """Have it use another release. ``now``: end a running attempt."""
        if self._client is None or not self.used:
            return Swapped(self.unknown, self.why)
        before, until = self._client.release, time.monotonic() + PATIENCE
        future = self._client.swap(str(release), now)
        while not future.done() and self._client.release is before and time.monotonic() < until:
            self._client.spin(0.05)
        self._client.spin(0.5 if not future.done() else 0.0)  # the event may come before the answer
        answer, event = future.result(), self._client.release
        if answer is None and event is not None and event is not before:  # the answer is lost, what came of it is not
            done = event.release == str(release)
            return Swapped(not done, f"running stack: in use: {event.version or 'bundles'}, {event.reason}")
        if answer is None:
            return Swapped(True, f"the running stack did not answer within {PATIENCE:g} s")
        return Swapped(not answer.accepted, f"running stack: {answer.message}")


@contextmanager
def running_stack(store: Path, ask: bool = True) -> Iterator[Running]:
    """Look for the stack. Without ``ask`` nobody looks."""
    if not ask:
        yield Running("", "a running stack is left as it is")
        return
    os.environ.update(ros_environment())
    from vla_mbpo.nodes.client import StackClient

    client = StackClient("vla_mbpo_releases")
    try:
        if (absent := _wait(client)) is not None:
            yield absent
            return
        assert client.release is not None
        used = Path(client.release.release) if client.release.release else None
        if used is None or used.resolve().parent != store.resolve():
            what = used or "bundles, and no release"
            yield Running("", f"the running stack uses {what}: it is left as it is")
            return
        client.spin(0.2)  # a server that does not know of the client yet would answer nobody
        yield Running(used.name, "", client)
    finally:
        client.close()


def _wait(client: "StackClient") -> Running | None:
    """Until a stack says what it uses and can be asked to swap. What is known if none does within its time."""
    number = str(domain())
    for patience in (DISCOVERY, STARTING):
        until = time.monotonic() + patience
        while time.monotonic() < until:
            if client.release is not None and client.swap_ready:
                return None
            client.spin(0.2)
        if client.release is None and not domain_is_held(number):
            return Running("", f"no stack is running on ROS domain {number}")
    lacks = "does not say what it uses" if client.release is None else "has no node that swaps"
    return Running("", f"the stack on ROS domain {number} {lacks}: try again when it is up", unknown=True)
