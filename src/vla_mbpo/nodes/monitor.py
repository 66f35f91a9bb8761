"""Node `monitor`: the web page. It watches; what it can order goes through the stack's own services."""

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sensor_msgs.msg import Image
from vla_mbpo_msgs.msg import FailureRisk, GateState, SceneState

from vla_mbpo.cameras.sim import SimSource
from vla_mbpo.monitor import panels
from vla_mbpo.monitor.painter import Painter
from vla_mbpo.monitor.picture import SIDE, enlarge
from vla_mbpo.monitor.risk import RiskHistory
from vla_mbpo.monitor.server import PageServer
from vla_mbpo.monitor.verdicts import Verdicts
from vla_mbpo.nodes import convert, qos
from vla_mbpo.nodes.base import ManagedNode
from vla_mbpo.nodes.orders import Orders
from vla_mbpo.nodes.parameters import Param
from vla_mbpo.nodes.process import run
from vla_mbpo.sim.instructions import tasks_of

CAMERA_SILENT = 2.5  # s; the slowest camera has one picture a second
GATE_SILENT = 1.0  # s; the gate speaks ten times a second
TRAINER_SILENT = 3.0  # s; the trainer speaks twice a second
STEP_BACK = 10  # nice value of everything but the stop


class MonitorNode(ManagedNode):
    """Collects the latest of everything and tells it at a limited rate; draws in another thread, for viewers only."""

    PARAMETERS = (
        Param("port", 8080, "TCP port of the page on 127.0.0.1", 1024, 65535),
        Param("stop_port", 0, "TCP port of the page's stop on 127.0.0.1; 0: any free one", 0, 65535),
        Param("rate", 10.0, "pictures per second", 0.5, 30.0),
        Param("panel_rate", 5.0, "news of a panel per second", 0.5, 10.0),
    )

    def configure(self) -> None:
        """Open the page: a taken port is an error before anything moves."""
        self._latest: dict[str, Any] = {}
        self._heard: dict[str, float] = {}
        self._verdicts, self._risk, self._nodes = Verdicts(), RiskHistory(), panels.Nodes()
        self._shown: Image | None = None
        self._orders = Orders(self)
        p = self.parameters
        orders = self._orders.table()
        tasks = {name: task.instruction for name, task in tasks_of(p["robot"]).items()}
        nice = STEP_BACK if self.alone else -20  # others' threads are not this node's to change
        self._page = PageServer(p["port"], self._stop, orders, stop_port=p["stop_port"], tasks=tasks, nice=nice)
        if self.alone:  # from here on: the stop's thread, which was started before, stays where it is
            os.setpriority(os.PRIO_PROCESS, 0, max(STEP_BACK, os.getpriority(os.PRIO_PROCESS, 0)))
        print(f"page: {self._page.link}", flush=True)  # not logged: whoever reads /rosout has no need of the token

    def activate(self) -> None:
        """Listen and draw."""
        keep = (qos.TASK_STATUS, qos.HEAD_IMAGE, qos.WRIST_IMAGE, qos.INSTRUCTION, qos.ATTEMPT, qos.RELEASE)
        for topic in (*keep, qos.COMMITMENT, qos.DREAM, qos.TRAINING):
            self._watch(topic, partial(self._keep, topic.name))
        self._watch(qos.GATE_STATE, self._on_gate)
        self._watch(qos.VERDICT, self._verdicts.imagined)
        self._watch(qos.GATE_DECISION, self._verdicts.decided)
        self._watch(qos.RISK, self._on_risk)
        self._watch(qos.DIAGNOSTICS, lambda message: self._nodes.add(message, time.monotonic()))
        self._orders.listen()
        self._source = SimSource(self.spec(), "head", SIDE)
        self._watch(qos.SCENE_STATE, self._on_scene)
        page, log = self._page, lambda text: self.get_logger().error(text, throttle_duration_sec=5.0)
        rate, wanted = self.parameters["rate"], lambda: bool(page.viewers)
        self._painter = Painter(self._source, rate, wanted, self._cameras, page.show, log)
        self.every(1 / self.parameters["panel_rate"], self._guarded(self._tell))

    def deactivate(self) -> None:
        """Stop drawing."""
        self._painter.stop(1.0)

    def cleanup(self) -> None:
        """Close the page."""
        self._page.close()

    def report(self) -> dict[str, object]:
        """Values for /diagnostics; without the token."""
        return {"address": self._page.address, "viewers": self._page.viewers.number}

    def _stop(self) -> None:
        self._orders.stop()
        self.get_logger().warning("e-stop from the page")

    def _watch(self, topic: qos.Topic, callback: Callable[[Any], None]) -> None:
        self.subscribe(topic, self._guarded(callback))

    def _guarded(self, callback: Callable[..., None]) -> Callable[..., None]:
        """Whatever is in a message: it must not end this process, and the stop with it."""

        def call(*message: Any) -> None:
            try:
                callback(*message)
            except Exception as error:
                text = f"not shown on the page: {type(error).__name__}: {error}"
                self.get_logger().error(text, throttle_duration_sec=5.0)

        return call

    def _keep(self, name: str, message: Any) -> None:
        self._latest[name], self._heard[name] = message, time.monotonic()

    def _age(self, name: str) -> float:
        """Seconds since a message of the topic; infinite if there was none."""
        return time.monotonic() - self._heard.get(name, float("-inf"))

    def _on_gate(self, message: GateState) -> None:
        before = self._latest.get(qos.GATE_STATE.name)
        self._keep(qos.GATE_STATE.name, message)
        if before is None or before.epoch != message.epoch:
            self._page.tell("gate", panels.gate(message))  # at once: a person waits for it

    def _on_risk(self, message: FailureRisk) -> None:
        self._keep(qos.RISK.name, message)
        self._risk.add(message)

    def _on_scene(self, message: SceneState) -> None:
        self._keep(qos.SCENE_STATE.name, message)
        if self._page.viewers:
            stamp, qpos = convert.to_ns(message.header.stamp), convert.from_doubles(message.qpos)
            self._source.feed(message.task, message.seed, stamp, qpos)

    def _cameras(self) -> tuple[Any, Any]:
        """The painter's thread. What is old is not shown as if it were now."""
        names = (qos.HEAD_IMAGE.name, qos.WRIST_IMAGE.name)
        head, wrist = (self._latest[name] if self._age(name) < CAMERA_SILENT else None for name in names)
        return (
            None if head is None else convert.from_image(head),
            None if wrist is None else convert.from_image(wrist),
        )

    def _tell(self) -> None:
        """Everything that the page shows; what has not changed is not sent to anybody."""
        page, latest = self._page, self._latest.get
        silent = self._age(qos.GATE_STATE.name) > GATE_SILENT
        page.tell("gate", panels.gate(None if silent else latest(qos.GATE_STATE.name)))
        spoken, status = latest(qos.INSTRUCTION.name), latest(qos.TASK_STATUS.name)
        words = spoken.data if spoken is not None else ""
        page.tell("task", panels.task(words, latest(qos.ATTEMPT.name), status, self._orders.said))
        page.tell("verdicts", self._verdicts.panel())
        page.tell("risk", self._risk.panel(self._age(qos.RISK.name)))
        now = time.monotonic()
        page.tell("rates", self._nodes.panel(now, latest(qos.COMMITMENT.name)))
        page.tell("recording", panels.recording(*self._nodes.values("recorder", now)))
        policy, _, _ = self._nodes.values("policy", now)
        page.tell("release", panels.release(latest(qos.RELEASE.name), (policy or {}).get("version", "")))
        silent = self._age(qos.TRAINING.name) > TRAINER_SILENT
        page.tell("training", panels.training(None if silent else latest(qos.TRAINING.name)))
        page.tell("scene", panels.scene(latest(qos.SCENE_STATE.name)))
        self._tell_dream()

    def _tell_dream(self) -> None:
        """The words for the newest dream, and its picture while somebody looks."""
        dream: Image | None = self._latest.get(qos.DREAM.name)
        frame = "" if dream is None else dream.header.frame_id
        if dream is not None and dream is not self._shown and self._page.viewers:
            self._shown = dream
            self._page.dream(enlarge(convert.from_image(dream)))
        self._page.tell("dream", panels.dream(frame, self._age(qos.DREAM.name)))


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return run(lambda: MonitorNode("monitor"), argv)
