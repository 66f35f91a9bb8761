"""Jobs spread over worker processes of this machine, or over Ray actors of one machine or many.

A worker prepares a state once (sessions, networks) and does jobs with it. What goes to a worker and what comes back is
pickled in memory: nothing is written, so that workers on other machines need no folder in common with the driver. The
package and the models that a state loads by name have to be on every machine. Ray is imported only when asked for.
"""

import argparse
import importlib.util
import itertools
import multiprocessing
import os
import pickle
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.processes import end_with_parent

LOCAL = "local"  # Ray's own word for a cluster that it starts here
PATIENCE = 5.0  # s until an address counts as out of reach
STORE = 256 * 2**20  # bytes of a local cluster's object store: a policy and a world model are some 60 MB
INSTALL = "Ray is not installed: `pip install -e '.[ray]'`, or leave --ray out"
ADDRESS = "HOST:PORT of a Ray cluster that this machine is part of, or no value for one that is started here"


@dataclass(frozen=True)
class Place:
    """Where jobs run. ``ray``: None for processes of this machine, LOCAL, or the address of a Ray cluster."""

    workers: int = 2
    ray: str | None = None

    def check(self) -> "Place":
        """ConfigError where no worker can be: none wanted, Ray is not installed, nobody listens at its address."""
        require(self.workers > 0, "--workers", self.workers, "a number above 0")
        if self.ray is None:
            return self
        require(importlib.util.find_spec("ray") is not None, "--ray", self.ray, INSTALL)
        if self.ray in (LOCAL, "auto"):
            return self
        host, _, port = self.ray.rpartition(":")
        require(bool(host) and port.isdigit() and int(port) < 2**16, "--ray", self.ray, ADDRESS)
        try:  # Ray itself would wait for minutes
            socket.create_connection((host, int(port)), PATIENCE).close()
        except OSError as error:
            raise ConfigError("--ray", self.ray, f"{ADDRESS} ({error})") from error
        return self


class Crew(Protocol):
    """Workers that are ready. One thread."""

    def each(self, function: Callable[[Any, Any, Any], Any], jobs: Iterable[Any], shared: Any = None) -> Iterator[Any]:
        """``function(state, shared, job)`` for every job; results as they come, in any order.

        What a function raises is raised here and ends the crew. A ``function`` is one that workers can import.
        """


def add_ray(parser: argparse.ArgumentParser) -> None:
    """Declare --ray."""
    parser.add_argument(
        "--ray", nargs="?", const=LOCAL, metavar="ADDRESS",
        help="Ray workers instead of processes: of the cluster at ADDRESS, or of one that is started here",
    )  # fmt: skip


@contextmanager
def crew(place: Place, prepare: Callable[..., Any], *arguments: Any) -> Iterator[Crew]:
    """Workers whose state is ``prepare(*arguments)``; they end with the block, or with this process.

    Raises:
        ConfigError: as ``Place.check``.
    """
    place.check()
    begin = pickle.dumps((prepare, arguments))
    if place.ray is None:
        made = _Processes(place.workers, begin)
        try:
            yield made
        finally:
            made.close()
    else:
        with cluster(place) as ray:
            actors = _Actors(ray, place.workers, begin)
            try:
                yield actors
            finally:
                actors.close()


def spread(
    place: Place,
    function: Callable[[Any, Any, Any], Any],
    jobs: Iterable[Any],
    prepare: Callable[..., Any],
    *arguments: Any,
) -> Iterator[Any]:
    """All jobs by a crew of their own; see ``Crew.each``."""
    with crew(place, prepare, *arguments) as workers:
        yield from workers.each(function, jobs)


def nothing() -> None:
    """The state of workers that need none."""


class _Processes:
    """Spawned processes: fork after a GL call hangs."""

    def __init__(self, workers: int, begin: bytes) -> None:
        self._pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start, (begin,))

    def each(self, function: Callable[[Any, Any, Any], Any], jobs: Iterable[Any], shared: Any = None) -> Iterator[Any]:
        common = pickle.dumps((function, shared))
        try:
            for future in as_completed([self._pool.submit(_work, common, pickle.dumps(job)) for job in jobs]):
                yield pickle.loads(future.result())
        except BrokenProcessPool:
            time.sleep(0.5)  # Ctrl-C ends the workers too; their end may be seen before it is raised here
            raise
        except BaseException:  # also an interrupt, or a consumer that stops: nobody waits for the other jobs
            self._pool.shutdown(wait=False, cancel_futures=True)
            raise

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


_STATE: list[Any] = []  # of this worker process


def _start(begin: bytes) -> None:
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    prepare, arguments = pickle.loads(begin)
    _STATE[:] = [prepare(*arguments)]


def _work(common: bytes, job: bytes) -> bytes:
    function, shared = pickle.loads(common)
    return pickle.dumps(function(_STATE[0], shared, pickle.loads(job)))


class _Worker:
    """What a Ray actor is made of. Ray ends it with the process that asked for it."""

    def __init__(self, begin: bytes) -> None:
        prepare, arguments = pickle.loads(begin)
        self._state = prepare(*arguments)

    def work(self, common: bytes, job: bytes) -> bytes:
        function, shared = pickle.loads(common)
        return pickle.dumps(function(self._state, shared, pickle.loads(job)))


class _Actors:
    """Ray actors with one processor each, each with one job at a time."""

    def __init__(self, ray: Any, workers: int, begin: bytes) -> None:
        kept = ray.put(begin)  # once, not per actor
        self._ray, self._actors = ray, [ray.remote(num_cpus=1)(_Worker).remote(kept) for _ in range(workers)]

    def each(self, function: Callable[[Any, Any, Any], Any], jobs: Iterable[Any], shared: Any = None) -> Iterator[Any]:
        common = self._ray.put(pickle.dumps((function, shared)))
        left, idle = iter(jobs), list(self._actors)
        busy: dict[Any, Any] = {}  # actor by what it will return
        while True:
            for job in itertools.islice(left, len(idle)):
                actor = idle.pop()
                busy[actor.work.remote(common, pickle.dumps(job))] = actor
            if not busy:
                return
            (done, *_), _ = self._ray.wait(list(busy))
            idle.append(busy.pop(done))
            try:
                found = self._ray.get(done)
            except self._ray.exceptions.RayTaskError as error:
                raise error.cause from error
            yield pickle.loads(found)

    def close(self) -> None:
        for actor in self._actors:
            self._ray.kill(actor)


@contextmanager
def cluster(place: Place) -> Iterator[Any]:
    """The module ray, connected; a cluster that this process is connected to already is used as it is."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if place.ray == LOCAL:  # before the import: what keeps Ray to the loopback interface has another system's name
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    import ray

    if ray.is_initialized():
        yield ray
        return
    folder = tempfile.mkdtemp(prefix="vla_mbpo_ray_")  # sockets and logs of a local cluster
    local = {
        "num_cpus": place.workers, "object_store_memory": STORE, "include_dashboard": False, "_temp_dir": folder,
    }  # fmt: skip
    try:
        ray.init(place.ray, logging_level="ERROR", log_to_driver=False, **(local if place.ray == LOCAL else {}))
    except (OSError, RuntimeError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        require("path length" not in str(error), "TMPDIR", folder, "a shorter path: Ray has sockets there")
        raise ConfigError("--ray", place.ray, f"{ADDRESS} ({error})".replace("\n", " ")) from error
    try:
        alone = ray.util.get_node_ip_address() == "127.0.0.1"  # else whoever reaches this machine could have code run
        require(alone or place.ray != LOCAL, "--ray", LOCAL, "here only where nothing has imported Ray before")
        there = int(ray.cluster_resources().get("CPU", 0))  # else some workers would never begin, and nobody would know
        require(there >= place.workers, "--workers", place.workers, f"the cluster has {there} processors")
        yield ray
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
