"""A node as a process: `python -m vla_mbpo.nodes NODE`, and NODE itself where the package is installed.

Imports nothing slow by itself: the second in which a node imports the middleware is when a Ctrl-C of `ros2 launch` may
come, and a traceback of every node then hides what there is to read.
"""

import importlib.util
import os
import signal
import sys
from pathlib import Path

PACKAGE = "vla_mbpo.nodes"


def main() -> int:
    """Run the node that the process is named after, else the one that its first argument names."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))  # until the node is there to end (process.Stop)
    called = Path(sys.argv[0]).name
    if called == "__main__.py":
        del sys.argv[0]
        called = sys.argv[0] if sys.argv else ""
    node = getattr(importlib.import_module(f"{PACKAGE}.{called}"), "main", None) if _exists(called) else None
    if node is None:
        print(f"vla-mbpo: error: node {called!r}: no such node", file=sys.stderr)
        return 64
    return int(node())


def _exists(name: str) -> bool:
    return name.isidentifier() and importlib.util.find_spec(f"{PACKAGE}.{name}") is not None


if __name__ == "__main__":
    sys.exit(main())
