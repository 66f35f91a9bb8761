"""A policy server as openpi's `serve_policy.py` speaks, with a codec of its own, and bundles that point to it.

``python foreign_server.py PORT`` serves until it is killed. The policy turns the last joint at SPEED.
"""

import functools
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import yaml
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

ROWS, PERIOD, SPEED = 16, 0.05, 0.2
DESCRIPTION: dict[str, Any] = {
    "name": "served",
    "adapter": "openpi",
    "image_size": 96,
    "server": {"url": "", "answer_within": 2.0},  # generous: the machine may be busy
    "observation": {
        "images": {
            "observation/image": {"view": "head", "size": 64},
            "observation/wrist_image": {"view": "wrist", "size": 96, "layout": "chw"},
        },
        "state": {"observation/state": ["joints", "gripper"]},
        "instruction": "prompt",
    },
    "actions": {
        "rows": ROWS,
        "columns": 8,
        "row_period": PERIOD,
        "type": "joint_position",
        "gripper": {"column": 7, "open": 0.0, "closed": 1.0},
    },
}


def describe(folder: Path, description: dict[str, Any]) -> Path:
    """Write policy.yaml into a new folder."""
    folder.mkdir(parents=True)
    (folder / "policy.yaml").write_text(yaml.safe_dump(description))
    return folder


def changed(base: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A copy with other values: ``server__url="…"`` for one below."""
    made = {key: changed(value) if isinstance(value, dict) else value for key, value in base.items()}
    for path, value in changes.items():
        *above, last = path.split("__")
        place = functools.reduce(lambda at, key: at.setdefault(key, {}), above, made)
        place[last] = value
    return made


def pack_array(value: Any) -> Any:
    """As openpi's client and server write arrays."""
    if isinstance(value, np.ndarray):
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(type(value))


def unpack_array(found: dict) -> Any:
    """As openpi's client and server read them."""
    if b"__ndarray__" in found:
        return np.ndarray(buffer=found[b"data"], dtype=np.dtype(found[b"dtype"]), shape=found[b"shape"])
    return np.dtype(found[b"dtype"]).type(found[b"data"]) if b"__npgeneric__" in found else found


pack = functools.partial(msgpack.packb, default=pack_array)


def turning(asked: dict[str, Any]) -> dict[str, Any]:
    """From the measured joints on, back for an instruction that begins with "open"; the gripper opens."""
    rows = np.tile(asked["observation/state"][:8].astype(np.float64), (ROWS, 1))
    speed = -SPEED if asked["prompt"].startswith("open") else SPEED
    rows[:, 6] += speed * PERIOD * np.arange(1, ROWS + 1)
    rows[:, 7] = 0.0
    return {"actions": rows, "server_timing": {"infer_ms": np.float64(1.0)}}


class PolicyServer:
    """Serves in threads of this process; ``answer`` may be exchanged: a map, raw bytes, text, or an exception."""

    def __init__(self, answer: Callable[[dict[str, Any]], Any] = turning, port: int = 0, first: Any = None) -> None:
        self.answer, self.first = answer, {"model": "test"} if first is None else first
        self.asked: list[dict[str, Any]] = []
        self.open: list[ServerConnection] = []
        self._server = serve(self._handle, "127.0.0.1", port, compression=None, max_size=None)
        self.port = self._server.socket.getsockname()[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._server.shutdown()
        for connection in self.open:
            connection.close()

    def _handle(self, connection: ServerConnection) -> None:
        self.open.append(connection)
        try:
            connection.send(self.first if isinstance(self.first, bytes | str) else pack(self.first))
            while True:
                asked = msgpack.unpackb(connection.recv(), object_hook=unpack_array)
                self.asked.append(asked)
                try:
                    found = self.answer(asked)
                except Exception:
                    connection.send(traceback.format_exc())
                    connection.close(1011, "Internal server error. Traceback included in previous frame.")
                    raise
                for one in found if isinstance(found, list) else [found]:
                    connection.send(one if isinstance(one, bytes | str) else pack(one))
        except ConnectionClosed:
            pass


def process(port: int) -> subprocess.Popen[str]:
    """The server in a process of its own, once it serves."""
    made = subprocess.Popen([sys.executable, __file__, str(port)], stdout=subprocess.PIPE, text=True)
    assert made.stdout is not None and made.stdout.readline() == "serving\n"
    return made


if __name__ == "__main__":
    server = PolicyServer(port=int(sys.argv[1]))
    print("serving", flush=True)
    while True:
        time.sleep(1.0)
