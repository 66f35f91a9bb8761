"""A node as a process: starts the middleware, runs until a signal, and ends cleanly within two seconds."""

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
from typing import Any, NoReturn

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future
from rclpy.utilities import get_default_context

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.paths import domain, enclave

EXIT_USAGE = 64  # configuration or usage error
_GRACE = 1.5  # s from the signal to the end, whatever the node is busy with


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


def run(make: Callable[[], Any], argv: Sequence[str] | None = None) -> NoReturn:
    """Run one node until SIGINT or SIGTERM or until it sets ``ended``. The process ends here."""
    faulthandler.enable()
    stop, node = Stop(), None
    try:
        start_ros(argv)
        with secured():
            node = make()
    except ConfigError as error:
        print(f"vla-mbpo: error: {error}", file=sys.stderr, flush=True)
    if node is None:
        _leave(EXIT_USAGE)
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


def _leave(code: int) -> NoReturn:
    """Leave the middleware, so that no shared memory stays behind, and end without the interpreter's own teardown.

    The teardown would have libraries complain about objects that are still alive, and has waited for ever once. What
    takes longer than _GRACE is not waited for.
    """
    last = threading.Timer(_GRACE, os._exit, (code,))
    last.daemon = True
    last.start()
    context = get_default_context()
    rclpy.try_shutdown()
    gc.unfreeze()
    gc.collect()
    context.destroy()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def start_ros(argv: Sequence[str] | None = None, name: str = "") -> None:
    """rclpy.init without its signal handlers; ``name``: of the enclave, where ``argv`` names none.

    Raises:
        ConfigError: one line in place of the messages of the C libraries.
    """
    if name:
        argv = [*(argv or []), "--ros-args", "--enclave", enclave(name)]
    domain()
    try:
        with _quiet():
            rclpy.init(args=None if argv is None else list(argv), signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:
        text = _one_line(error).removeprefix("failed to initialize rcl: ")
        raise ConfigError("ROS arguments", " ".join(argv or sys.argv[1:]), text) from None


@contextmanager
def secured() -> Iterator[None]:
    """Around the making of a node: what the middleware has against it is a ConfigError where security is on."""
    try:
        yield
    except _rclpy.RCLError as error:
        if os.environ.get("ROS_SECURITY_ENABLE") != "true":
            raise
        text = _one_line(error).removeprefix("error creating node: ")
        if "security libraries" in text:  # those of PyPI
            text = "this middleware is built without DDS security: take the one of a ROS 2 installation from apt"
        raise ConfigError("ROS_SECURITY_KEYSTORE", os.environ.get("ROS_SECURITY_KEYSTORE", ""), text) from None


def _one_line(error: Exception) -> str:
    return re.sub(r", at /\S+:\d+", "", " ".join(str(error).split()))


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
