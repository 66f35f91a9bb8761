"""Attempts on the running stack: real processes, real time, through the ExecuteTask action."""

import argparse
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

from vla_mbpo.bringup import NodeSpec, Options, graph
from vla_mbpo.core.errors import ConfigError
from vla_mbpo.core.verdict import NOT_DECIDED
from vla_mbpo.eval.lockstep import Outcome, Settings
from vla_mbpo.eval.report import percentiles
from vla_mbpo.paths import ros_environment
from vla_mbpo.processes import Supervisor, lock_domain
from vla_mbpo.sim.tasks import TASKS

PATIENCE = 60.0  # s for the stack to become ready, and on top of an attempt's timeout


class Stack:
    """A running stack with a client and a probe, or another listener, beside it. One thread.

    Attributes:
        printed: lines of the nodes.
    """

    def __init__(self, supervisor: Supervisor, client: Any, probe: Any, printed: Sequence[str] = ()) -> None:
        self.supervisor, self.client, self.probe, self.printed = supervisor, client, probe, printed

    def wait(self, ready: Any, seconds: float, what: str) -> None:
        """Spin until ``ready()`` is true. RuntimeError after ``seconds`` or when a process has ended."""
        until = time.monotonic() + seconds
        while not ready():
            ended = self.supervisor.poll()
            if ended is not None:
                raise RuntimeError(str(ended))
            if time.monotonic() > until:
                raise RuntimeError(f"{what}: not within {seconds:.0f} s")
            self.client.spin(0.05)

    def reset(self, task: str, seed: int) -> None:
        """Put the scene to its start, as soon as the arm rests. RuntimeError when it does not."""
        call: list[Any] = []

        def done() -> bool:
            if not call or (call[-1].done() and not call[-1].result().success):
                call[:] = [self.client.reset_scene(task, seed)]
            return call[-1].done() and call[-1].result().success

        self.wait(done, 10.0, "/sim/reset")
        self.client.spin(0.4)  # cameras and joint states show it

    def attempt(self, task: str, seed: int, timeout: float) -> Outcome:
        """Reset the scene and execute its task."""
        self.reset(task, seed)
        call: list[Any] = []

        def engaged() -> bool:
            gate = self.client.gate
            if gate is not None and gate.mode == gate.AUTONOMOUS:
                return True
            if not call or call[-1].done():
                future = self.client.engage()
                call[:] = [future] if future is not None else []
            return False

        self.wait(engaged, 10.0, "engage")
        goal: list[Any] = []

        def sent() -> bool:
            future = self.client.execute(TASKS[task].instruction, timeout)
            goal[:] = [future] if future is not None else []
            return bool(goal)

        decided = len(self.probe.decisions)
        self.wait(sent, 10.0, "/task/execute")
        self.wait(goal[0].done, timeout + PATIENCE, "the attempt")
        result = goal[0].result()
        outcome = Outcome(task, seed, result.outcome == result.SUCCEEDED, result.elapsed, list(result.cost_events))
        _count(outcome, self.probe.decisions[decided:])
        return outcome


def _count(outcome: Outcome, decisions: list[Any]) -> None:
    """What the gate decided about an attempt's chunk sets; those that came after its end are none of it."""
    decisions = [d for d in decisions if d.accepted or d.reasons[0].check not in NOT_DECIDED]
    rejected = [d for d in decisions if not d.accepted]
    sets, accepted = {d.chunk_set_id for d in decisions}, {d.chunk_set_id for d in decisions if d.accepted}
    outcome.chunks, outcome.stops, outcome.vetoes = len(sets), len(sets - accepted), len(rejected)
    outcome.reasons = dict(Counter(reason.check for d in rejected for reason in d.reasons))


@contextmanager
def running_stack(robot: str, options: Options) -> Iterator[Stack]:
    """Start the graph on a domain of its own, with nothing printed; end it afterwards."""
    with running(graph(robot, options), _probe) as stack:
        yield stack


def _probe(node: Any) -> Any:
    from vla_mbpo.eval.probe import Probe

    return Probe(node)


@contextmanager
def running(specs: Sequence[NodeSpec], listen: Callable[[Any], Any]) -> Iterator[Stack]:
    """Start processes on a domain of their own; ``listen(node)`` makes what listens to them, the stack's ``probe``.

    RuntimeError, with the last lines that they printed: they were not ready in time, or one of them ended.
    """
    lock = free_domain()
    os.environ.update(ros_environment())
    from vla_mbpo.nodes.client import StackClient

    lines: list[str] = []
    supervisor = Supervisor(specs, ros_environment(), lambda name, line: lines.append(f"[{name}] {line}"))
    supervisor.start()
    client = StackClient()
    try:
        stack = Stack(supervisor, client, listen(client.node), lines)
        stack.wait(lambda: client.ready, PATIENCE, "bring-up")
        yield stack
    except RuntimeError as error:
        raise RuntimeError("\n".join([str(error), *lines[-5:]])) from error
    finally:
        client.close()
        supervisor.stop()
        if lock is not None:
            lock.close()


def free_domain() -> IO[str] | None:
    """Take a domain that no other stack of this machine has; those up to 100 keep below the ephemeral ports."""
    for domain in random.SystemRandom().sample(range(1, 101), 100):
        try:
            lock = lock_domain(str(domain))
        except ConfigError:
            continue
        os.environ["ROS_DOMAIN_ID"] = str(domain)
        return lock
    raise ConfigError("ROS_DOMAIN_ID", "1 to 100", "every one has a stack of vla_mbpo")


def run_realtime(args: argparse.Namespace, jobs: list[tuple[str, int]], report: dict[str, Any]) -> Iterator[Outcome]:
    """Attempt after attempt on one stack; at the end ``report`` has the cadence, and of how many attempts it is."""
    report.update(attempts=len(jobs), missed_cycles=None)
    if not jobs:
        return
    world_model = args.world_model if args.imagination == "on" else ""
    options = Options(args.bundle, *jobs[0], args.k, page=False, world_model=world_model)
    with running_stack(args.robot, options) as stack:
        for task, seed in jobs:
            yield stack.attempt(task, seed, Settings().timeout)
        report.update(cadence(stack.probe))


def cadence(probe: Any) -> dict[str, Any]:
    """Missed cycles, latency by stage and late rows."""
    missed = probe.missed()
    latency = {name: percentiles(values) for name, values in probe.latency_ms.items()}
    return {
        "missed_cycles": sum(int(row["missed"]) for row in missed.values()),
        "cycles": missed,
        "latency_ms": {**latency, "inference": percentiles(probe.inference_ms)},
        "rows": probe.rows,
        **({"verdicts": probe.verdicts()} if "verdict" in probe.latency_ms else {}),
        "chunk_sets": probe.chunk_sets,
    }
