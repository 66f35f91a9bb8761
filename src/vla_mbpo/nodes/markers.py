"""Node `markers`: what RViz shows beside robot, transforms and dreams. It only listens, and polls what it hears."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from rclpy.lifecycle import TransitionCallbackReturn
from vla_mbpo_msgs.msg import ActionChunkSet

from vla_mbpo.core.errors import require
from vla_mbpo.monitor import risk as risks
from vla_mbpo.monitor.overlay import overlay
from vla_mbpo.monitor.ribbons import Ribbon, Ways, ribbons
from vla_mbpo.monitor.verdicts import MOST, Verdicts
from vla_mbpo.nodes import convert, drawing, qos
from vla_mbpo.nodes.base import ManagedNode
from vla_mbpo.nodes.parameters import Param
from vla_mbpo.nodes.polled import Unwatched, drain
from vla_mbpo.nodes.process import run
from vla_mbpo.nodes.transforms import RATE, Transforms

SILENT = 1.0  # s; the gate speaks ten times a second
OLD = 2.0  # s; a chunk set is for 0.8 s
LIFETIME = 3.0  # s, and two periods at least: what is shown goes by itself when this node does
# As a best-effort reader this node is nobody that a writer waits for.
HEARD = (qos.ACTION_CHUNKS, qos.VERDICT, qos.GATE_DECISION, qos.GATE_STATE, qos.RISK)
LATEST = (qos.INSTRUCTION, qos.HEAD_IMAGE, qos.WRIST_IMAGE)


class MarkersNode(ManagedNode):
    """Everything happens in one timer: take what has come, draw it if somebody looks."""

    PARAMETERS = (
        Param("rate", 4.0, "messages per second on each topic, at most", 0.5, 10.0),
        Param("scene", True, "candidates, gate state and risk on markers/scene; false: no such topic"),
        Param("volumes", True, "the gate's boxes and shapes on markers/volumes; false: no such topic"),
        Param("cameras", True, "both cameras with words on markers/cameras; false: no such topic"),
        Param("transforms", False, "/tf, /tf_static and /robot_description, where no robot_state_publisher runs"),
    )

    def configure(self) -> None:
        """Load the arm's kinematics and make the publishers."""
        self._spec, wanted = self.spec(), self.parameters
        self._ways = Ways(self._spec)
        lifetime = max(LIFETIME, 2 / wanted["rate"])
        self._sheet = drawing.Sheet(self._spec.base_frame, lifetime)
        self._scene = self.publisher(qos.MARKERS) if wanted["scene"] else None
        self._volumes = self.publisher(qos.VOLUMES) if wanted["volumes"] else None
        self._cameras = self.publisher(qos.OVERLAY) if wanted["cameras"] else None
        self._transforms = Transforms(self, self._spec) if wanted["transforms"] else None
        self._sent = 0

    def activate(self) -> None:
        """Listen, and say once what does not change."""
        self._verdicts, self._latest = Verdicts(), dict[str, Any]()
        self._heard = dict[str, float]()
        self._sets: deque[tuple[float, ActionChunkSet]] = deque(maxlen=3)
        self._polled = []
        for topic in (*(replace(topic, qos=qos.ANYBODY) for topic in HEARD), *LATEST):
            take = partial(self._take, topic.name)
            self._polled.append((self.subscribe(topic, take, group=Unwatched()), take))
        if self._volumes is not None:
            lasting = drawing.Sheet(self._spec.base_frame, 0.0)
            stamp = convert.to_time(self.now())
            self._volumes.publish(lasting.message(drawing.volumes(self._spec, self._ways.kinematics), stamp))
        self.every(1 / self.parameters["rate"], self._tick)
        if self._transforms is not None:
            self._transforms.begin()
            self.every(1 / RATE, self._transforms.tick)

    def report(self) -> dict[str, object]:
        """Values for /diagnostics."""
        return {"messages": self._sent}

    def _take(self, name: str, message: Any, about: Any = None) -> None:
        self._latest[name], self._heard[name] = message, time.monotonic()
        if name == qos.ACTION_CHUNKS.name:
            self._sets.append((self._heard[name], message))
        elif name == qos.VERDICT.name:
            self._verdicts.imagined(message)
        elif name == qos.GATE_DECISION.name:
            self._verdicts.decided(message)

    def _tick(self) -> None:
        """Whatever is in a message: it must not end this process."""
        try:
            before = self._heard.get(qos.HEAD_IMAGE.name), self._heard.get(qos.WRIST_IMAGE.name)
            for subscription, take in self._polled:
                drain(subscription, take)
            if self._scene is not None and self._scene.get_subscription_count():
                self._scene.publish(self._sheet.message(self._markers(), convert.to_time(self.now())))
                self._sent += 1
            seen = self._heard.get(qos.HEAD_IMAGE.name), self._heard.get(qos.WRIST_IMAGE.name)
            if self._cameras is not None and seen != before and self._cameras.get_subscription_count():
                self._cameras.publish(self._picture())
        except Exception as error:
            self.get_logger().error(f"not shown: {type(error).__name__}: {error}", throttle_duration_sec=5.0)

    def _new(self, topic: qos.Topic, seconds: float) -> Any:
        """The topic's latest message, None if it is older."""
        fresh = time.monotonic() - self._heard.get(topic.name, float("-inf")) <= seconds
        return self._latest[topic.name] if fresh else None

    def _markers(self) -> list:
        gate, risk = self._new(qos.GATE_STATE, SILENT), self._new(qos.RISK, risks.OLD)
        return [
            *drawing.ribbons(self._candidates()),
            *drawing.state_words(gate, self._instruction()),
            *([] if risk is None else drawing.risk(risk)),
        ]

    def _instruction(self) -> str:
        said = self._latest.get(qos.INSTRUCTION.name)
        return "" if said is None else said.data

    def _newest_set(self) -> ActionChunkSet | None:
        """The newest one on which the gate has decided; before it has, what it is to decide on."""
        now = time.monotonic()
        fresh = [message for heard, message in self._sets if now - heard <= OLD]
        decided = [message for message in fresh if self._verdicts.decided_on(message.chunk_set_id)]
        return next(iter((decided or fresh)[::-1]), None)

    def _candidates(self) -> list[Ribbon]:
        message, chunks = self._newest_set(), []
        for one in () if message is None else message.chunks[:MOST]:
            try:
                chunks.append(convert.from_chunk(one))
            except ValueError:  # the gate says what is wrong with it
                continue
        return ribbons(chunks, self._ways, self._verdicts)

    def _picture(self) -> Any:
        """Both cameras, and in words what is asked for, what the gate does and what came of the newest chunk set."""
        images = [self._latest.get(topic.name) for topic in (qos.HEAD_IMAGE, qos.WRIST_IMAGE)]
        gate, risk = self._new(qos.GATE_STATE, SILENT), self._new(qos.RISK, risks.OLD)
        candidates = self._candidates()
        words = [one.text for one in drawing.state_words(gate, self._instruction())]
        words += [_verdict(candidates), "no risk" if risk is None else drawing.risk(risk)[0].text]
        newest = max((image for image in images if image is not None), key=lambda i: convert.to_ns(i.header.stamp))
        head, wrist = (None if image is None else convert.from_image(image) for image in images)
        picture = overlay(head, wrist, words)
        return convert.to_image(picture, convert.to_ns(newest.header.stamp), newest.header.frame_id)


def _verdict(candidates: Sequence[Ribbon]) -> str:
    """What became of the newest chunk set in one line."""
    chosen = [f"candidate {one.candidate} passed ({one.verdict.name})" for one in candidates if one.chosen]
    refused = [one for one in candidates if one.refused]
    why = f"{len(refused)} refused: {refused[0].refused}" if refused else ""
    return "; ".join(filter(None, (*chosen, why))) or "no candidates"


def _active() -> MarkersNode:
    """The lifecycle manager leaves this node alone, so that nothing waits for it: it activates itself."""
    node = MarkersNode("markers")
    for transition in (node.trigger_configure, node.trigger_activate):
        done = transition() == TransitionCallbackReturn.SUCCESS
        require(done, "markers", node._fault, "expected a node that can be activated")
    return node


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return run(_active, argv)
