"""The operator's page on the loopback interface: pictures, panels, orders and a stop. Standard library only."""

import errno
import json
import os
import threading
from collections.abc import Callable, Mapping
from html import escape
from importlib.resources import files
from typing import Any

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.monitor.connections import STREAMS, Server, Viewers
from vla_mbpo.monitor.feed import Feed
from vla_mbpo.monitor.guard import Guard
from vla_mbpo.monitor.handler import Handler
from vla_mbpo.monitor.stopper import StopServer

# What an order is given, and whether it was done and what came of it, in words. ConfigError: it makes no sense.
Order = Callable[[dict[str, Any]], tuple[bool, str]]


class PageServer:
    """Serves the page from its own threads. ``show``, ``dream`` and ``tell`` may be called from any thread.

    Routes: ``GET /`` page and its files, ``/events`` (server-sent events, one kind per panel), ``/state`` (all panels
    as JSON), ``/picture`` (stream of JPEGs), ``/dream`` (JPEG); ``POST /stop`` for anyone, here and on a port of its
    own, and ``POST /ORDER`` for whoever has the token.

    Attributes:
        address: of the page.
        link: the address with the token; whoever opens it may give orders.
        viewers: streams that are open; nobody needs to draw when there are none.
    """

    def __init__(
        self,
        port: int,
        stop: Callable[[], None],
        orders: Mapping[str, Order] | None = None,
        host: str = "127.0.0.1",
        stop_port: int = 0,
        tasks: Mapping[str, str] | None = None,
        nice: int = -20,
    ) -> None:
        """Bind. ConfigError when a port is taken.

        ``stop`` and the orders are called from server threads. ``stop_port`` 0: any free one. ``tasks``: names of
        scenes and what is said in them, for the page to offer. ``nice``: at least this nice are the page's threads;
        the stop's is as nice as the calling one.
        """
        self.stop, self.orders, self.serving = stop, dict(orders or {}), True
        self.panels, self.scenes, self.pictures = Feed(), Feed(), Feed()
        self.viewers = Viewers(STREAMS)
        self._stopper = _bind("stop_port", stop_port, lambda: StopServer(stop, host, stop_port))
        handler = type("PageHandler", (Handler,), {"page": self})
        try:
            self._server = _bind("port", port, lambda: Server((host, port), handler))
        except ConfigError:
            self._stopper.close()
            raise
        bound = self._server.server_address[1]
        self.guard = Guard(host, bound)
        self.address = f"http://{host}:{bound}/"
        self.link = f"{self.address}#token={self.guard.token}"
        self.stop_port = self._stopper.port
        stops = " ".join(f"http://{name}:{self.stop_port}" for name in (host, "localhost"))
        self.policy = f"default-src 'self'; connect-src 'self' {stops}; base-uri 'none'; form-action 'none'; "
        self.policy += "frame-ancestors 'none'"
        self.files = _files(self.stop_port, tasks or {})
        self._thread = threading.Thread(target=self._serve, args=(nice,), name="page", daemon=True)
        self._thread.start()

    def _serve(self, nice: int) -> None:
        if nice > os.getpriority(os.PRIO_PROCESS, 0):  # of this thread and of those that it starts
            os.setpriority(os.PRIO_PROCESS, 0, nice)
        self._server.serve_forever(0.1)

    def show(self, jpeg: bytes) -> None:
        """Next picture for all viewers."""
        self.scenes.put("scene", jpeg)

    def dream(self, jpeg: bytes) -> None:
        """What was imagined, above what was then seen. The panel ``dream`` is to be told, too: it has the words."""
        self.pictures.put("dream", jpeg)

    def tell(self, panel: str, content: dict[str, Any]) -> None:
        """Next content of a panel; viewers hear of it if it has changed."""
        self.panels.put(panel, json.dumps(content, allow_nan=False).encode())

    def close(self) -> None:
        """Stop serving and free the ports."""
        self.serving = False
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(1.0)
        self._stopper.close()


def _files(stop_port: int, tasks: Mapping[str, str]) -> dict[str, bytes]:
    """Everything that makes up the page, by path. Nothing is fetched from elsewhere."""
    folder = files("vla_mbpo.monitor").joinpath("static")
    found = {f"/static/{file.name}": file.read_bytes() for file in folder.iterdir() if file.is_file()}
    offered = {
        "STOP_PORT": str(stop_port),
        "INSTRUCTIONS": "".join(f'<option value="{escape(said)}"></option>' for said in tasks.values()),
        "SCENES": "".join(f'<option value="{escape(name)}">{escape(said)}</option>' for name, said in tasks.items()),
    }
    page = found.pop("/static/index.html").decode()
    for name, text in offered.items():
        page = page.replace(name, text)
    return {"/": page.encode(), **found}


def _bind(field: str, port: int, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        valid = "the port is taken or not allowed: choose a free one from 1024 to 65535"
        raise ConfigError(field, port, valid) from None
