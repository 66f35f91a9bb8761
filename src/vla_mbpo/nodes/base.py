"""Common base of all nodes: lifecycle, parameters, diagnostics."""

import gc
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.callback_groups import CallbackGroup, ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.exceptions import InvalidHandle
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.publisher import Publisher
from rclpy.subscription import Subscription
from rclpy.task import Future

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.core.robot import LIMITS_SCALE, RobotSpec
from vla_mbpo.nodes import qos
from vla_mbpo.nodes.parameters import Param, Parameters
from vla_mbpo.nodes.qos import Topic

ROBOT = Param("robot", "sim_panda", "robot: a folder in config/robots")
SCALE = Param(
    "limits_scale", 1.0, "share of the robot's limits of speed and acceleration, for first days", *LIMITS_SCALE
)


class ManagedNode(LifecycleNode):
    """A lifecycle node. A subclass gives PARAMETERS and overrides ``configure``, ``activate`` and their opposites.

    Publishers made with ``publisher`` live from configure to cleanup; what ``subscribe``, ``every`` and ``serve`` make
    lives from activate to deactivate, so that no callback runs in an inactive node. Any exception in a transition
    makes it fail, with its text in the log and in /diagnostics.
    """

    PARAMETERS: tuple[Param, ...] = ()

    def __init__(self, name: str) -> None:
        super().__init__(name, automatically_declare_parameters_from_overrides=True)
        self.parameters = Parameters(self, (ROBOT, SCALE, *self.PARAMETERS))
        self._configured: list[Callable[[], Any]] = []
        self._activated: list[Callable[[], Any]] = []
        self._fault = ""
        self.ended: Future = Future()  # a node may end its own process
        self.exit_code = 0
        self.alone = False  # the only node of its process
        self._process = f"{os.getpid()}@{time.time_ns()}"  # another one after each restart, also under the same pid
        self._diagnostics = self.create_publisher(*_spread(qos.DIAGNOSTICS))
        self.create_timer(1.0, self.publish_diagnostics, clock=Clock(clock_type=ClockType.STEADY_TIME))

    # What a subclass overrides

    def configure(self) -> None:
        """Read parameters, load models, make publishers."""

    def activate(self) -> None:
        """Subscribe and start timers."""

    def deactivate(self) -> None:
        """Stop; subscriptions, timers and services are still there."""

    def cleanup(self) -> None:
        """Release what ``configure`` took."""

    def report(self) -> dict[str, object]:
        """Values for /diagnostics."""
        return {}

    def warning(self) -> str:
        """What is wrong at the moment, or an empty string."""
        return ""

    def shut_down(self) -> None:
        """End in order, whatever the state."""
        if self.state in ("active", "inactive"):
            self.trigger_shutdown()

    # What a subclass uses

    def leave(self, reason: str) -> None:
        """End this process with an error; who supervises it starts it again. Any thread."""
        self.get_logger().error(reason)
        self.exit_code = 1
        if not self.ended.done():
            self.ended.set_result(None)

    @property
    def state(self) -> str:
        """Lifecycle state: unconfigured, inactive, active or finalized."""
        return self._state_machine.current_state[1]

    def now(self) -> int:
        """Node time [ns]."""
        return self.get_clock().now().nanoseconds

    def spec(self) -> RobotSpec:
        """The robot named by the parameter ``robot``, with its limits scaled by ``limits_scale``."""
        from vla_mbpo.paths import robot_dir

        return RobotSpec.load(robot_dir(self.parameters["robot"])).scaled(self.parameters["limits_scale"])

    def publisher(self, topic: Topic) -> Publisher:
        """A publisher that lives until cleanup."""
        made = self.create_publisher(*_spread(topic))
        self._configured.append(lambda: self.destroy_publisher(made))
        return made

    def on_cleanup_do(self, action: Callable[[], Any]) -> None:
        """Have what ``configure`` made released at cleanup."""
        self._configured.append(action)

    def subscribe(
        self,
        topic: Topic,
        callback: Callable,
        on_deadline: Callable[[], None] | None = None,
        raw: bool = False,
        group: CallbackGroup | None = None,
    ) -> Subscription:
        """Call back until deactivated; ``on_deadline`` whenever the topic's deadline passes without a message.

        With ``raw`` the callback gets the serialised bytes.
        """
        events = None
        if on_deadline is not None:
            events = SubscriptionEventCallbacks(deadline=lambda _: on_deadline())
        made = self.create_subscription(
            topic.type, topic.name, callback, topic.qos, callback_group=group, event_callbacks=events, raw=raw
        )
        self._activated.append(lambda: self.destroy_subscription(made))
        return made

    def every(self, period: float, callback: Callable[[], None]) -> None:
        """Call back every ``period`` seconds until deactivated: steady time, or /clock under use_sim_time."""
        simulated = self.get_parameter("use_sim_time").value
        clock = self.get_clock() if simulated else Clock(clock_type=ClockType.STEADY_TIME)
        made = self.create_timer(period, callback, clock=clock)
        self._activated.append(lambda: self.destroy_timer(made))

    def serve(self, kind: Any, name: str, callback: Callable) -> None:
        """Answer a service until deactivated. While a callback that is a coroutine waits, all others go on.

        One that is still at it then goes on to its end; its answer is dropped.
        """
        made: Any = self.create_service(kind, name, callback, callback_group=ReentrantCallbackGroup())
        send = made.send_response

        def answer(*words: Any) -> None:
            with suppress(InvalidHandle):  # destroyed meanwhile: raised, it would end the executor
                send(*words)

        made.send_response = answer
        self._activated.append(lambda: self.destroy_service(made))

    def publish_diagnostics(self) -> None:
        """State, fault and the subclass's values."""
        status = DiagnosticStatus(name=self.get_name(), hardware_id=self.parameters["robot"])
        state, warning = self.state, self.warning() if self.state == "active" else ""
        status.level = DiagnosticStatus.ERROR if self._fault else DiagnosticStatus.OK
        if not self._fault and (state != "active" or warning):
            status.level = DiagnosticStatus.WARN
        status.message = self._fault or warning or state
        values = {"state": state, "process": self._process, **(self.report() if state == "active" else {})}
        status.values = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    # Transitions

    def on_configure(self, state: Any) -> TransitionCallbackReturn:
        """Lifecycle callback."""
        self.parameters.lock(True)
        done = self._guard("configure", self.configure)
        if done != TransitionCallbackReturn.SUCCESS:
            self._guard("cleanup", self._release_all, keep_fault=True)
        return done

    def on_activate(self, state: Any) -> TransitionCallbackReturn:
        """Lifecycle callback."""
        done = self._guard("activate", self.activate)
        if done != TransitionCallbackReturn.SUCCESS:
            _release(self._activated)
        elif self.alone:
            gc.collect()
            gc.freeze()  # what is alive now stays: later collections need not look at it
        return done

    def on_deactivate(self, state: Any) -> TransitionCallbackReturn:
        """Lifecycle callback."""
        done = self._guard("deactivate", self.deactivate)
        _release(self._activated)
        return done

    def on_cleanup(self, state: Any) -> TransitionCallbackReturn:
        """Lifecycle callback."""
        return self._guard("cleanup", self._release_all)

    def on_shutdown(self, state: Any) -> TransitionCallbackReturn:
        """Lifecycle callback."""
        if state.label == "active":
            self.on_deactivate(state)
        return self._guard("shutdown", self._release_all)

    def _release_all(self) -> None:
        self.parameters.lock(False)
        try:
            self.cleanup()
        finally:
            _release(self._configured)

    def _guard(self, transition: str, action: Callable[[], None], keep_fault: bool = False) -> TransitionCallbackReturn:
        try:
            action()
        except Exception as error:
            text = str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
            if not keep_fault:
                self._fault = f"{transition} failed: {' '.join(text.split())}"
                self.get_logger().error(self._fault)
                self.publish_diagnostics()
            return TransitionCallbackReturn.FAILURE
        if not keep_fault:
            self._fault = ""
        return TransitionCallbackReturn.SUCCESS


def _spread(topic: Topic) -> tuple:
    return topic.type, topic.name, topic.qos


def _release(actions: list[Callable[[], Any]]) -> None:
    while actions:
        actions.pop()()
