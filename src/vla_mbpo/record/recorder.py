"""The recorder: a thread of its own between a bounded queue and the disk."""

import shutil
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.record.episode import ATTEMPT, LABELS, MANUAL, RECORDING, SAVED, Episode, check_outcome
from vla_mbpo.record.intake import Intake
from vla_mbpo.record.message import Attempt, Message, TopicInfo
from vla_mbpo.record.metadata import write_json
from vla_mbpo.record.repair import read_labels
from vla_mbpo.record.ring import Ring

PERIOD = 0.1  # s between two looks at the queue
LATE = 1_000_000_000  # ns; an attempt that has been running for longer was joined too late


@dataclass(frozen=True)
class Limits:
    """What the recorder may use.

    Attributes:
        ring_seconds, ring_bytes: of the last messages, for ``save``.
        queue_bytes: of messages that wait for the disk.
        free_bytes: to be left on the disk.
        flush_period: what came until then is safe from the death of this process [s].
        lead, linger: recorded before the begin and after the end of an attempt [s].
    """

    ring_seconds: float = 30.0
    ring_bytes: int = 128_000_000
    queue_bytes: int = 64_000_000
    free_bytes: int = 200_000_000
    flush_period: float = 0.5
    lead: float = 1.0
    linger: float = 0.5


@dataclass
class _Order:
    what: str
    instruction: str = ""
    outcome: str = ""
    episode: str = ""
    answer: Future = field(default_factory=Future)


class Recorder:
    """Records attempts by itself, and whatever it is asked to. ``put`` and ``ask`` from any thread; neither waits."""

    def __init__(self, root: Path, topics: Sequence[TopicInfo], limits: Limits, log: Callable[[str], None]) -> None:
        """``root``: made if need be. ``log`` is called from the thread. OSError: nothing can be written there."""
        root.mkdir(parents=True, exist_ok=True)
        self._root, self._topics, self._limits, self._log = root, topics, limits, log
        self._intake = Intake(limits.queue_bytes)
        self._ring = Ring(max(limits.ring_seconds, limits.lead), limits.ring_bytes)
        self._latest: dict[int, Message] = {}
        self._drops: deque[tuple[int, Counter[int]]] = deque(maxlen=1000)
        self._episode: Episode | None = None
        self._last, self._refused = "", ""
        self.episodes, self.bad = 0, 0  # that have ended
        self._flushed = 0.0
        self._running = True
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def put(self, message: Message) -> None:
        """Take a message; one that does not fit is counted as dropped."""
        self._intake.put(message)

    def ask(self, what: str, instruction: str = "", outcome: str = "", episode: str = "") -> Future:
        """``start``, ``stop``, ``save`` or ``label``; the result is the episode's name, or most often a ConfigError."""
        order = _Order(what, instruction, outcome, episode)
        self._intake.order(order)
        return order.answer

    def stop(self, timeout: float) -> None:
        """Record what waits, end the episode, and end the thread; wait up to ``timeout`` [s] for that."""
        self._running = False
        self._intake.order(_Order("end"))
        self._thread.join(timeout)

    @property
    def alive(self) -> bool:
        """Whether the thread is there; without it nothing is recorded and nothing answered. Any thread."""
        return self._thread.is_alive()

    def report(self) -> dict[str, object]:
        """Values for diagnostics. Any thread."""
        episode = self._episode
        return {
            "episode": episode.folder.name if episode else "",
            "episodes": self.episodes,
            "bad": self.bad,
            "last": self._last,
            "queue_most_mb": round(self._intake.most / 1e6, 2),
            "ring_mb": round(self._ring.size / 1e6, 1),
        }

    def warning(self) -> str:
        """What is wrong, or an empty string. Any thread."""
        episode = self._episode
        return (episode.fault if episode else "") or self._refused

    def _run(self) -> None:
        while self._running:
            self._turn(PERIOD)
        self._turn(0.0)
        self._guard(lambda: self._finish("the recorder was stopped"))

    def _turn(self, timeout: float) -> None:
        items, dropped = self._intake.take(timeout)
        if dropped:
            self._drops.append((time.time_ns(), dropped))
            if self._episode is not None:
                self._episode.drop(dropped)
        for item in items:
            take: Callable[[Any], None] = self._message if isinstance(item, Message) else self._order
            self._guard(partial(take, item))
        self._guard(self._tend)

    def _guard(self, action: Callable[[], None]) -> None:
        """An error costs an episode, and not the recorder."""
        try:
            action()
        except Exception as error:
            self._refused = f"{type(error).__name__}: {error}"
            self._log(self._refused)

    def _tend(self) -> None:
        episode = self._episode
        if episode is None:
            return
        if episode.closing is not None and time.time_ns() >= episode.closing:
            self._finish("")
            return
        if time.monotonic() - self._flushed < self._limits.flush_period:
            return
        sync = int(time.monotonic()) != int(self._flushed)
        self._flushed = time.monotonic()
        episode.flush(sync)
        fault = self._too_full()
        if fault and not episode.fault:
            episode.give_up(fault)
        if episode.fault and episode.fault != self._refused:
            self._refused = episode.fault
            self._log(f"{episode.folder.name}: {episode.fault}")

    def _message(self, message: Message) -> None:
        self._ring.add(message)
        if self._topics[message.topic].latched:
            self._latest[message.topic] = message
        note = message.note
        if isinstance(note, Attempt) and note.running and (self._episode is None or self._episode.kind == ATTEMPT):
            self._finish("the next attempt has begun")
            self._begin(ATTEMPT, note.instruction, message.received)
            if self._episode is not None and message.received - note.stamp > LATE:
                late = (message.received - note.stamp) / 1e9
                self._episode.blame(f"the recorder joined {late:.1f} s after the attempt had begun")
            return
        if self._episode is not None:
            self._episode.add(message)
            if isinstance(note, Attempt) and not note.running and self._episode.kind == ATTEMPT:
                self._episode.closing = message.received + int(1e9 * self._limits.linger)

    def _begin(self, kind: str, instruction: str, received: int) -> None:
        """Open an episode with what came shortly before; if that cannot be, say so and go on without."""
        try:
            episode = self._open(kind, instruction, received, self._ring.since(received - int(1e9 * self._limits.lead)))
        except OSError as error:
            self._refused = f"no recording: {error.strerror or error}"
            self._log(self._refused)
            return
        self._episode, self._refused, self._flushed = episode, "", time.monotonic()

    def _open(self, kind: str, instruction: str, received: int, before: list[Message]) -> Episode:
        """An episode that holds ``before`` and the state that was latched when it began. OSError."""
        fault = self._too_full()
        if fault:
            raise OSError(fault)
        begin = before[0].received if before else received
        episode = Episode(self._root, kind, instruction, self._topics, begin)
        there = {message.topic for message in before}
        missing = [message for topic, message in self._latest.items() if topic not in there]
        missing = [m for m in missing if not (isinstance(m.note, Attempt) and not m.note.running)]
        episode.state_before(missing, begin)
        for message in before:
            episode.add(message)
        for when, dropped in self._drops:
            if when >= begin:
                episode.drop(dropped)
        return episode

    def _finish(self, reason: str) -> None:
        """End the running episode; with a reason an attempt that has not ended by itself is an aborted one."""
        episode, self._episode = self._episode, None
        if episode is None:
            return
        if reason and episode.closing is None and not episode.labels.outcome:
            episode.labels.outcome, episode.labels.message = "aborted", reason
        self._ended(episode)

    def _ended(self, episode: Episode) -> None:
        report = episode.close()
        self._last = f"{episode.folder.name}: {report['state']}"
        self.episodes += 1
        if report["state"] != "complete":
            self.bad += 1
        outcome = report["outcome"] or "no outcome"
        reasons = f": {'; '.join(report['reasons'])}" if report["reasons"] else ""
        total = sum(topic["recorded"] for topic in report["topics"].values())
        self._log(f"{self._last}, {outcome}, {total} messages, {report['bytes'] / 1e6:.1f} MB{reasons}")

    def _too_full(self) -> str:
        """Why nothing more may be written, or an empty string."""
        try:
            free = shutil.disk_usage(self._root).free
        except OSError as error:  # the disk was unplugged, or its server is away
            return f"{self._root} is out of reach: {error.strerror or error}"
        if free >= self._limits.free_bytes:
            return ""
        return f"disk full: {free / 1e6:.0f} MB left, {self._limits.free_bytes / 1e6:.0f} MB are to stay free"

    def _order(self, order: _Order) -> None:
        try:
            actions = {"start": self._start, "stop": self._stop, "save": self._save, "label": self._label}
            result = actions[order.what](order) if order.what in actions else ""
        except Exception as error:
            order.answer.set_exception(error)
            if not isinstance(error, ConfigError | OSError):
                raise  # for the log
        else:
            order.answer.set_result(result)

    def _start(self, order: _Order) -> str:
        require(self._episode is None, "episode", self._episode and self._episode.folder.name, "stop it first")
        now = time.time_ns()
        self._episode = self._open(MANUAL, order.instruction, now, [])
        self._refused, self._flushed = "", time.monotonic()
        return self._episode.folder.name

    def _stop(self, order: _Order) -> str:
        check_outcome(order.outcome)
        episode, self._episode = self._episode, None
        if episode is None:
            raise ConfigError("episode", "", "none is being recorded")
        if order.outcome or (episode.kind == ATTEMPT and episode.closing is None):
            episode.labels.outcome = order.outcome or "aborted"
            episode.labels.message = "stopped by service"
        self._ended(episode)
        return episode.folder.name

    def _save(self, order: _Order) -> str:
        """The last seconds as an episode of its own, also while another one is being recorded."""
        now = time.time_ns()
        kept = self._ring.since(now - int(1e9 * self._limits.ring_seconds))
        episode = self._open(SAVED, order.instruction, now, kept)
        if kept:
            self._ended(episode)
        else:
            episode.close()
        return episode.folder.name

    def _label(self, order: _Order) -> str:
        """Another outcome for an episode that has ended."""
        check_outcome(order.outcome)
        name = order.episode or self._last.split(":")[0]
        path = self._root / name / LABELS
        known = bool(name) and Path(name).name == name and path.is_file()
        require(known, "episode", name, f"expected the name of a folder in {self._root}")
        content = read_labels(path.parent)
        require(content["state"] != RECORDING, "episode", name, "it is being recorded: stop it with its outcome")
        write_json(path, {**content, "outcome": order.outcome, "message": "labelled by service"})
        return name
