"""What a node has loaded, and how it comes to use that of another release while it runs."""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Generic, TypeVar

from rclpy.task import Future
from vla_mbpo_msgs.msg import ReleaseState
from vla_mbpo_msgs.srv import SwapRelease

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.engines.sessions import PROVIDERS, Graph, Placement, describe
from vla_mbpo.nodes import qos
from vla_mbpo.nodes.base import ManagedNode
from vla_mbpo.nodes.parameters import Param

PLACEMENT = (
    Param("provider", "auto", "what runs the graphs; auto: the best there is, and says so", choices=PROVIDERS),
    Param("allow_fallback", False, "whether another provider may run them where that one cannot"),
)
RELEASE = Param("release", "", "folder of a release whose part is used in place of the bundle; empty: the bundle")
Parts = TypeVar("Parts")


class Models(Generic[Parts]):
    """Parts by release. Made in ``configure``; the executor's thread.

    Another release is loaded by a thread of its own, beside the one in use, and comes into use when the task node says
    so (`/<node>/release`); the one before stays loaded. A node that was started again meanwhile follows `/release`.

    Attributes:
        live: folder of the release in use; empty: what the parameters name.
        parts: in use.
    """

    def __init__(
        self,
        node: ManagedNode,
        load: Callable[[str], tuple[Parts, str]],
        use: Callable[[Parts], None] = lambda _: None,
        first: str | None = None,
    ) -> None:
        """Load ``first``, the parameter ``release`` by default; errors of ``load`` are raised.

        Args:
            node: whose models they are.
            load: parts and their version, of a release's folder; called in any thread.
            use: told what is in use from now on.
            first: folder, or empty.
        """
        self._node, self._load, self._use = node, load, use
        self.live = self._previous = node.parameters["release"] if first is None else first
        # What the stack uses, and why this node does not. None: not heard yet; bundles are used without being told.
        self._wanted: str | None = None if self.live else ""
        self._fault = ""
        self._loading: dict[str, Future] = {}
        self._loaded = {self.live: load(self.live)}
        self.parts, self.version = self._loaded[self.live]
        use(self.parts)
        self._over = False
        node.on_cleanup_do(self._end)

    def _end(self) -> None:
        """What is still loading must not take the place of what the next configuration loads."""
        self._over = True

    def listen(self) -> None:
        """Answer the task node, and follow it, until deactivated."""
        self._node.serve(SwapRelease, service_of(self._node.get_name()), self._on_ask)
        self._node.subscribe(qos.RELEASE, self._on_release)

    @property
    def agreed(self) -> bool:
        """Whether this node uses what the stack uses."""
        return self._wanted == self.live

    @property
    def warning(self) -> str:
        """What is wrong at the moment, or an empty string."""
        if self._wanted is None:
            return "has not heard yet which release the stack uses"
        named = Path(self._wanted).name or "bundles"
        return "" if self.agreed else f"the stack uses {named}, this node does not yet {self._fault}".rstrip()

    async def _on_ask(self, request: SwapRelease.Request, answer: SwapRelease.Response) -> SwapRelease.Response:
        try:
            if not request.now:  # what was loaded and never used may have changed on the disk
                self._forget()
            await self._prepare(request.release)
            if request.now:
                self._switch(request.release)
            answer.accepted = True
        except Exception as error:
            answer.message = error_text(error)
            self._node.get_logger().error(f"release refused: {answer.message}")
        answer.version = self.version
        return answer

    async def _prepare(self, release: str) -> None:
        """Have it loaded. Raises what ``load`` raises."""
        if release in self._loaded:
            return
        found = self._loading.get(release)
        if found is None:
            self._forget()
            found = self._loading[release] = Future()
            threading.Thread(target=self._work, args=(release, found), name="load", daemon=True).start()
        result: Any = await found
        self._loading.pop(release, None)
        if isinstance(result, Exception):
            raise result
        self._loaded[release] = result

    def _forget(self) -> None:
        """All but what is in use and what was before."""
        for release in set(self._loaded) - {self.live, self._previous}:
            del self._loaded[release]

    def _work(self, release: str, found: Future) -> None:
        """In a thread of its own; the executor is told, which also wakes it."""
        try:
            result: tuple[Parts, str] | Exception = self._load(release)
        except Exception as error:
            result = error
        executor = self._node.executor
        if executor is not None:
            executor.create_task(found.set_result, result)

    def _switch(self, release: str) -> None:
        if release == self.live or self._over:
            return
        self.live, self._previous = release, self.live
        self.parts, self.version = self._loaded[release]
        self._use(self.parts)
        self._node.get_logger().info(f"uses {self.version}")

    def _on_release(self, message: ReleaseState) -> None:
        self._wanted, self._fault = message.release, ""
        if not self.agreed and self._node.executor is not None:
            self._node.executor.create_task(self._follow, message.release)

    async def _follow(self, release: str) -> None:
        try:
            await self._prepare(release)
        except Exception as error:
            self._fault = f"({error_text(error)})"
            self._node.get_logger().error(f"cannot follow: {self._fault}")
            return
        if release == self._wanted:
            self._switch(release)


def placement(node: ManagedNode) -> Placement:
    """Where the graphs of a node with the parameters ``PLACEMENT`` run."""
    wanted, fall = node.parameters["provider"], node.parameters["allow_fallback"]
    return Placement(wanted, fall, node.get_name())


def say(node: ManagedNode, version: str, graphs: Iterable[Graph]) -> None:
    """Log what runs what."""
    node.get_logger().info(f"{version} runs on {describe(graphs)}")


def service_of(node: str) -> str:
    """Name of the service by which a node is asked to use another release."""
    return f"/{node}/release"


def error_text(error: Exception) -> str:
    """One line."""
    text = str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())
