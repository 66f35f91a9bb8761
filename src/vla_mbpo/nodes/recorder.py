"""Node `recorder`: everything on the path of the data, as rosbag2 episodes. It only listens."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription
from vla_mbpo_msgs.srv import Record

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.nodes import qos
from vla_mbpo.nodes.base import ManagedNode
from vla_mbpo.nodes.notes import NOTES
from vla_mbpo.nodes.parameters import Param
from vla_mbpo.nodes.polled import Unwatched, drain
from vla_mbpo.nodes.process import run
from vla_mbpo.nodes.recorded import RECORDED, info
from vla_mbpo.nodes.waiting import sleep
from vla_mbpo.record.audit import Sequences
from vla_mbpo.record.message import Message
from vla_mbpo.record.recorder import Limits, Recorder

POLL = 0.05  # s between two looks for messages; the queues of recorded.py hold 3 s and more
END_TIME = 1.0  # s for what waits and the file's index, when the node is deactivated
ANSWER_TIME = 10.0  # s for an answer of the recorder's thread; it may be writing the last seconds
_MB = 1_000_000


class RecorderNode(ManagedNode):
    """Takes serialised messages and hands them to a thread; a disk that is slow or full stays in there."""

    PARAMETERS = (
        Param("out", "", "folder of the episodes; relative to where the stack was started"),
        Param("ring_seconds", 30.0, "how much /recorder/save writes, s", 0.0, 600.0),
        Param("ring_mb", 128, "memory for that, MB", 1, 16000),
        Param("queue_mb", 64, "memory for what waits for the disk, MB; more is dropped", 1, 16000),
        Param("min_free_mb", 200, "space that stays free on the disk, MB", 0, 1000000),
        Param("lead", 1.0, "recorded before an attempt, s", 0.0, 10.0),
        Param("linger", 0.5, "recorded after an attempt, s", 0.0, 10.0),
    )

    def configure(self) -> None:
        """Make the folder: if that cannot be done, it is said before anything moves."""
        out = self.parameters["out"]
        require(bool(out), "recorder.out", out, "expected a folder")
        self._out = Path(out).expanduser().absolute()
        try:
            self._out.mkdir(parents=True, exist_ok=True)
            (self._out / ".writable").touch()
            (self._out / ".writable").unlink()
        except OSError as error:
            raise ConfigError("recorder.out", out, f"expected a folder to write to: {error.strerror}") from None

    def activate(self) -> None:
        """Listen, and take orders."""
        p = self.parameters
        limits = Limits(
            ring_seconds=p["ring_seconds"],
            ring_bytes=p["ring_mb"] * _MB,
            queue_bytes=p["queue_mb"] * _MB,
            free_bytes=p["min_free_mb"] * _MB,
            lead=p["lead"],
            linger=p["linger"],
        )
        self._recorder = Recorder(self._out, [info(row) for row in RECORDED], limits, lambda text: self._log(text))
        self._sequences, self._batch = Sequences(), list[Message]()
        self._heard: list[tuple[Subscription, Callable[[bytes, Any], None]]] = []
        for number, row in enumerate(RECORDED):
            topic, take = replace(row.topic, qos=row.qos), self._taker(number)
            self._heard.append((self.subscribe(topic, take, raw=True, group=Unwatched()), take))
        for name in ("start", "stop", "save", "label"):
            self.serve(Record, f"{qos.RECORDER}/{name}", partial(self._answer, name))
        timer = self.create_timer(POLL, self._poll, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._activated.append(lambda: self.destroy_timer(timer))

    def deactivate(self) -> None:
        """End a running episode."""
        self._poll()
        self._recorder.stop(END_TIME)

    def report(self) -> dict[str, object]:
        """Values for /diagnostics."""
        return self._recorder.report()

    def warning(self) -> str:
        """What is wrong at the moment."""
        return self._recorder.warning()

    def _log(self, text: str) -> None:
        self.get_logger().info(text)

    def _poll(self) -> None:
        """Hand over what has come since the last time, in the order in which it came."""
        if not self._recorder.alive and not self.ended.done():
            self.leave("the recorder's thread has ended: nothing is recorded")
        for subscription, take in self._heard:
            drain(subscription, take)
        batch, self._batch = self._batch, []
        for message in sorted(batch, key=attrgetter("received")):
            self._recorder.put(message)

    def _taker(self, number: int) -> Callable[[bytes, Any], None]:
        """What is done with a message of one topic. The middleware's numbers tell what did not come."""
        topic = RECORDED[number].topic
        note_of, kind, missed = NOTES.get(topic.name), topic.type, self._sequences.missed

        def take(data: bytes, about: Any) -> None:
            sequence = about["publication_sequence_number"] or 0
            lost = missed(number, about["publisher_gid"]["data"], sequence)
            note = note_of(deserialize_message(data, kind)) if note_of is not None else None
            received, published = about["received_timestamp"] or time.time_ns(), about["source_timestamp"] or 0
            self._batch.append(Message(number, received, published, sequence, data, lost, note))

        return take

    async def _answer(self, what: str, request: Record.Request, response: Record.Response) -> Record.Response:
        """Ask the thread, and wait for it without holding up the messages."""
        words = {"instruction": request.instruction, "outcome": request.outcome, "episode": request.episode}
        asked, until = self._recorder.ask(what, **words), time.monotonic() + ANSWER_TIME
        while not asked.done() and time.monotonic() < until:
            await sleep(self, 0.02)
        if not asked.done():
            response.message = f"no answer within {ANSWER_TIME:.0f} s: the disk is busy"
            return response
        fault = asked.exception()
        response.success, response.message = fault is None, _text(fault) if fault else what
        response.episode = "" if fault else asked.result()
        return response


def _text(fault: BaseException) -> str:
    return str(fault) if isinstance(fault, ConfigError | OSError) else f"{type(fault).__name__}: {fault}"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return run(lambda: RecorderNode("recorder"), argv)
