"""What `vla-mbpo up` needs to know and do on the ROS graph: who is there, readiness, engage, one task."""

import gc
import time
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from lifecycle_msgs.srv import GetState
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.task import Future
from rclpy.utilities import get_default_context
from std_msgs.msg import Bool
from vla_mbpo_msgs.action import ExecuteTask
from vla_mbpo_msgs.msg import GateState, ReleaseState
from vla_mbpo_msgs.srv import GateCommand, ResetScene, SwapRelease

from vla_mbpo.core.errors import require
from vla_mbpo.nodes import qos
from vla_mbpo.nodes.process import secured, start_ros

NAME = "vla_mbpo_up"  # and its enclave, for a client of whatever name
BRIEFLY = "get_state"  # the service of a node that is asked whether it is alive, before the stack starts
DISCOVERY_TIME = 0.7  # s within which nodes on this machine find each other


def quiet_node(name: str) -> Node:
    """A node that publishes, hears and serves nothing of its own but /parameter_events.

    ConfigError: the middleware refuses it, for example because it is built without security.
    """
    no_types = Parameter("start_type_description_service", value=False)
    with secured():
        return Node(name, enable_rosout=False, start_parameter_services=False, parameter_overrides=[no_types])


class StackClient:
    """A small node beside the stack. One thread; call ``spin`` regularly."""

    def __init__(self, name: str = NAME) -> None:
        """ConfigError: the middleware refuses, for example because it is built without security."""
        start_ros([], NAME)
        self._node = quiet_node(name)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self.ready = False
        self.gate: GateState | None = None
        self.release: ReleaseState | None = None  # that the stack uses
        self._node.create_subscription(Bool, qos.READY.name, self._on_ready, qos.READY.qos)
        self._node.create_subscription(GateState, qos.GATE_STATE.name, self._on_gate, qos.GATE_STATE.qos)
        self._node.create_subscription(ReleaseState, qos.RELEASE.name, self._on_release, qos.RELEASE.qos)
        self._swap: Any = self._node.create_client(SwapRelease, qos.SWAP)
        self._engage: Any = self._node.create_client(GateCommand, qos.ENGAGE)
        self._reset: Any = self._node.create_client(ResetScene, qos.RESET_SCENE)
        self._task: Any = ActionClient(self._node, ExecuteTask, qos.EXECUTE_TASK)

    def spin(self, seconds: float) -> None:
        """Handle messages for about ``seconds``."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            # Always the same timeout: with another one the executor starts over with what it has yet to handle.
            self._executor.spin_once(timeout_sec=0.02)

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown(timeout_sec=0.2)
        self._task.destroy()  # not by its node; as long as it is there, so is the participant
        self._node.destroy_node()
        rclpy.try_shutdown()
        gc.collect()
        get_default_context().destroy()  # here and not in the interpreter's teardown, which may crash

    def engage(self) -> Future | None:
        """Ask the gate for AUTONOMOUS in its present epoch; None while it cannot be asked."""
        if self.gate is None or not self._engage.service_is_ready():
            return None
        return self._engage.call_async(GateCommand.Request(epoch=self.gate.epoch))

    @property
    def node(self) -> Node:
        """The node, for further subscriptions of the same thread."""
        return self._node

    def reset_scene(self, task: str, seed: int) -> Future:
        """Put the simulated scene into the start state of (task, seed)."""
        return self._reset.call_async(ResetScene.Request(task=task, seed=seed))

    @property
    def swap_ready(self) -> bool:
        """Whether ``swap`` can be asked for."""
        return self._swap.service_is_ready()

    def swap(self, release: str, now: bool) -> Future:
        """Have the stack use another release; the future's result is a SwapRelease.Response."""
        return self._swap.call_async(SwapRelease.Request(release=release, now=now))

    def execute(
        self, instruction: str, timeout: float, on_feedback: Callable[[Any], None] = lambda _: None
    ) -> Future | None:
        """Send the goal; None while it cannot be sent. The future's result is an ExecuteTask.Result."""
        if not self._task.server_is_ready():
            return None
        outcome: Future = Future()
        goal = ExecuteTask.Goal(instruction=instruction, timeout=timeout)
        sent = self._task.send_goal_async(goal, feedback_callback=lambda m: on_feedback(m.feedback))

        def accepted(future: Future) -> None:
            handle: Any = future.result()
            if not handle.accepted:
                refused = ExecuteTask.Result(outcome=ExecuteTask.Result.REFUSED, message="the goal was not taken")
                outcome.set_result(refused)
                return
            handle.get_result_async().add_done_callback(lambda done: outcome.set_result(done.result().result))

        sent.add_done_callback(accepted)
        return outcome

    def require_free(self, names: Sequence[str], domain: str) -> None:
        """Raise ConfigError when a live node of one of these names is on the domain already.

        The graph lists a killed node for some seconds more, so a node counts only if it answers.
        """
        self.spin(DISCOVERY_TIME)
        taken = sorted({name for name, _ in self._node.get_node_names_and_namespaces()} & set(names))
        clients: dict[str, Any] = {name: self._node.create_client(GetState, f"/{name}/{BRIEFLY}") for name in taken}
        calls = {name: c.call_async(GetState.Request()) for name, c in clients.items() if c.service_is_ready()}
        until = time.monotonic() + 1.0
        while calls and time.monotonic() < until and not any(call.done() for call in calls.values()):
            self.spin(0.05)
        alive = [name for name, call in calls.items() if call.done()]
        for client in clients.values():
            self._node.destroy_client(client)
        require(not alive, "ROS_DOMAIN_ID", domain, f"already has a node {', '.join(alive)}; choose a free domain")

    def _on_ready(self, message: Bool) -> None:
        self.ready = message.data

    def _on_release(self, message: ReleaseState) -> None:
        self.release = message

    def _on_gate(self, message: GateState) -> None:
        self.gate = message
