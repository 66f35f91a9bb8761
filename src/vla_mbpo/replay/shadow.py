"""Runs models on a recording in shadow: their nodes and the lifecycle manager, on a domain of their own.

No simulator, gate or arm driver is started, and nothing is published that they would act on.
"""

import threading
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from vla_mbpo.bringup import DEFAULT_BUNDLE, MANAGER, NodeSpec, Options, Restart, graph, parse_override
from vla_mbpo.eval.realtime import Stack, running
from vla_mbpo.nodes.player import SHADOWS, Listener, Player
from vla_mbpo.replay.models import Models
from vla_mbpo.replay.recording import Recording
from vla_mbpo.replay.said import Said

Message = tuple[int, str, bytes]  # when it came [ns], topic, CDR
CONNECT_TIME = 20.0  # s for publishers and nodes to find each other
SETTLE = 0.5  # s more: a node may know of a publisher a little later than the publisher of it
PATIENCE = 2.0  # s for an answer that came then
QUIET, LONGEST = 1.0, 10.0  # s of silence after which the nodes have said everything; s at most
# No arm waits for an answer, and what this machine is too slow for says nothing about the models.
PATIENT: dict[str, dict[str, Any]] = {
    "policy": {"max_age": 1.0},
    "imagination": {"max_age": 2.0, "deadline": 1.0, "dream_period": 0.0},
}


def plan(robot: str, models: Models, overrides: Sequence[str] = ()) -> list[NodeSpec]:
    """The processes of a replay. ``overrides``: node.param=value. Raises ConfigError."""
    wanted = {"policy": models.policy, "imagination": models.world_model, "failure_detector": models.detector}
    only = [name for name, bundle in wanted.items() if bundle]
    values = {name: dict(PATIENT.get(name, {})) for name in only}
    if models.bands:
        values["failure_detector"]["calibration"] = models.bands
    for said in overrides:
        node, name, value = parse_override(said)
        values.setdefault(node, {})[name] = value
    options = Options(
        bundle=models.policy or DEFAULT_BUNDLE,
        k=models.candidates,
        overrides=values,
        use_sim_time=True,
        page=False,
        joy=False,
        world_model=models.world_model,
        detector=models.detector,
    )
    return [replace(spec, restart=Restart.NEVER) for spec in graph(robot, options, only)]


def shadow(
    specs: Sequence[NodeSpec], recording: Recording, begin: int, end: int, rate: float, everything: bool
) -> Said:
    """What the nodes say of a recording from ``begin`` to ``end`` [ns] of its messages' arrival.

    Raises:
        ConfigError: the recording is damaged, or another node is on the domain.
        RuntimeError: a node did not come up, or ended.
    """
    names = [spec.name for spec in specs if spec.lifecycle]
    with running(specs, lambda node: Listener(node, names)) as stack:
        player = Player(stack.client.node, names)
        stack.wait(lambda: player.connected, CONNECT_TIME, "connecting to the nodes")
        stack.client.spin(SETTLE)
        player.require_alone([MANAGER])
        messages = recording.messages(player.topics, begin, end, everything)
        if not everything:
            messages = paced(messages, due(recording, names, begin), stack.probe.said)
        with _listening(stack):
            player.play(messages, rate, lambda: _check(stack))
            _await_answers(stack)
        return stack.probe.said


def due(recording: Recording, running: Collection[str], begin: int) -> list[tuple[int, str, int]]:
    """Answers that are to come: until when [ns] as recorded, kind and observation stamp, in their order.

    A node that did not run then is to answer until the chunk set came.
    """
    found = []
    for kind in (SHADOWS[name].kind for name in running):
        for stamp in recording.said.sets:
            if stamp >= begin:
                set_came = recording.arrivals["sets", stamp]
                found.append((recording.arrivals.get((kind, stamp), set_came), kind, stamp))
    return sorted(found)


def paced(messages: Iterable[Message], answers: Iterable[tuple[int, str, int]], said: Said) -> Iterator[Message]:
    """Hold messages back until what was answered before them then is answered now.

    So recorded time stands still where this machine is slower, and no look is missed for that. An answer that does not
    come is waited for PATIENCE, the next one half as long, until one comes again.
    """
    waiting, patience = deque(answers), PATIENCE
    for message in messages:
        while waiting and waiting[0][0] < message[0]:
            _, kind, stamp = waiting.popleft()
            until = time.monotonic() + patience
            while stamp not in getattr(said, kind) and time.monotonic() < until:
                time.sleep(0.002)
            patience = PATIENCE if stamp in getattr(said, kind) else patience / 2
        yield message


@contextmanager
def _listening(stack: Stack) -> Iterator[None]:
    """Hear the nodes in a thread of its own, so that what is put back is on time."""
    over = threading.Event()

    def listen() -> None:
        while not over.is_set():
            stack.client.spin(0.05)

    thread = threading.Thread(target=listen, name="listener", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _await_answers(stack: Stack) -> None:
    until, heard, since = time.monotonic() + LONGEST, -1, time.monotonic()
    while time.monotonic() < min(until, since + QUIET):
        if len(stack.probe.said) != heard:
            heard, since = len(stack.probe.said), time.monotonic()
        _check(stack)
        time.sleep(0.05)


def _check(stack: Stack) -> None:
    ended = stack.supervisor.poll()
    if ended is not None:
        raise RuntimeError(str(ended))
