"""A small web page on the loopback interface: pictures, state and a stop button. Standard library only."""

import errno
import json
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any

from vla_mbpo.core.errors import ConfigError

BOUNDARY = "frame"
RECORD = {"/record/start": ("start", ""), "/record/save": ("save", "")} | {
    f"/record/stop/{outcome}": ("stop", outcome) for outcome in ("succeeded", "failed", "aborted")
}
PICTURE_WAIT = 5.0  # s without a picture before the last one is sent again


class PageServer:
    """Serves the page from its own threads. ``show`` and ``tell`` may be called from any thread.

    Routes: ``GET /`` page, ``GET /picture`` stream of JPEGs, ``GET /state`` JSON, ``POST /stop``, and
    ``POST /record/start``, ``/record/save`` and ``/record/stop/OUTCOME``.
    """

    def __init__(
        self,
        port: int,
        stop: Callable[[], None],
        record: Callable[[str, str], str] = lambda what, outcome: "nothing is recorded",
        host: str = "127.0.0.1",
    ) -> None:
        """Bind. ConfigError when the port is taken.

        ``stop`` and ``record`` are called from a server thread; ``record(what, outcome)`` says what came of it.
        """
        self._stop, self._record = stop, record
        self._page = files("vla_mbpo.monitor").joinpath("page.html").read_bytes()
        self._fresh = threading.Condition()
        self._picture, self._number = b"", 0
        self._state: dict[str, Any] = {}
        self.viewers = 0
        try:
            self._server = ThreadingHTTPServer((host, port), self._handler())
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            raise ConfigError(
                "port", port, "the port is taken or not allowed: choose a free one from 1024 to 65535"
            ) from None
        self._server.daemon_threads = True
        self.address = f"http://{host}:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="page", daemon=True)
        self._thread.start()

    def show(self, jpeg: bytes) -> None:
        """Next picture for all viewers."""
        with self._fresh:
            self._picture, self._number = jpeg, self._number + 1
            self._fresh.notify_all()

    def tell(self, state: dict[str, Any]) -> None:
        """Next content of /state."""
        self._state = state

    def close(self) -> None:
        """Stop serving and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(1.0)

    def pictures(self) -> Any:
        """Yield each new picture, and the last one again when none comes: so a viewer who has left is noticed."""
        seen = 0
        self.viewers += 1
        try:
            while True:
                with self._fresh:
                    self._fresh.wait_for(lambda: self._number != seen, PICTURE_WAIT)  # noqa: B023
                    seen, picture = self._number, self._picture
                if picture:
                    yield picture
        finally:
            self.viewers -= 1

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:  # noqa: N802
                if self.path == "/":
                    self._answer(server._page, "text/html; charset=utf-8")
                elif self.path == "/state":
                    self._answer(json.dumps(server._state).encode(), "application/json")
                elif self.path.startswith("/picture"):
                    self._stream()
                else:
                    self.send_error(HTTPStatus.NOT_FOUND)

            def do_POST(self) -> None:  # noqa: N802
                if self.path == "/stop":
                    server._stop()  # first of all, and for anyone: a stop needs no permission
                    self._answer(b'{"stopped": true}', "application/json")
                elif self.path in RECORD:
                    said = server._record(*RECORD[self.path])
                    self._answer(json.dumps({"said": said}).encode(), "application/json")
                else:
                    self.send_error(HTTPStatus.NOT_FOUND)

            def _answer(self, body: bytes, kind: str) -> None:
                self.send_response(HTTPStatus.OK)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                self.wfile.write(body)

            def _stream(self) -> None:
                self.close_connection = True
                self.send_response(HTTPStatus.OK)
                self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
                self.end_headers()
                try:
                    for picture in server.pictures():
                        head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                        self.wfile.write(head.encode() + picture + b"\r\n")
                except OSError:
                    return  # the viewer has left

            def log_message(self, *_: Any) -> None:
                return

        return Handler
