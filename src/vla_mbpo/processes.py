"""Starts the processes of a node graph, passes on what they print, restarts or ends them."""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import yaml

from vla_mbpo.bringup import FINAL, MANAGER, RESTART_DELAY, RESTART_WINDOW, RESTARTS, NodeSpec, Restart
from vla_mbpo.core.errors import ConfigError
from vla_mbpo.paths import enclave

ERROR_PREFIX = "vla-mbpo: error: "
MANAGER_TIME, TOTAL_TIME = 1.0, 1.6  # s after the stop request: lifecycle shutdown is over; everything is killed
_PR_SET_PDEATHSIG = 1

_prctl = ctypes.CDLL(None).prctl


def end_with_parent() -> None:
    """Have this process killed when the thread that started it ends, whatever it ends from."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def lock_domain(domain: str) -> IO[str] | None:
    """Hold the domain for this stack as long as the file is open: finding each other's nodes takes a busy machine long.

    Raises:
        ConfigError: another stack of this machine holds it.
    """
    try:
        lock = _lock_file(domain).open("w")
    except OSError:  # another user's file: what is left is to look for nodes
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise ConfigError("ROS_DOMAIN_ID", domain, "already has a stack of vla_mbpo; choose a free domain") from None
    return lock


def domain_is_held(domain: str) -> bool:
    """Whether a stack of this machine, anybody's, holds the domain; True as well if that cannot be known."""
    try:
        with _lock_file(domain).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _lock_file(domain: str) -> Path:
    return Path(tempfile.gettempdir()) / f"vla_mbpo_domain_{domain}.lock"


@dataclass
class _Child:
    spec: NodeSpec
    popen: subprocess.Popen | None = None
    starts: list[float] = field(default_factory=list)
    restart_at: float | None = None


@dataclass(frozen=True)
class Ended:
    """A process that ended by itself and will not be restarted."""

    spec: NodeSpec
    code: int

    def __str__(self) -> str:
        how = f"signal {signal.Signals(-self.code).name}" if self.code < 0 else f"exit code {self.code}"
        return f"{self.spec.name} ended ({how})"


def command(spec: NodeSpec, python: str = sys.executable) -> list[str]:
    """Command line of one node."""
    arguments = ["-r", f"__node:={spec.name}", "--enclave", enclave(spec.name), "--params-file", str(spec.params_file)]
    for name, value in spec.parameters.items():
        arguments += ["-p", f"{name}:={_flow(value)}"]
    return [python, "-m", "vla_mbpo.nodes", spec.executable, "--ros-args", *arguments]


def _flow(value: Any) -> str:
    """A value as one line of YAML that reads back with its type: '2' stays a string, off stays off."""
    text = yaml.dump(value, Dumper=_Quoting, default_flow_style=True, width=10**6).strip()
    return text.removesuffix("...").strip()


class _Quoting(yaml.SafeDumper):
    """Each string in quotes: what rcl takes for a number or a boolean is not what YAML 1.1 does."""


_Quoting.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))


class Supervisor:
    """The processes of one graph, each in a process group of its own. One thread calls all methods."""

    def __init__(self, specs: Sequence[NodeSpec], environment: dict[str, str], log: Callable[[str, str], None]) -> None:
        """``log(name, line)`` gets every line that a process prints, from reader threads."""
        self._children = {spec.name: _Child(spec) for spec in specs}
        self._environment, self._log = environment, log
        self._readers: list[threading.Thread] = []

    def start(self) -> None:
        """Start everything."""
        for child in self._children.values():
            self._start(child)

    def poll(self) -> Ended | None:
        """Restart what is to be restarted. Returns a process that ended for good."""
        now = time.monotonic()
        for child in self._children.values():
            if child.restart_at is not None and now >= child.restart_at:
                self._start(child)
            if child.popen is None or child.popen.poll() is None:
                continue
            ended = Ended(child.spec, child.popen.returncode)
            child.popen = None
            recent = [start for start in child.starts if now - start < RESTART_WINDOW]
            wanted = child.spec.restart == Restart.ON_FAILURE and ended.code not in FINAL
            if child.spec.spare and (ended.code == 0 or (wanted and len(recent) > RESTARTS)):
                self._log("up", f"{ended}; going on without it")
                continue
            if not wanted or len(recent) > RESTARTS:
                return ended
            self._log("up", f"{ended}; restarting it")
            child.restart_at = now + RESTART_DELAY
        return None

    def pid(self, name: str) -> int | None:
        """Process id of a running node."""
        popen = self._children[name].popen
        return popen.pid if popen else None

    def pids(self) -> dict[str, int]:
        """Process ids of all running nodes."""
        return {name: child.popen.pid for name, child in self._children.items() if child.popen is not None}

    def stop(self) -> None:
        """End everything within two seconds: the lifecycle manager's orderly way first, then signals."""
        begin = time.monotonic()
        manager = self._children.get(MANAGER)
        if manager is not None and manager.popen is not None:
            self._signal(manager.popen, signal.SIGTERM)
            self._wait([manager.popen], begin + MANAGER_TIME)
        running = [child.popen for child in self._children.values() if child.popen is not None]
        for popen in running:
            self._signal(popen, signal.SIGTERM)  # not SIGINT: a process that is still importing would print a traceback
        self._wait(running, begin + TOTAL_TIME)
        for popen in running:
            self._signal(popen, signal.SIGKILL)  # the group: also what a node may have started
        self._wait(running, begin + TOTAL_TIME + 0.15)
        for reader in self._readers:
            reader.join(0.2)

    def _start(self, child: _Child) -> None:
        nice = child.spec.nice

        def prepare() -> None:
            end_with_parent()
            os.nice(nice)

        popen = subprocess.Popen(
            command(child.spec),
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=prepare,
        )
        child.popen, child.restart_at = popen, None
        child.starts.append(time.monotonic())
        reader = threading.Thread(target=self._read, args=(child.spec.name, popen), daemon=True)
        reader.start()
        self._readers.append(reader)

    def _read(self, name: str, popen: subprocess.Popen) -> None:
        assert popen.stdout is not None
        for line in popen.stdout:
            with suppress(Exception):  # a node whose pipe nobody empties would wait in its next word
                self._log(name, line.decode(errors="replace").rstrip())

    @staticmethod
    def _signal(popen: subprocess.Popen, number: int) -> None:
        try:
            os.killpg(popen.pid, number)
        except ProcessLookupError:
            pass

    @staticmethod
    def _wait(processes: Sequence[subprocess.Popen], until: float) -> None:
        while time.monotonic() < until and any(popen.poll() is None for popen in processes):
            time.sleep(0.01)
