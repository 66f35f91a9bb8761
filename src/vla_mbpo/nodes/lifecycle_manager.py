"""Node `lifecycle_manager`: configures and activates the nodes in order, and takes them down in reverse."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.task import Future
from std_msgs.msg import Bool

from vla_mbpo.core.errors import require
from vla_mbpo.nodes import qos
from vla_mbpo.nodes.base import ROBOT
from vla_mbpo.nodes.parameters import Param, Parameters
from vla_mbpo.nodes.process import run
from vla_mbpo.nodes.waiting import sleep, within

_UP = (  # transition, state after it, transition back
    ("configure", Transition.TRANSITION_CONFIGURE, State.PRIMARY_STATE_INACTIVE, Transition.TRANSITION_CLEANUP),
    ("activate", Transition.TRANSITION_ACTIVATE, State.PRIMARY_STATE_ACTIVE, Transition.TRANSITION_DEACTIVATE),
)
_TAKE_DOWN_TIME = 0.9  # s, all nodes together
AGAIN = 2.0  # s between attempts to bring up a node that was restarted and could not be


class LifecycleManager(Node):
    """Drives the lifecycle of other nodes. A node that was restarted is brought up again, until that has worked.

    A node that somebody deactivated or cleaned up stays as it is: its process is still the same.
    """

    TABLE = (
        ROBOT,
        Param("nodes", [""], "lifecycle nodes in the order of bring-up"),
        Param("timeout", 30.0, "longest time for one node to appear or to make one transition, s", 1.0, 600.0),
    )

    def __init__(self, name: str) -> None:
        super().__init__(name, automatically_declare_parameters_from_overrides=True)
        self.parameters = Parameters(self, self.TABLE)
        self.ended: Future = Future()
        self.exit_code = 0
        self._names: list[str] = [name for name in self.parameters["nodes"] if name]
        require(bool(self._names), f"{name}.nodes", self._names, "expected at least one node name")
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._change: dict[str, Any] = {n: self.create_client(ChangeState, f"/{n}/change_state") for n in self._names}
        self._get: dict[str, Any] = {n: self.create_client(GetState, f"/{n}/get_state") for n in self._names}
        self._ready = self.create_publisher(qos.READY.type, qos.READY.name, qos.READY.qos)
        self._faults: dict[str, str] = {}
        self._up: dict[str, list[int]] = {n: [] for n in self._names}  # transitions that take each node down
        self._busy: set[str] = set(self._names)
        self._processes: dict[str, str] = {}  # by node, as it said when it was last seen
        self._missed: set[str] = set()  # nodes that were up, and since a restart could not be brought up
        self.create_subscription(DiagnosticArray, qos.DIAGNOSTICS.name, self._on_diagnostics, qos.DIAGNOSTICS.qos)
        self._start = self.create_timer(0.0, self._begin, clock=self._steady)

    def _begin(self) -> None:
        self.destroy_timer(self._start)
        self._run(self._bring_up)

    def _run(self, job: Callable[..., Any], *arguments: Any) -> Future | None:
        """Start a coroutine in the executor."""
        return self.executor.create_task(job, *arguments) if self.executor is not None else None

    async def _bring_up(self) -> None:
        for name in self._names:
            fault = await self._bring_up_node(name)
            if fault:
                print(f"vla-mbpo: error: {name}: {fault}", file=sys.stderr, flush=True)
                self.exit_code = 1
                self.ended.set_result(None)
                return
        self._ready.publish(Bool(data=True))
        self.get_logger().info(f"ready: {', '.join(self._names)} are active")

    async def _bring_up_again(self, name: str) -> None:
        fault = await self._bring_up_node(name)
        if not fault:
            self._missed.discard(name)
            self.get_logger().info(f"{name} was restarted and is active again")
            return
        self.get_logger().error(f"{name}: {fault}; trying again")
        self._missed.add(name)
        self._busy.add(name)  # its device may be away for a moment
        await sleep(self, AGAIN)
        self._busy.discard(name)

    async def _bring_up_node(self, name: str) -> str:
        """Configure and activate one node. Returns why it failed, or an empty string."""
        self._busy.add(name)
        self._up[name].clear()
        try:
            for label, transition, goal, back in _UP:
                fault = await self._transition(name, label, transition, goal)
                if fault:
                    return fault
                self._up[name].append(back)
            return ""
        finally:
            self._busy.discard(name)

    async def _transition(self, name: str, label: str, transition: int, goal: int) -> str:
        limit = self.parameters["timeout"]
        if not await self._appears(name, limit):
            return f"{label} failed: the node did not appear within {limit:g} s"
        state = await self._state(name, limit)
        if state in (goal, State.PRIMARY_STATE_ACTIVE):
            return ""
        self._faults.pop(name, None)
        request = ChangeState.Request(transition=Transition(id=transition))
        answer = await self._call(self._change[name], request, limit)
        if answer is not None and answer.success:
            return ""
        if answer is None:
            return f"{label} failed: no answer within {limit:g} s"
        for _ in range(30):  # the reason comes by /diagnostics
            if name in self._faults:
                break
            await sleep(self, 0.05)
        return self._faults.get(name, f"{label} failed")

    async def _state(self, name: str, limit: float) -> int:
        """Lifecycle state of a node. Asked again every second: a question to a node that has just died is lost."""
        for _ in range(max(1, int(limit))):
            answer = await self._call(self._get[name], GetState.Request(), 1.0)
            if answer is not None:
                return answer.current_state.id
        return State.PRIMARY_STATE_UNKNOWN

    async def _call(self, client: Any, request: Any, limit: float) -> Any:
        """The answer, or None if there is none in time: then nothing is kept of the question."""
        asked = client.call_async(request)
        answer = await within(self, asked, limit)
        if answer is None:
            client.remove_pending_request(asked)
        return answer

    async def _appears(self, name: str, limit: float) -> bool:
        for _ in range(int(limit / 0.05)):
            if self._change[name].service_is_ready() and self._get[name].service_is_ready():
                return True
            await sleep(self, 0.05)
        return False

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name not in self._change:
                continue
            if status.level == DiagnosticStatus.ERROR:
                self._faults[status.name] = status.message
            values = {v.key: v.value for v in status.values}
            if values.get("state") == "active":
                self._missed.discard(status.name)
            if self._restarted(status.name, values.get("state", ""), values.get("process", "")):
                self._busy.add(status.name)
                self._run(self._bring_up_again, status.name)

    def _restarted(self, name: str, state: str, process: str) -> bool:
        """Whether a node is to be brought up again, by its word. One that a person took down is not."""
        if name in self._busy:  # the first word is kept; a later process is looked at when this one has been brought up
            self._processes.setdefault(name, process)
            return False
        before, self._processes[name] = self._processes.get(name), process  # None: it died before its first word
        if name in self._missed:
            return state in ("unconfigured", "inactive")
        return state == "unconfigured" and process != before

    def shut_down(self) -> None:
        """Take the nodes down in reverse order."""
        executor, task = self.executor, self._run(self._take_down)
        if executor is not None and task is not None:
            executor.spin_until_future_complete(task, timeout_sec=_TAKE_DOWN_TIME)

    async def _take_down(self) -> None:
        self._busy.update(self._names)
        for name in reversed(self._names):
            while self._up[name] and self._change[name].service_is_ready():
                transition = self._up[name].pop()
                request = ChangeState.Request(transition=Transition(id=transition))
                await self._call(self._change[name], request, 0.4)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return run(lambda: LifecycleManager("lifecycle_manager"), argv)
