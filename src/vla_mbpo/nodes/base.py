"""Common base of all nodes: lifecycle, parameters, diagnostics, and a `main` that ends cleanly within two seconds."""

import faulthandler
import gc
import os
import re
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.publisher import Publisher
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future
from rclpy.utilities import get_default_context

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.nodes import qos
from vla_mbpo.nodes.parameters import Param, Parameters
from vla_mbpo.nodes.qos import Topic

EXIT_USAGE = 64  # configuration or usage error
_GRACE = 1.5  # s from the signal to the end, whatever the node is busy with

ROBOT = Param("robot", "sim_panda", "robot: a folder in config/robots")


class ManagedNode(LifecycleNode):
    """A lifecycle node. A subclass gives PARAMETERS and overrides ``configure``, ``activate`` and their opposites.

    Publishers made with ``publisher`` live from configure to cleanup; what ``subscribe``, ``every`` and ``serve`` make
    lives from activate to deactivate, so that no callback runs in an inactive node. Any exception in a transition
    makes it fail, with its text in the log and in /diagnostics.
    """

    PARAMETERS: tuple[Param, ...] = ()

    def __init__(self, name: str) -> None:
        super().__init__(name, automatically_declare_parameters_from_overrides=True)
        self.parameters = Parameters(self, (ROBOT, *self.PARAMETERS))
        self._configured: list[Callable[[], Any]] = []
        self._activated: list[Callable[[], Any]] = []
        self._fault = ""
        self.ended: Future = Future()  # a node may end its own process
        self.exit_code = 0
        self.alone = False  # the only node of its process
        self._diagnostics = self.create_publisher(*_spread(qos.DIAGNOSTICS))
        self.create_timer(1.0, self.publish_diagnostics, clock=Clock(clock_type=ClockType.STEADY_TIME))

    # What a subclass overrides

    def configure(self) -> None:
        """Read parameters, load models, make publishers."""

    def activate(self) -> None:
        """Subscribe and start timers."""

    def deactivate(self) -> None:
        """Stop; subscriptions, timers and services are still there."""

    def cleanup(self) -> None:
        """Release what ``configure`` took."""

    def report(self) -> dict[str, object]:
        """Values for /diagnostics."""
        return {}

    def warning(self) -> str:
        """What is wrong at the moment, or an empty string."""
        return ""

    def shut_down(self) -> None:
        """End in order, whatever the state."""
        if self.state in ("active", "inactive"):
            self.trigger_shutdown()

    # What a subclass uses

    @property
    def state(self) -> str:
        """Lifecycle state: unconfigured, inactive, active or finalized."""
        return self._state_machine.current_state[1]

    def now(self) -> int:
        """Node time [ns]."""
        return self.get_clock().now().nanoseconds

    def spec(self) -> RobotSpec:
        """The robot named by the parameter ``robot``."""
        from vla_mbpo.paths import robot_dir

        return RobotSpec.load(robot_dir(self.parameters["robot"]))

    def publisher(self, topic: Topic) -> Publisher:
        """A publisher that lives until cleanup."""
        made = self.create_publisher(*_spread(topic))
        self._configured.append(lambda: self.destroy_publisher(made))
        return made

    def subscribe(self, topic: Topic, callback: Callable, on_deadline: Callable[[], None] | None = None) -> None:
        """Call back until deactivated; ``on_deadline`` whenever the topic's deadline passes without a message."""
        events = None
        if on_deadline is not None:
            events = SubscriptionEventCallbacks(deadline=lambda _: on_deadline())
        made = self.create_subscription(topic.type, topic.name, callback, topic.qos, event_callbacks=events)
        self._activated.append(lambda: self.destroy_subscription(made))

    def every(self, period: float, callback: Callable[[], None]) -> None:
        """Call back every ``period`` seconds until deactivated: steady time, or /clock under use_sim_time."""
        simulated = self.get_parameter("use_sim_time").value
        clock = self.get_clock() if simulated else Clock(clock_type=ClockType.STEADY_TIME)
        made = self.create_timer(period, callback, clock=clock)
        self._activated.append(lambda: self.destroy_timer(made))

    def serve(self, kind: Any, name: str, callback: Callable) -> None:
        """Answer a service until deactivated."""
        made = self.create_service(kind, name, callback)
        self._activated.append(lambda: self.destroy_service(made))

    def publish_diagnostics(self) -> None:
        """State, fault and the subclass's values."""
        status = DiagnosticStatus(name=self.get_name(), hardware_id=self.parameters["robot"])
        state, warning = self.state, self.warning() if self.state == "active" else ""
        status.level = DiagnosticStatus.ERROR if self._fault else DiagnosticStatus.OK
        if not self._fault and (state != "active" or warning):
            status.level = DiagnosticStatus.WARN
        status.message = self._fault or warning or state
        values = {"state": state, **(self.report() if state == "active" else {})}
        status.values = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    # Transitions

    def on_configure(self, state: Any) -> TransitionCallbackReturn:
        """Lifecycle callback."""
        self.parameters.lock(True)
        done = self._guard("configure", self.configure)
        if done != TransitionCallbackReturn.SUCCESS:
            self._guard("cleanup", self._release_all, keep_fault=True)
        return done

    def on_activate(self, state: Any) -> TransitionCallbackReturn:
        """Lifecycle callback."""
        done = self._guard("activate", self.activate)
        if done != TransitionCallbackReturn.SUCCESS:
            _release(self._activated)
        elif self.alone:
            gc.collect()
            gc.freeze()  # what is alive now stays: later collections need not look at it
        return done

    def on_deactivate(self, state: Any) -> TransitionCallbackReturn:
        """Lifecycle callback."""
        done = self._guard("deactivate", self.deactivate)
        _release(self._activated)
        return done

    def on_cleanup(self, state: Any) -> TransitionCallbackReturn:
        """Lifecycle callback."""
        return self._guard("cleanup", self._release_all)

    def on_shutdown(self, state: Any) -> TransitionCallbackReturn:
        """Lifecycle callback."""
        if state.label == "active":
            self.on_deactivate(state)
        return self._guard("shutdown", self._release_all)

    def _release_all(self) -> None:
        self.parameters.lock(False)
        try:
            self.cleanup()
        finally:
            _release(self._configured)

    def _guard(self, transition: str, action: Callable[[], None], keep_fault: bool = False) -> TransitionCallbackReturn:
        try:
            action()
        except Exception as error:
            text = str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
            if not keep_fault:
                self._fault = f"{transition} failed: {' '.join(text.split())}"
                self.get_logger().error(self._fault)
                self.publish_diagnostics()
            return TransitionCallbackReturn.FAILURE
        if not keep_fault:
            self._fault = ""
        return TransitionCallbackReturn.SUCCESS


def _spread(topic: Topic) -> tuple:
    return topic.type, topic.name, topic.qos


def _release(actions: list[Callable[[], Any]]) -> None:
    while actions:
        actions.pop()()


class Stop:
    """Turns SIGINT and SIGTERM into a future, and ends the process if the rest takes too long.

    Python runs signal handlers in the main thread, which waits in C most of the time; the wake-up descriptor is
    written at once, so a thread that reads it does not wait for the executor's next timer.
    """

    def __init__(self) -> None:
        self.future: Future = Future()
        self._read, write = os.pipe()
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)  # also undoes a shell's SIG_IGN for background jobs
        threading.Thread(target=self._wait, name="signals", daemon=True).start()

    def _wait(self) -> None:
        os.read(self._read, 1)
        if not self.future.done():
            self.future.set_result(None)
        threading.Event().wait(_GRACE)
        os._exit(1)


def run(make: Callable[[], Any], argv: Sequence[str] | None = None) -> int:
    """Run one node until SIGINT or SIGTERM or until it sets ``ended``.

    Returns the exit code of a configuration error; otherwise the process ends here.
    """
    faulthandler.enable()
    stop = Stop()
    try:
        start_ros(argv)
        node = make()
    except ConfigError as error:
        print(f"vla-mbpo: error: {error}", file=sys.stderr, flush=True)
        rclpy.try_shutdown()
        return EXIT_USAGE
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    node.ended, node.alone, code = stop.future, True, 1
    try:
        executor.spin_until_future_complete(node.ended)
        code = node.exit_code
    except Exception:
        traceback.print_exc()
    finally:
        node.shut_down()
        node.destroy_node()
        executor.shutdown(timeout_sec=0.5)
        del node, executor
        _leave(code)
    return code


def _leave(code: int) -> None:
    """Leave the middleware, so that no shared memory stays behind, and end without the interpreter's own teardown.

    The teardown would have libraries complain about objects that are still alive.
    """
    context = get_default_context()
    rclpy.try_shutdown()
    gc.unfreeze()
    gc.collect()
    context.destroy()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def start_ros(argv: Sequence[str] | None = None) -> None:
    """rclpy.init without its signal handlers.

    Raises:
        ConfigError: one line in place of the messages of the C libraries.
    """
    domain = os.environ.get("ROS_DOMAIN_ID") or "0"
    require(domain.isdecimal() and int(domain) <= 232, "ROS_DOMAIN_ID", domain, "expected an integer from 0 to 232")
    try:
        with _quiet():
            rclpy.init(args=None if argv is None else list(argv), signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:
        text = re.sub(r", at /\S+:\d+", "", " ".join(str(error).split())).removeprefix("failed to initialize rcl: ")
        raise ConfigError("ROS arguments", " ".join(argv or sys.argv[1:]), text) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Holds back what C libraries write to stderr, and drops it if the body fails."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:
            held.truncate(0)
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            os.write(2, held.read())
