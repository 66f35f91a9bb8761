"""The part of the task node that brings another release into use, in all nodes or in none, between attempts."""

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from rclpy.exceptions import InvalidHandle
from rclpy.task import Future
from vla_mbpo_msgs.msg import ReleaseState
from vla_mbpo_msgs.srv import SwapRelease

from vla_mbpo.nodes import convert, qos
from vla_mbpo.nodes.base import ManagedNode
from vla_mbpo.nodes.models import Models, error_text, service_of
from vla_mbpo.nodes.waiting import sleep, within
from vla_mbpo.releases.release import stated_versions
from vla_mbpo.releases.swapping import Answer, swap

LOAD_TIME, SWITCH_TIME = 90.0, 5.0  # s within which a node has to answer
AGAIN = 2.0  # s until it is asked again: the answer of one that does not know of the client yet is lost
APPEAR_TIME = 10.0  # s for a node that is just being started again
SWAPPED = "swapped by service"
PART = {
    "policy": "policy",
    "imagination": "world_model",
    "failure_detector": "bands",
}  # node -> part of the release whose version it states


class Swapping:
    """Serves `/task/swap` and publishes `/release`. The executor's thread.

    While the others load, attempts go on. When all have loaded, a running attempt is waited for, or ended; goals that
    come then wait until all nodes have switched, or have gone back.
    """

    def __init__(self, node: ManagedNode, models: Models, names: list[str], patience: float) -> None:
        """``names``: nodes that read models. ``patience``: for the end of a running attempt [s]."""
        self._node, self._models, self._patience = node, models, patience
        self._names = [*(name for name in names if name), node.get_name()]
        self._clients: dict[str, Any] = {n: node.create_client(SwapRelease, service_of(n)) for n in self._names}
        for client in self._clients.values():
            node.on_cleanup_do(partial(node.destroy_client, client))
        self._out = node.publisher(qos.RELEASE)
        self._busy = False
        self._gap: Future | None = None
        self._previous, self._policy = "", ""

    def listen(self, running: Callable[[], bool], end: Callable[[str], None]) -> None:
        """Serve until deactivated. ``running``: whether an attempt is; ``end``: ends it, with a reason."""
        self._running, self._end = running, end
        self._policy = _stated(self._models.live).get("policy", "")
        self._models.listen()
        self._node.serve(SwapRelease, qos.SWAP, self._on_swap)
        self._publish("started with it")

    async def pause(self) -> None:
        """Wait while nodes switch; for who begins an attempt."""
        while self._gap is not None:
            await self._gap

    async def _on_swap(self, request: SwapRelease.Request, answer: SwapRelease.Response) -> SwapRelease.Response:
        release, live = request.release, self._models.live
        if self._busy:
            answer.message = "another release is being brought into use"
            return answer
        self._busy = True
        try:
            stated = _stated(release)
            expected = {node: stated[part] for node, part in PART.items() if part in stated}
            fault = await swap(release, live, self._names, expected, self._ask, lambda: self._boundary(request.now))
        except Exception as error:
            fault = error_text(error)
        finally:
            gap, self._gap, self._busy = self._gap, None, False
            if gap is not None:
                gap.set_result(None)
        answer.accepted, answer.version = not fault, self._models.version
        named = f"{self._models.version}, {Path(self._models.live).name or 'by bundles'}"
        answer.message = f"{fault}; in use: {named}" if fault else f"in use: {named}"
        if fault:
            self._node.get_logger().error(f"release {release!r} does not come into use: {fault}")
        elif release != live:
            self._previous, self._policy = live, stated.get("policy", "")
        self._publish(SWAPPED if not fault else f"went back: {fault}")
        return answer

    def _ask(self, node: str, release: str, now: bool) -> Any:
        assert self._node.executor is not None
        return self._node.executor.create_task(self._answer, node, release, now)

    async def _answer(self, node: str, release: str, now: bool) -> Answer:
        try:
            return await self._answer_of(node, release, now)
        except InvalidHandle:  # raised, it would end the executor
            return Answer(False, "the task node was cleaned up meanwhile")

    async def _answer_of(self, node: str, release: str, now: bool) -> Answer:
        client, until = self._clients[node], time.monotonic() + APPEAR_TIME
        while not client.service_is_ready():
            if time.monotonic() > until:
                return Answer(False, "the node is not there")
            await sleep(self._node, 0.1)
        limit = SWITCH_TIME if now else LOAD_TIME
        until = time.monotonic() + limit
        while time.monotonic() < until:
            asked = client.call_async(SwapRelease.Request(release=release, now=now))
            answer = await within(self._node, asked, AGAIN)
            if answer is not None:
                return Answer(answer.accepted, answer.message, answer.version)
            client.remove_pending_request(asked)
        return Answer(False, f"no answer within {limit:g} s")

    async def _boundary(self, now: bool) -> str:
        """Wait until no attempt is running; goals wait from here on. Why there is no such moment, or nothing."""
        self._gap = Future()
        until = time.monotonic() + self._patience
        while self._running():
            if now:
                self._end("another release comes into use")
            if time.monotonic() > until:
                return f"the running attempt has not ended within {self._patience:g} s"
            await sleep(self._node, 0.05)
        return ""

    def _publish(self, reason: str) -> None:
        models = self._models
        state = ReleaseState(release=models.live, version=models.version if models.live else "", reason=reason)
        state.header.stamp = convert.to_time(self._node.now())
        state.policy, state.previous = self._policy, self._previous
        with suppress(InvalidHandle):  # cleaned up while others loaded
            self._out.publish(state)


def _stated(release: str) -> dict[str, str]:
    """Versions of a release's parts; none without a release. ConfigError: the folder holds none."""
    return stated_versions(Path(release)) if release else {}
