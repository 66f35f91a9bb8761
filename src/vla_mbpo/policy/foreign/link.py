"""The connection to an openpi server: kept up by a thread of its own, one question at a time, no stale answers."""

import contextlib
import math
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.protocol import State
from websockets.sync.client import ClientConnection, connect

from vla_mbpo.policy.foreign import wire
from vla_mbpo.policy.foreign.errors import NoChunk

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 8.0  # s before the next try to connect; doubled each time
OPENING = 5.0  # s for the connection and the server's first message
PATIENCE = 5.0  # s until a server that has not answered, or takes nothing, is given up and connected to anew
POLL = 0.1  # s between two looks at whether the connection is still there
TOO_BIG = 1009  # close code of a message beyond the limit


@dataclass
class _Line:
    """An open connection and what is owed on it: the observation's stamp [ns] and when it was sent [s, steady]."""

    connection: ClientConnection
    owed: deque[tuple[int, float]] = field(default_factory=deque)

    @property
    def oldest(self) -> float:
        """When the oldest question that is not answered was sent; infinity: none. Any thread."""
        try:
            return self.owed[0][1]
        except IndexError:
            return math.inf


class Link:
    """One server. ``ask`` by one thread; the rest by any.

    The protocol numbers nothing: answers come in the order of the questions. So each question is kept with the stamp
    of what was observed until its answer is there, and an answer to another observation is dropped and counted.

    Attributes:
        trouble: what is wrong with the connection, as ``reason: text``, or an empty string.
        metadata: the server's first message.
        patience: until a server that owes an answer is connected to anew [s].
        stale: answers that were dropped because they came to an older observation.
        connections: how often it was connected.
    """

    def __init__(
        self, url: str, limit: int, headers: dict[str, str], check: Callable[[dict[str, Any]], None], patience: float
    ) -> None:
        """Begin to connect.

        Args:
            url: ws:// or wss://.
            limit: longest message that is taken [bytes].
            headers: of the request to connect.
            check: raises for metadata of another server than the one that is expected.
            patience: until a server that owes an answer is connected to anew [s].
        """
        self._url, self._limit, self._headers, self._check, self.patience = url, limit, headers, check, patience
        self.trouble = f"unreachable: {url} is not connected yet"
        self.metadata: dict[str, Any] = {}
        self.stale = self.connections = 0
        self._line: _Line | None = None
        self._pause = FIRST_PAUSE
        self._up, self._ended = threading.Event(), threading.Event()
        threading.Thread(target=self._keep, name="policy server", daemon=True).start()

    def ask(self, stamp: int, question: bytes, within: float) -> bytes:
        """The answer to the observation at ``stamp`` [ns], at most ``within`` seconds from now.

        Raises:
            NoChunk: unreachable, late, server_error, malformed or oversized. An answer that is still owed then is
                dropped when it comes.
        """
        until = time.monotonic() + within
        line = self._line if self._up.wait(within) else None
        if line is None:
            raise NoChunk(*_split(self.trouble))
        try:
            while line.owed:  # answers to older observations
                self._receive(line, until)
                self.stale += 1
            self._nothing_unasked(line)
            line.owed.append((stamp, time.monotonic()))
            line.connection.send(question)  # a server that takes nothing is cut off by the link's thread
            return self._receive(line, until)
        except TimeoutError:
            silent = time.monotonic() - line.oldest
            text = f"{self._url} has not answered within {within:g} s (it has owed an answer for {silent:.1f} s)"
            raise NoChunk("late", text) from None
        except (ConnectionClosed, OSError) as error:
            raise self._lost(line, error) from error

    def close(self) -> None:
        """End the thread and the connection."""
        self._ended.set()

    def _receive(self, line: _Line, until: float) -> bytes:
        """The next answer. TimeoutError, ConnectionClosed, or NoChunk for an error that the server reports."""
        answer = line.connection.recv(timeout=max(until - time.monotonic(), 0.0))
        line.owed.popleft()
        if isinstance(answer, str):  # a traceback, after which an openpi server closes the connection
            last = (answer.strip().splitlines() or ["no text"])[-1]
            raise NoChunk("server_error", f"{self._url}: {last[:200]}")
        self._pause = FIRST_PAUSE
        return answer

    def _nothing_unasked(self, line: _Line) -> None:
        """What came unasked would pass for the answer to the next question: that connection is of no use."""
        with contextlib.suppress(TimeoutError):
            line.connection.recv(timeout=0.0)
            self.trouble = f"malformed: {self._url} sent an answer that nobody asked for"
            self._drop(line)
            raise NoChunk(*_split(self.trouble))

    def _lost(self, line: _Line, error: Exception) -> NoChunk:
        """Why, for who asked."""
        sent = getattr(error, "sent", None)
        if sent is not None and sent.code == TOO_BIG:
            found = NoChunk("oversized", f"{self._url} sent more than {self._limit} bytes")
        elif self.trouble.startswith("late"):  # cut off by the link's thread
            found = NoChunk(*_split(self.trouble))
        else:
            found = NoChunk("unreachable", f"{self._url}: the connection was lost ({_text(error)})")
        self.trouble = f"{found.reason}: {found.text}"
        self._drop(line)
        return found

    def _drop(self, line: _Line) -> None:
        """Have it connected anew; whoever is sending or waiting gets ConnectionClosed."""
        if self._line is line:
            self._up.clear()
        with contextlib.suppress(OSError):
            line.connection.socket.shutdown(socket.SHUT_RDWR)

    def _keep(self) -> None:
        """Connect, watch, and connect again after a pause. In the link's own thread."""
        while not self._ended.is_set():
            try:
                with connect(
                    self._url, sock=self._socket(), additional_headers=self._headers, max_size=self._limit,
                    compression=None, proxy=None, open_timeout=OPENING, close_timeout=0.5, ping_interval=None,
                ) as connection:  # fmt: skip
                    self._watch(_Line(connection))
            except NoChunk as error:
                self.trouble = f"{error.reason}: {error.text}"
            except Exception as error:
                self.trouble = f"unreachable: {self._url}: {_text(error)}"
            self._ended.wait(self._pause)
            self._pause = min(2.0 * self._pause, LONGEST_PAUSE)

    def _socket(self) -> socket.socket:
        """To the host of the URL. With a socket of ours no redirect is followed: pictures go nowhere else."""
        where = urlsplit(self._url)
        port = where.port or (443 if where.scheme == "wss" else 80)
        return socket.create_connection((where.hostname, port), OPENING)

    def _watch(self, line: _Line) -> None:
        """Take the server's first message, and stay until the connection is of no use any more."""
        first = line.connection.recv(timeout=OPENING)
        if not isinstance(first, bytes):
            raise NoChunk("malformed", f"{self._url}: the first message is text: {first[:100]!r}")
        metadata = wire.unpack(first, self._limit)
        self._check(metadata)
        self.metadata, self._line, self.trouble = metadata, line, ""
        self.connections += 1
        self._up.set()
        while self._up.is_set() and line.connection.state is State.OPEN and not self._ended.wait(POLL):
            if time.monotonic() - line.oldest > self.patience:
                self.trouble = f"late: {self._url} has not answered for {self.patience:g} s and is connected to anew"
                break
        self.trouble = self.trouble or f"unreachable: {self._url} closed the connection"
        self._drop(line)
        self._line = None


def _text(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _split(trouble: str) -> tuple[str, str]:
    reason, _, text = (trouble or "unreachable: the connection was lost").partition(": ")
    return reason, text
