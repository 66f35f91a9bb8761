"""How many may look at the page at once: connections with a thread each, and streams."""

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

STREAMS = 24  # viewers' streams at once; a page that is looked at has two
CONNECTIONS = 64  # at once, each in a thread of its own; more are closed


class Viewers:
    """How many streams there are. Any thread."""

    def __init__(self, most: int) -> None:
        self.number, self._most, self._lock = 0, most, threading.Lock()

    def __bool__(self) -> bool:
        return self.number > 0

    def enter(self) -> bool:
        """One more, if there is room."""
        with self._lock:
            room = self.number < self._most
            self.number += room
            return room

    def leave(self) -> None:
        """One less."""
        with self._lock:
            self.number -= 1


class Server(ThreadingHTTPServer):
    """A thread for each connection, and no more of them than there is room for."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._room, self._lock = threading.BoundedSemaphore(CONNECTIONS), threading.Lock()
        self._open: set[socket.socket] = set()
        super().__init__(address, handler)  # closes itself when the port is taken

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for the connection, or close it."""
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """In the connection's thread."""
        with self._lock:
            self._open.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._open.discard(request)
            self._room.release()

    def server_close(self) -> None:
        """Free the port, and end what still talks."""
        super().server_close()
        with self._lock:
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # it has left

    def get_request(self) -> tuple[socket.socket, Any]:
        """The next connection."""
        request, address = super().get_request()
        # Little waits for a viewer that takes nothing: it is noticed soon, and sees nothing old when it wakes up.
        request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 17)
        return request, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that leaves in the middle is no news."""
