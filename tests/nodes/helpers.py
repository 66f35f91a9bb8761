"""Nodes under test in this process, a probe beside them, and processes."""

import ctypes
import gc
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.utilities import get_default_context

from vla_mbpo.nodes.base import ManagedNode
from vla_mbpo.nodes.process import start_ros
from vla_mbpo.nodes.qos import Topic

# What nodes of this process leave in cycles keeps their participants. With more than 32 on a domain the middleware,
# kept to this machine, no longer finds all: in a long run a test of ten processes never saw some of them.
COLLECT = 4  # graphs
_closed = itertools.count(1)


class Graph:
    """One executor with the nodes under test and a probe."""

    def __init__(self) -> None:
        self.nodes: list[ManagedNode] = []
        self.heard: dict[str, list[Any]] = {}
        self.probe: Node = None  # type: ignore[assignment]
        self._executor: SingleThreadedExecutor = None  # type: ignore[assignment]

    def start(self, *nodes: Callable[[], ManagedNode], parameters: dict[str, Any] | None = None) -> Any:
        """Make the nodes with ``{"node.param": value}``; returns the last one."""
        arguments = ["test", "--ros-args"]
        for key, value in (parameters or {}).items():
            node, name = key.split(".", 1)
            arguments += ["-p", f"{node}:{name}:={value}"]
        start_ros(arguments)
        self._executor = SingleThreadedExecutor()
        self.probe = Node("probe", use_global_arguments=False)
        self._executor.add_node(self.probe)
        for make in nodes:
            node = make()
            self.nodes.append(node)
            self._executor.add_node(node)
        return self.nodes[-1] if self.nodes else None

    def activate(self) -> None:
        """Configure and activate all nodes."""
        for node in self.nodes:
            assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS, node._fault
        for node in self.nodes:
            assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS, node._fault

    def listen(self, *topics: Topic) -> None:
        """Keep what comes on these topics in ``heard``."""
        for topic in topics:
            kept = self.heard.setdefault(topic.name, [])
            self.probe.create_subscription(topic.type, topic.name, lambda m, k=kept: k.append(m), topic.qos)

    def talk(self, topic: Topic) -> Callable[[Any], None]:
        """A function that publishes, connected to every listener that is there and may hear it, and to one at least.

        Incident: the page heard of an e-stop's publisher before the gate did, which never heard the e-stop.
        """
        publisher = self.probe.create_publisher(topic.type, topic.name, topic.qos)
        self.until(lambda: publisher.get_subscription_count() > 0)
        with suppress(AssertionError):  # other qualities of service never connect
            self.until(lambda: publisher.get_subscription_count() >= self.probe.count_subscribers(topic.name), 2.0)
        self.spin(0.05)  # the listener may need a little longer to know of the publisher
        return publisher.publish

    def call(self, kind: Any, name: str, request: Any) -> Any:
        """Call a service."""
        client = self.probe.create_client(kind, name)
        self.until(client.service_is_ready)
        self.spin(0.2)  # a server that does not know of the client yet answers nobody: an e-stop worked, unanswered
        future = client.call_async(request)
        self.until(future.done)
        return future.result()

    def spin(self, seconds: float) -> None:
        """Run the executor."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.01)

    def until(self, condition: Callable[[], bool], timeout: float = 5.0) -> None:
        """Run the executor until ``condition``."""
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, "condition not met in time"
            self._executor.spin_once(timeout_sec=0.01)

    def close(self) -> None:
        """Take everything down."""
        for node in self.nodes:
            node.shut_down()
            node.destroy_node()
        if self.probe is not None:
            self.probe.destroy_node()
            self._executor.shutdown(timeout_sec=0.2)
        rclpy.try_shutdown()
        self.nodes.clear()
        self.heard.clear()
        self.probe = self._executor = None  # type: ignore[assignment]
        if next(_closed) % COLLECT == 0:
            gc.collect()
        get_default_context().destroy()


_prctl = ctypes.CDLL(None).prctl


def _die_with_parent() -> None:
    _prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG: a killed test run leaves no robot running


def spawn(module: str, *arguments: str) -> subprocess.Popen[str]:
    """A node as a process; its output is one stream."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=dict(os.environ),
        start_new_session=True,
        preexec_fn=_die_with_parent,
    )


def finish(process: subprocess.Popen[str], number: int = signal.SIGINT, timeout: float = 5.0) -> tuple[int, str, float]:
    """Signal a process and wait. Returns exit code, output and the seconds it took."""
    begin = time.monotonic()
    process.send_signal(number)
    try:
        output, _ = process.communicate(timeout=timeout)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, output, time.monotonic() - begin


class Up:
    """`vla-mbpo up` as a process of its own."""

    def __init__(self, log: Path, *arguments: str) -> None:
        self.log = log
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "vla_mbpo.cli", "up", *arguments],
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    @property
    def output(self) -> str:
        """What it and its nodes have printed."""
        return self.log.read_text()

    def children(self) -> dict[str, int]:
        """Node name -> process id."""
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                words = (entry / "cmdline").read_text().split("\0")
            except OSError:
                continue
            name = next((word.removeprefix("__node:=") for word in words if word.startswith("__node:=")), None)
            if parent == self.process.pid and name:
                found[name] = int(entry.name)
        return found

    def wait(self, timeout: float) -> int:
        """Exit code."""
        return self.process.wait(timeout)

    def interrupt(self, number: int = signal.SIGINT) -> tuple[int, float]:
        """Signal it. Returns exit code and the seconds until it ended."""
        begin = time.monotonic()
        self.process.send_signal(number)
        return self.wait(10.0), time.monotonic() - begin

    def close(self) -> None:
        """End it whatever state it is in."""
        if self.process.poll() is None:
            try:
                self.interrupt()
            except subprocess.TimeoutExpired:
                self.process.kill()  # its children die with it
                self.process.wait()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def alive(pids: Iterable[int]) -> list[int]:
    """Those of ``pids`` that still run (zombies do not)."""
    running = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if state != "Z":
            running.append(pid)
    return running
