"""The requests that the page's server answers; see server.py for the routes."""

import json
import time
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.monitor.stopper import STOPPED

if TYPE_CHECKING:
    from vla_mbpo.monitor.server import PageServer

BOUNDARY = "frame"
BODY = 4096  # bytes of the longest order
IDLE = 30.0  # s until a silent connection is closed
WRITE = 5.0  # s that a viewer may take nothing until it is given up
QUIET = 2.0  # s without news after which a viewer is told that there are none, and one who has left is noticed
EVENTS = 0.1  # s, shortest time from one lot of news to the next
KINDS = {"html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}
KINDS["svg"] = "image/svg+xml"


class Handler(BaseHTTPRequestHandler):
    """One connection, in a thread of its own."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE
    page: "PageServer"  # set by the server

    def do_GET(self) -> None:  # noqa: N802
        """Files of the page, state, and streams. Nothing here changes anything."""
        path = self.path.partition("?")[0]
        why = self.page.guard.misaddressed(self.headers)
        if why:
            self._json(HTTPStatus.FORBIDDEN, {"error": why})
        elif path in self.page.files:
            self._answer(
                HTTPStatus.OK, self.page.files[path], KINDS[path.rpartition(".")[2] if "." in path else "html"]
            )
        elif path == "/state":
            parts = (f"{json.dumps(name)}: {text.decode()}" for name, text in self.page.panels.all().items())
            self._answer(HTTPStatus.OK, f"{{{', '.join(parts)}}}".encode(), "application/json")
        elif path == "/dream":
            self._picture(self.page.pictures.get("dream"))
        elif path == "/picture":
            self._stream(f"multipart/x-mixed-replace; boundary={BOUNDARY}", self._frames())
        elif path == "/events":
            self._stream("text/event-stream", self._events())
        else:
            self._json(HTTPStatus.NOT_FOUND, {"error": f"there is no {path}"})

    def do_POST(self) -> None:  # noqa: N802
        """The stop, and orders."""
        if self.path == "/stop":
            self.page.stop()  # first of all, and for anyone: a stop needs no permission
            self.close_connection = True
            self._answer(HTTPStatus.OK, STOPPED.encode(), "application/json", {"Access-Control-Allow-Origin": "*"})
            return
        self.close_connection = True  # a body that is not read must not be taken for the next request
        why, order = self.page.guard.refusal(self.headers), self.page.orders.get(self.path.lstrip("/"))
        if why:
            self._json(HTTPStatus.FORBIDDEN, {"error": why})
        elif order is None:
            self._json(HTTPStatus.NOT_FOUND, {"error": f"there is no order {self.path}"})
        else:
            try:
                done, said = order(self._body())
            except ConfigError as error:
                self._json(HTTPStatus.BAD_REQUEST, {"error": str(error)})
                return
            self._json(HTTPStatus.OK if done else HTTPStatus.CONFLICT, {"done": done, "said": said})

    def do_OPTIONS(self) -> None:  # noqa: N802
        """A browser asks before it sends another site's request with headers of its own: only the stop is for all."""
        allow = {"Access-Control-Allow-Methods": "POST", "Access-Control-Allow-Headers": "*"}
        if self.path == "/stop":
            self._answer(HTTPStatus.NO_CONTENT, b"", "text/plain", {"Access-Control-Allow-Origin": "*", **allow})
        else:
            self._json(HTTPStatus.FORBIDDEN, {"error": "orders are taken from this page only"})

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _body(self) -> dict[str, Any]:
        """The order's JSON object; ConfigError if it is none."""
        text = self.headers.get("Content-Length") or "0"
        require(text.isdecimal() and int(text) <= BODY, "Content-Length", text, f"expected 0 to {BODY}")
        raw = self.rfile.read(int(text)) or b"{}"
        try:
            body = json.loads(raw)
        except ValueError:
            body = None
        require(isinstance(body, dict), "order", raw.decode(errors="replace")[:80], "expected a JSON object")
        return body

    def _json(self, status: HTTPStatus, content: dict[str, Any]) -> None:
        self._answer(status, json.dumps(content).encode(), "application/json")

    def _picture(self, jpeg: bytes) -> None:
        if jpeg:
            self._answer(HTTPStatus.OK, jpeg, "image/jpeg")
        else:
            self._json(HTTPStatus.NOT_FOUND, {"error": "there is no dream yet"})

    def _answer(self, status: HTTPStatus, body: bytes, kind: str, more: dict[str, str] | None = None) -> None:
        self._head(status, kind, {"Content-Length": str(len(body)), **(more or {})})
        self.wfile.write(body)

    def _head(self, status: HTTPStatus, kind: str, more: dict[str, str]) -> None:
        self.send_response(status)
        common = {
            "Content-Type": kind,
            "Content-Security-Policy": self.page.policy,
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        }
        for name, value in {**common, **more}.items():
            self.send_header(name, value)
        self.end_headers()

    def _stream(self, kind: str, pieces: Iterator[bytes]) -> None:
        """Send what comes until the viewer leaves, or takes nothing for too long."""
        self.close_connection = True
        if not self.page.viewers.enter():
            self._json(HTTPStatus.SERVICE_UNAVAILABLE, {"error": "too many viewers: close another page"})
            return
        try:
            self.connection.settimeout(WRITE)
            self._head(HTTPStatus.OK, kind, {})
            for piece in pieces:
                self.wfile.write(piece)
        except OSError:
            return
        finally:
            self.page.viewers.leave()

    def _frames(self) -> Iterator[bytes]:
        """Each new picture, and the last one again when none comes."""
        seen = 0
        while self.page.serving:
            seen, _ = self.page.scenes.after(seen, QUIET)
            picture = self.page.scenes.get("scene")
            if picture:
                head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                yield head.encode() + picture + b"\r\n"

    def _events(self) -> Iterator[bytes]:
        """Each panel that has changed as an event of its name; an event ``beat`` when nothing has."""
        seen = 0
        while self.page.serving:
            begin = time.monotonic()
            seen, news = self.page.panels.after(seen, QUIET)
            lines = [b"event: " + name.encode() + b"\ndata: " + text + b"\n\n" for name, text in news]
            yield b"".join(lines) or b"event: beat\ndata: {}\n\n"
            time.sleep(max(0.0, EVENTS - (time.monotonic() - begin)))
