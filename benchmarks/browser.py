"""Debian's Chromium without a window, driven by Playwright; no browser is downloaded."""

import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

NEEDED = "needs Chromium and Playwright: `make setup-dev` on Debian, or apt-get install chromium"


def chromium() -> str:
    """Path of the installed browser, empty if there is none or nothing to drive it with."""
    try:
        import playwright  # noqa: F401
    except ImportError:
        return ""
    return shutil.which("chromium") or ""


@contextmanager
def browser(width: int = 1280, height: int = 900) -> Iterator[Any]:
    """A browser context with one window size; what its pages ask for is in ``context.asked``, as URLs."""
    from playwright.sync_api import sync_playwright

    # Only this machine's pages: its own services (updates, safe browsing) have nothing to do here. Root has no sandbox.
    arguments = ["--disable-background-networking", "--disable-component-update"]
    arguments += ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=chromium(), args=arguments)
        context = launched.new_context(viewport={"width": width, "height": height})
        context.asked = []
        context.on("request", lambda request: context.asked.append(request.url))
        try:
            yield context
        finally:
            launched.close()


class Viewers:
    """Plain connections that take a stream as fast as it comes, in threads of their own."""

    def __init__(self, address: str, *paths: str) -> None:
        """Open one connection for each path."""
        where = urlsplit(address)
        self.bytes = 0
        self._open = []
        for path in paths:
            connection = socket.create_connection((where.hostname, where.port), timeout=10)
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode())
            self._open.append(connection)
            threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        try:
            while piece := connection.recv(1 << 16):
                self.bytes += len(piece)
        except OSError:
            return

    def close(self) -> None:
        """Leave."""
        for connection in self._open:
            connection.shutdown(socket.SHUT_RDWR)
            connection.close()
