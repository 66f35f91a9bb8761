"""The stop's own way in: a port and a thread of its own, behind nothing else.

A browser opens at most six connections to one address and port, over all of its windows, and streams keep theirs. So
the stop has a port of its own. One thread serves all its connections without waiting for any: idle and broken ones
cost nothing.
"""

import asyncio
import socket
import threading
from collections.abc import Callable

LINE = 4096  # bytes of the longest line of a request
LINES = 100  # of a request's head
IDLE = 60.0  # s until a silent connection is closed
STARTING = 5.0  # s until it has to serve
MOST = 128  # connections; one more closes the oldest
ALLOW = (
    "Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Methods: POST\r\nAccess-Control-Allow-Headers: *\r\n"
    "Access-Control-Allow-Private-Network: true\r\nCache-Control: no-store\r\n"
)
STOPPED = '{"stopped": true}'


class StopServer:
    """Answers ``POST /stop`` of anyone, without token and from any origin.

    Attributes:
        port: that it listens on.
    """

    def __init__(self, stop: Callable[[], None], host: str, port: int) -> None:
        """Bind and serve. ``stop`` is called from the server's thread. OSError if the port is taken."""
        self._stop = stop
        self._socket = socket.create_server((host, port), backlog=MOST)
        self.port = self._socket.getsockname()[1]
        self._open: dict[asyncio.StreamWriter, None] = {}
        self._loop, self._serving = asyncio.new_event_loop(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="stop", daemon=True)
        self._thread.start()
        if not self._serving.wait(STARTING):
            self.close()
            raise OSError(f"the stop's thread does not serve within {STARTING:g} s")

    def close(self) -> None:
        """Free the port. Any thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(1.0)
        self._socket.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        serve = asyncio.start_server(self._serve, sock=self._socket, limit=LINE)
        server = self._loop.run_until_complete(serve)
        self._loop.call_soon(self._serving.set)
        self._loop.run_forever()
        server.close()
        for writer in self._open:
            writer.transport.abort()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open[writer] = None
        if len(self._open) > MOST:
            next(iter(self._open)).transport.abort()
        try:
            while await asyncio.wait_for(self._answer(reader, writer), IDLE):
                pass
        except (asyncio.CancelledError, TimeoutError, OSError, ValueError, EOFError):
            pass  # it left, or speaks something else
        finally:
            self._open.pop(writer, None)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request. Returns whether the connection stays open."""
        method, _, rest = (await reader.readuntil(b"\r\n")).decode("latin-1").partition(" ")
        fault, ours = "", rest.split(" ")[0] == "/stop"
        if method == "POST" and ours:
            try:
                self._stop()  # at the first line: the rest of the request changes nothing
            except Exception as error:
                fault = f"{type(error).__name__}: {error}"
        body = False
        for _ in range(LINES):
            line = (await reader.readuntil(b"\r\n")).strip().lower()
            if not line:
                break
            body |= line.startswith((b"content-length:", b"transfer-encoding:")) and not line.endswith(b" 0")
        if method == "OPTIONS" and ours:
            status, text = "204 No Content", ""
        elif method != "POST" or not ours:
            status, text = "404 Not Found", '{"error": "POST /stop is all there is"}'
        else:
            status, text = ("500 Internal Server Error", '{"stopped": false}') if fault else ("200 OK", STOPPED)
        stays = "close" if body else "keep-alive"
        head = f"HTTP/1.1 {status}\r\n{ALLOW}Content-Type: application/json\r\nContent-Length: {len(text)}\r\n"
        writer.write(f"{head}Connection: {stays}\r\n\r\n{text}".encode("latin-1"))
        await writer.drain()  # whoever reads no answers is given none
        return not body
