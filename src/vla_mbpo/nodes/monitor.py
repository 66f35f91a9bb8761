"""Node `monitor`: the web page. It only watches; all it can do is the e-stop, and orders to the recorder."""

import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from sensor_msgs.msg import Image
from std_msgs.msg import Bool
from vla_mbpo_msgs.msg import Commitment, GateDecision, GateState, SceneState, TaskStatus
from vla_mbpo_msgs.srv import Record

from vla_mbpo.cameras.sim import SimSource
from vla_mbpo.gate.machine import Mode
from vla_mbpo.monitor.picture import SIDE, compose
from vla_mbpo.monitor.server import PageServer
from vla_mbpo.nodes import convert, qos
from vla_mbpo.nodes.base import ManagedNode
from vla_mbpo.nodes.parameters import Param
from vla_mbpo.nodes.process import run

RECORD_TIME = 5.0  # s for the recorder's answer


class MonitorNode(ManagedNode):
    """Collects the latest of everything and draws at a limited rate, in its own thread and only for viewers."""

    PARAMETERS = (
        Param("port", 8080, "TCP port of the page on 127.0.0.1", 1024, 65535),
        Param("rate", 10.0, "pictures per second", 0.5, 30.0),
    )

    def configure(self) -> None:
        """Open the page: a taken port is an error before anything moves."""
        self._estop = self.publisher(qos.ESTOP)
        self._latest: dict[str, Any] = {}
        self._decisions = {True: 0, False: 0}
        self._reason = self._recording = ""
        self._records: dict[str, Any] = {}
        for what in ("start", "stop", "save"):
            client: Any = self.create_client(Record, f"{qos.RECORDER}/{what}")
            self.on_cleanup_do(partial(self.destroy_client, client))
            self._records[what] = client
        self._page = PageServer(self.parameters["port"], self._stop, self._record)
        self.get_logger().info(f"page: {self._page.address}")

    def activate(self) -> None:
        """Listen and draw."""
        keep = (qos.GATE_STATE, qos.TASK_STATUS, qos.COMMITMENT, qos.HEAD_IMAGE, qos.WRIST_IMAGE, qos.INSTRUCTION)
        for topic in keep:
            self.subscribe(topic, lambda message, name=topic.name: self._latest.__setitem__(name, message))
        self.subscribe(qos.GATE_DECISION, self._on_decision)
        self.subscribe(qos.DIAGNOSTICS, self._on_diagnostics)
        self._source = SimSource(self.spec(), "head", SIDE)
        self.subscribe(qos.SCENE_STATE, self._on_scene)
        self.every(0.25, lambda: self._page.tell(self._state()))
        self._running = threading.Event()
        self._running.set()
        self._painter = threading.Thread(target=self._paint, name="painter", daemon=True)
        self._painter.start()

    def deactivate(self) -> None:
        """Stop drawing."""
        self._running.clear()
        self._painter.join(1.0)

    def cleanup(self) -> None:
        """Close the page."""
        self._page.close()

    def report(self) -> dict[str, object]:
        """Values for /diagnostics."""
        return {"address": self._page.address, "viewers": self._page.viewers}

    def _stop(self) -> None:
        self._estop.publish(Bool(data=True))
        self.get_logger().warning("e-stop from the page")

    def _record(self, what: str, outcome: str) -> str:
        """Pass on an order to the recorder, from a thread of the page. What came of it, in words."""
        client = self._records[what]
        if not client.service_is_ready():
            return "there is no recorder: `vla-mbpo up --record FOLDER`"
        asked, until = client.call_async(Record.Request(outcome=outcome)), time.monotonic() + RECORD_TIME
        while not asked.done() and time.monotonic() < until:
            time.sleep(0.02)
        answer = asked.result() if asked.done() else None
        return "the recorder does not answer" if answer is None else f"{answer.message} {answer.episode}".strip()

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == "recorder":
                values = {value.key: value.value for value in status.values}
                self._recording = values.get("episode") or f"not now; last: {values.get('last') or 'none'}"
                if status.level != DiagnosticStatus.OK:
                    self._recording += f" ({status.message})"

    def _on_decision(self, message: GateDecision) -> None:
        self._decisions[message.accepted] += 1
        if not message.accepted and message.reasons:
            self._reason = message.reasons[0].text

    def _on_scene(self, message: SceneState) -> None:
        if self._page.viewers:
            stamp, qpos = convert.to_ns(message.header.stamp), convert.from_doubles(message.qpos)
            self._source.feed(message.task, message.seed, stamp, qpos)

    def _paint(self) -> None:
        """Own thread: it holds the GL context. Without pictures the page still tells and stops."""
        try:
            self._paint_on()
        except Exception as error:
            self.get_logger().error(f"no pictures on the page: {type(error).__name__}: {error}")
        finally:
            self._source.close()

    def _paint_on(self) -> None:
        self._source.open()
        while self._running.is_set():
            begin = time.monotonic()
            if self._page.viewers:
                frame = self._source.read(0.2)
                images = [self._image(topic.name) for topic in (qos.HEAD_IMAGE, qos.WRIST_IMAGE)]
                self._page.show(compose(None if frame is None else frame.image, *images))
            time.sleep(max(0.01, 1 / self.parameters["rate"] - (time.monotonic() - begin)))

    def _image(self, name: str) -> Any:
        message: Image | None = self._latest.get(name)
        return None if message is None else convert.from_image(message)

    def _state(self) -> dict[str, Any]:
        """What the page lists, in words."""
        gate: GateState | None = self._latest.get(qos.GATE_STATE.name)
        task: TaskStatus | None = self._latest.get(qos.TASK_STATUS.name)
        rows: Commitment | None = self._latest.get(qos.COMMITMENT.name)
        instruction = self._latest.get(qos.INSTRUCTION.name)
        state: dict[str, Any] = {"instruction": (instruction.data if instruction else "") or "none"}
        if task is not None:
            outcome = "success" if task.success else "failed" if task.failed else f"{task.progress:.0%}"
            state["task"] = f"{outcome}, {task.elapsed:.1f} s, cost events: {', '.join(task.cost_events) or 'none'}"
        if gate is not None:
            state["gate"] = f"{Mode(gate.mode).name}: {gate.reason}"
            state["not vetting"] = ", ".join(gate.vetting_off) or "all inputs vet"
        state["chunks"] = f"{self._decisions[True]} accepted, {self._decisions[False]} candidates rejected"
        state["last rejection"] = self._reason or "none"
        if rows is not None:
            state["rows"] = f"{rows.rows_executed} executed, {rows.rows_dropped_late} dropped late"
        if self._recording:
            state["recording"] = self._recording
        return state


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return run(lambda: MonitorNode("monitor"), argv)


if __name__ == "__main__":
    sys.exit(main())
