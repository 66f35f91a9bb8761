"""`vla-mbpo up`: the node graph as processes of this machine, and optionally one task."""

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from vla_mbpo.bringup import DEFAULT_BUNDLE, DEFAULT_ROBOT, DEFAULT_SCENE, NodeSpec, Options, graph, parse_override
from vla_mbpo.core.errors import require
from vla_mbpo.engines.budget import check
from vla_mbpo.gate.inputs import TASK_SILENT
from vla_mbpo.paths import domain, ros_environment
from vla_mbpo.processes import ERROR_PREFIX, Ended, Supervisor, lock_domain
from vla_mbpo.reports.after import AfterRun
from vla_mbpo.sim.tasks import TASKS, find_task

if TYPE_CHECKING:
    from vla_mbpo.nodes.client import StackClient

EXIT_OK, EXIT_FAILED, EXIT_TIMEOUT, EXIT_STOPPED, EXIT_REFUSED, EXIT_USAGE = 0, 1, 2, 3, 4, 64
# By ExecuteTask.Result.outcome: succeeded, failed, stopped, timed out, refused.
_EXIT = {0: EXIT_OK, 1: EXIT_FAILED, 2: EXIT_STOPPED, 3: EXIT_TIMEOUT, 4: EXIT_REFUSED}
_WORDS = {0: "succeeded", 1: "failed", 2: "stopped", 3: "timed out", 4: "refused"}
READY_TIME = 60.0  # s until the graph must be ready
ENGAGE_TIME = 5.0  # s until the gate must be engaged
LEAVE_TIME = 1.0  # s for leaving the graph
AFTERMATH = 1.0  # s that the rest of the graph gets to end motion when a motion-critical process is lost
COLOURS = {"sim": 36, "head_camera": 34, "wrist_camera": 34, "policy": 35, "gate": 33, "arm_driver": 32, "up": 1}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--robot", default=DEFAULT_ROBOT, help="a folder in config/robots (default %(default)s)")
    parser.add_argument("--bundle", default=DEFAULT_BUNDLE, help="model bundle, name or folder (default %(default)s)")
    parser.add_argument("--release", default="", metavar="live|NAME|FOLDER", help="models as one, instead of bundles")
    parser.add_argument("--store", default="", help="folder of the releases; default: releases/ below VLA_MBPO_HOME")
    parser.add_argument("--trainer", default="", metavar="FOLDER", help="with the trainer node; its loop's folder")
    parser.add_argument("--record", default="", metavar="FOLDER", help="record every attempt there, as rosbag2 (MCAP)")
    parser.add_argument(
        "--task", metavar="INSTRUCTION", help="execute this; an arm with power is engaged by hand first"
    )
    parser.add_argument("--scene", metavar="TASK", help=f"simulated scene: {', '.join(TASKS)}")
    parser.add_argument("--seed", type=int, default=0, help="seed of the simulated scene (default %(default)s)")
    parser.add_argument("--dry-run", action="store_true", help="a real robot's stack without the robot and cameras")
    parser.add_argument(
        "--limits-scale", type=float, default=1.0, metavar="SHARE", help="share of its limits of speed, for first days"
    )
    parser.add_argument("--k", type=int, default=8, help="candidate chunks per inference (default %(default)s)")
    parser.add_argument("--timeout", type=float, default=0.0, help="longest attempt, s (default: of the task node)")
    parser.add_argument("--headless", action="store_true", help="no page, no gamepad; end after the task")
    parser.add_argument("--world-model", default="", help="bundle that vets chunks by imagination; none by default")
    parser.add_argument("--detector", default="", help="bundle that watches for failure; none by default")
    parser.add_argument(
        "--budget", default="", metavar="vram=MB,memory=MB,threads=N", help="for all models; default: what is free here"
    )
    parser.add_argument(
        "--markers", action="store_true", help="with what RViz shows: markers/scene, volumes, cameras, and transforms"
    )
    parser.add_argument("--no-joy", action="store_true", help="read no gamepad; the ROS package joy may do it")
    parser.add_argument("--security", default="", metavar="KEYSTORE", help="DDS security (vla-mbpo security keystore)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NODE.PARAM=VALUE", dest="overrides", help="any node parameter"
    )
    parser.epilog = "exit code: 0 succeeded, 1 failed, 2 timed out, 3 stopped, 4 refused, 64 usage or configuration"


def run(args: argparse.Namespace) -> int:
    """Start the graph; with --task execute it. Returns the exit code."""
    specs = plan(args)
    check(specs, args.budget)
    stop = _Interrupt()
    os.environ.update(ros_environment())
    if args.security:
        from vla_mbpo.security.keystore import environment

        os.environ.update(environment(args.security, specs))
    from vla_mbpo.nodes.client import StackClient

    client = StackClient()  # checks the domain's number
    try:
        number = str(domain())
        lock = lock_domain(number)
        client.require_free([spec.name for spec in specs], number)
    finally:
        client.close()
    display, report = Display(), AfterRun(args.record, args.robot, _world_model(specs))
    supervisor = Supervisor(specs, ros_environment(), display.log)
    code, left = EXIT_FAILED, None
    try:
        supervisor.start()
        left = client = StackClient()
        code = Session(args, client, supervisor, display, stop, _has_power(specs)).run()
        return code
    finally:
        try:
            display.close()
        finally:
            supervisor.stop()
        if lock is not None:
            lock.close()
        stop.requested = False  # from here on it is about the report
        if said := report.write(lambda: stop.requested):
            display.say(said)
        if left is not None:
            _leave(left, code)


def _leave(client: "StackClient", code: int) -> None:
    """Leave the graph; if the middleware takes its time, end without it."""
    last = threading.Timer(LEAVE_TIME, os._exit, (code,))
    last.daemon = True
    last.start()
    client.close()
    last.cancel()


def _has_power(specs: list[NodeSpec]) -> bool:
    """Whether an arm with power may be behind this graph: nothing in it plays one."""
    return not {"sim", "mock_arm"} & {spec.name for spec in specs}


def _world_model(specs: list[NodeSpec]) -> str:
    """The bundle that vets, empty: none does."""
    return next((str(spec.parameters["bundle"]) for spec in specs if spec.name == "imagination"), "")


def plan(args: argparse.Namespace) -> list[NodeSpec]:
    """The node graph for these arguments. Raises ConfigError."""
    require(args.timeout >= 0, "--timeout", args.timeout, "expected seconds, 0 or more")
    require(args.task is None or bool(args.task.strip()), "--task", args.task, "expected an instruction")
    overrides: dict[str, dict[str, Any]] = {}
    for text in args.overrides:
        node, name, value = parse_override(text)
        overrides.setdefault(node, {})[name] = value
    if args.markers and find_spec("tf2_msgs"):  # `ros2 launch` has robot_state_publisher for it
        overrides.setdefault("markers", {}).setdefault("transforms", True)
    scene = find_task(args.scene).name if args.scene else scene_for(args.task)
    joy = not (args.headless or args.no_joy)
    return graph(
        args.robot,
        Options(
            args.bundle,
            scene,
            args.seed,
            args.k,
            overrides,
            page=not args.headless,
            joy=joy,
            world_model=args.world_model,
            detector=args.detector,
            release=args.release,
            store=args.store,
            trainer=args.trainer,
            record=args.record,
            markers=args.markers,
            dry_run=args.dry_run,
            limits_scale=args.limits_scale,
        ),
    )


def scene_for(instruction: str | None) -> str:
    """The scene whose own instruction this is, or the default scene."""
    words = (instruction or "").lower().split()
    return next((name for name, task in TASKS.items() if task.instruction.lower().split() == words), DEFAULT_SCENE)


class Phase(Enum):
    """Where a session is."""

    START = auto()
    ENGAGE = auto()
    SEND = auto()
    ATTEMPT = auto()
    IDLE = auto()


class Session:
    """From the start of the processes to the exit code."""

    def __init__(
        self,
        args: argparse.Namespace,
        client: "StackClient",
        supervisor: Supervisor,
        display: "Display",
        stop: "_Interrupt",
        by_hand: bool = False,
    ) -> None:
        """``by_hand``: a person engages the gate, and is waited for."""
        self._by_hand = by_hand
        self._args, self._client, self._supervisor, self._display, self._stop = args, client, supervisor, display, stop
        self._phase = Phase.START
        self._since = time.monotonic()
        self._pending: Any = None
        self._task: int | None = None  # process of the task node that the goal was sent to
        self._code = EXIT_OK if args.task is None else EXIT_STOPPED
        self._over = False

    def run(self) -> int:
        """Handle events until the end. Returns the exit code."""
        while not (self._over or self._stop.requested):
            self._client.spin(0.05)
            ended = self._supervisor.poll()
            if ended is not None:
                self._on_ended(ended)
            else:
                self._step()
        return self._code

    def _go(self, phase: Phase) -> None:
        self._phase, self._since, self._pending = phase, time.monotonic(), None

    def _finish(self, code: int, message: str) -> None:
        self._display.say(message)
        self._code = code
        self._over = self._args.headless or code in (EXIT_USAGE,)
        self._go(Phase.IDLE)

    def _on_ended(self, ended: Ended) -> None:
        self._over = True
        if self._phase == Phase.START and ended.code > 0:
            self._code = EXIT_USAGE  # the process has said what is wrong
            return
        if self._phase != Phase.IDLE or self._args.task is None:
            self._code = EXIT_FAILED if self._args.task is None else EXIT_STOPPED
        critical = ", motion-critical" if ended.spec.motion_critical else ""
        print(f"{ERROR_PREFIX}{ended}{critical}: ending the others", file=sys.stderr, flush=True)
        self._client.spin(AFTERMATH)

    def _step(self) -> None:
        waited = time.monotonic() - self._since
        if self._phase == Phase.START:
            if self._client.ready:
                self._display.say("ready")
                self._go(Phase.ENGAGE if self._args.task else Phase.IDLE)
                if self._args.task and self._by_hand:
                    self._display.say(
                        "the arm may have power: engage it by hand (page, gamepad, /gate/engage), then the task begins"
                    )
            elif waited > READY_TIME:
                self._fail(f"the nodes were not ready within {READY_TIME:.0f} s")
        elif self._phase == Phase.ENGAGE:
            self._engage(waited)
        elif self._phase == Phase.SEND:
            self._pending = self._client.execute(self._args.task, self._args.timeout, self._display.progress)
            if self._pending is not None:
                self._phase, self._task = Phase.ATTEMPT, self._supervisor.pid("task")
                self._display.begin(self._args.task)
            elif waited > ENGAGE_TIME:
                self._fail("the task node does not answer")
        elif self._phase == Phase.ATTEMPT and self._supervisor.pid("task") != self._task:
            self._display.end()  # nobody will ever say what came of it
            self._finish(EXIT_STOPPED, "stopped: the task node ended, and the attempt with it")
        elif self._phase == Phase.ATTEMPT and getattr(self._client.gate, "reason", "") == TASK_SILENT:
            self._display.end()
            self._finish(EXIT_STOPPED, "stopped: the task node is silent")
        elif self._phase == Phase.ATTEMPT and self._pending.done():
            result = self._pending.result()
            self._display.end()
            events = f"; cost events: {', '.join(result.cost_events)}" if result.cost_events else ""
            self._finish(_EXIT[result.outcome], f"{_WORDS[result.outcome]}: {result.message}{events}")

    def _fail(self, message: str) -> None:
        print(f"{ERROR_PREFIX}{message}", file=sys.stderr, flush=True)
        self._code, self._over = EXIT_FAILED if self._args.task is None else EXIT_STOPPED, True

    def _engage(self, waited: float) -> None:
        gate = self._client.gate
        if gate is not None and gate.mode == gate.AUTONOMOUS:
            self._go(Phase.SEND)
        elif self._by_hand:
            return
        elif waited > ENGAGE_TIME:
            self._finish(EXIT_STOPPED, f"stopped: the gate cannot be engaged: {gate.reason if gate else 'silent'}")
        elif self._pending is None or self._pending.done():
            self._pending = self._client.engage()


class _Interrupt:
    """Notes SIGINT, SIGTERM and, unless it is ignored (nohup), a terminal that is closed."""

    def __init__(self) -> None:
        self.requested = False
        hangup = [] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP]
        for number in (signal.SIGINT, signal.SIGTERM, *hangup):
            signal.signal(number, self._note)

    def _note(self, *_: object) -> None:
        self.requested = True


class Display:
    """Log lines with the node's name, and the progress of the attempt: a bar on a terminal, lines elsewhere."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._row: Any = None
        self._tty = sys.stdout.isatty()
        self._print: Callable[[str], None] = lambda text: print(text, flush=True)
        self._shown = -1

    def log(self, name: str, line: str) -> None:
        """One line of a node's output. Any thread."""
        label = f"[{name}]"
        if self._tty:
            label = f"\x1b[{COLOURS.get(name, 37)}m{label}\x1b[0m"
        with suppress(OSError):  # nobody reads any more: no reason to leave an arm without its stack
            if line.startswith(ERROR_PREFIX):
                print(line, file=sys.stderr, flush=True)
            else:
                self._print(f"{label} {line}")

    def say(self, text: str) -> None:
        """One line of this command."""
        self.log("up", text)

    def begin(self, instruction: str) -> None:
        """The attempt has begun."""
        self.say(f"task: {instruction}")
        if not self._tty:
            return
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.text import Text

        left, right = TextColumn("{task.description}"), TextColumn("{task.fields[chunks]}")
        self._bar = Progress(left, BarColumn(), TimeElapsedColumn(), right, transient=True, auto_refresh=False)
        self._row = self._bar.add_task(instruction, total=1.0, chunks="")
        with suppress(OSError):  # as in ``log``
            self._bar.start()
        console = self._bar.console  # for the threads that print while the bar ends
        self._print = lambda text: console.print(Text.from_ansi(text))

    def progress(self, feedback: Any) -> None:
        """Feedback of the attempt, at 5 Hz."""
        chunks = f"chunks {feedback.chunks_accepted} accepted, {feedback.chunks_rejected} rejected"
        if self._bar is not None:
            with suppress(OSError):
                self._bar.update(self._row, completed=feedback.progress, chunks=chunks, refresh=True)
        elif int(feedback.elapsed) // 2 != self._shown:
            self._shown = int(feedback.elapsed) // 2
            reason = f" ({feedback.message})" if feedback.message else ""
            self.say(f"{feedback.elapsed:5.1f} s, progress {feedback.progress:4.0%}, {chunks}{reason}")

    def end(self) -> None:
        """The attempt is over."""
        if self._bar is not None:
            bar, self._bar, self._print = self._bar, None, lambda text: print(text, flush=True)
            with suppress(OSError):
                bar.stop()

    close = end
