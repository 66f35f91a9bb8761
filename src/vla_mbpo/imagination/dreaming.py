"""Slow dreams in a process of their own: neither the processor nor the interpreter's lock is taken from the vetting.

In a thread of lowest priority a dream could be put aside while it held the lock, and the fast path waited for it.
Requests and answers are npz archives without pickles, over a pipe.
"""

import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.observation import Observation
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.imagination.dream import Dream, dream
from vla_mbpo.imagination.session import WorldModelSession
from vla_mbpo.paths import robot_dir
from vla_mbpo.processes import end_with_parent

CLOSE_TIME = 1.0  # s for the thread that talks to a process that was killed
NICE = 15  # so that a dream has only the processor time that nobody else wants
Arrays = dict[str, NDArray[Any]]


class Dreamer:
    """Starts the process; ``ask`` and ``answer`` never wait. One thread.

    A thread of its own writes and reads: the pipe takes some 200 kB, and the process reads the rest, or writes its own,
    when it has the processor, which may be seconds later.

    Attributes:
        idle: whether it may be asked.
        fault: why it is not there any more, or an empty string.
        seconds: that the last dream took.
    """

    def __init__(self, bundle: Path, robot: str, flow_steps: int) -> None:
        self._pipe, other = Pipe()
        words = [sys.executable, "-m", "vla_mbpo.imagination.dreaming"]
        words += [str(bundle), robot, str(flow_steps), str(other.fileno())]
        self._process = subprocess.Popen(
            words, pass_fds=[other.fileno()], stdin=subprocess.DEVNULL, start_new_session=True,
            preexec_fn=end_with_parent,
        )  # fmt: skip
        other.close()
        self.idle, self.fault, self.seconds = True, "", 0.0
        self._told: Future[bytes] = Future()
        self._talk: threading.Thread | None = None

    def ask(self, observation: Observation, instruction: str, positions: NDArray, gripper: NDArray) -> None:
        """Have it dream of one chunk; to be called when it is idle."""
        asked = {"instruction": np.array(instruction), "rows": positions, "openings": gripper}
        self.idle, self.fault, self._told = False, "", Future()
        words = (self._pipe, _pack(asked | vars(observation)), self._told)
        self._talk = threading.Thread(target=_exchange, args=words, name="dream", daemon=True)
        self._talk.start()

    def answer(self) -> Dream | None:
        """The dream that was asked for, once; None while it is not finished."""
        if self.idle or self.fault or not self._told.done():
            return None
        try:
            found = _unpack(self._told.result())
        except (OSError, EOFError) as error:
            self.fault = f"the dreaming process is gone: {type(error).__name__} {error}"
            return None
        self.idle, self.seconds = True, float(found.pop("seconds"))
        if "fault" in found:
            self.fault = f"dream failed: {found['fault']}"
            return None
        return Dream(**found)

    def close(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()
        if self._talk is not None:
            self._talk.join(CLOSE_TIME)
        self._pipe.close()


def _exchange(pipe: Connection, request: bytes, told: Future[bytes]) -> None:
    """Send a request and wait for its answer."""
    try:
        pipe.send_bytes(request)
        told.set_result(pipe.recv_bytes())
    except Exception as error:  # most often OSError, EOFError: the process is gone
        told.set_exception(error)


def _pack(values: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **values)
    return buffer.getvalue()


def _unpack(data: bytes) -> Arrays:
    with np.load(io.BytesIO(data), allow_pickle=False) as found:
        return {name: found[name] for name in found.files}


def _dream(session: WorldModelSession, asked: Arrays, rng: np.random.Generator, flow_steps: int) -> Dream:
    chunk, words = (asked.pop("rows"), asked.pop("openings")), str(asked.pop("instruction"))
    seen = Observation(int(asked.pop("stamp")), gripper=float(asked.pop("gripper")), **asked)
    return dream(session, seen, words, [chunk], rng, flow_steps)


def main(argv: list[str]) -> None:
    """Bundle folder, robot, flow steps and descriptor of the pipe; ends with the other side."""
    os.nice(NICE)
    bundle, robot, steps, descriptor = argv
    session = WorldModelSession.load(Path(bundle), RobotSpec.load(robot_dir(robot)), pixels=True)
    pipe, rng = Connection(int(descriptor)), np.random.default_rng(0)
    while True:
        try:
            asked = _unpack(pipe.recv_bytes())
        except EOFError:
            return
        begin = time.monotonic()
        try:
            found = vars(_dream(session, asked, rng, int(steps)))
        except Exception as error:  # said over there; the next dream may be another matter
            found = {"fault": np.array(f"{type(error).__name__}: {error}")}
        pipe.send_bytes(_pack(found | {"seconds": time.monotonic() - begin}))


if __name__ == "__main__":
    main(sys.argv[1:])
