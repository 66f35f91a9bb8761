"""Slow dreams in a process of their own: neither the processor nor the interpreter's lock is taken from the vetting.

In a thread of lowest priority a dream could be put aside while it held the lock, and the fast path waited for it.
Requests and answers are npz archives without pickles, over a pipe.
"""

import io
import os
import subprocess
import sys
import time
from collections.abc import Mapping
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

NICE = 15  # so that a dream has only the processor time that nobody else wants
Arrays = dict[str, NDArray[Any]]


class Dreamer:
    """Starts the process; ``ask`` and ``answer`` never wait. One thread.

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

    def ask(self, observation: Observation, instruction: str, positions: NDArray, gripper: NDArray) -> None:
        """Have it dream of one chunk; to be called when it is idle."""
        asked = {"instruction": np.array(instruction), "rows": positions, "openings": gripper}
        self.idle, self.fault = False, ""
        try:
            self._pipe.send_bytes(_pack(asked | vars(observation)))
        except OSError as error:
            self.fault = f"the dreaming process is gone: {error}"

    def answer(self) -> Dream | None:
        """The dream that was asked for, once; None while it is not finished."""
        try:
            if self.idle or self.fault or not self._pipe.poll():
                return None
            found = _unpack(self._pipe.recv_bytes())
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
        self._pipe.close()


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
