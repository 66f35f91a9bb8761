"""What the arm driver says to the gripper, for the interfaces that grippers' drivers have."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.task import Future
from std_msgs.msg import Float64MultiArray

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.nodes import qos
from vla_mbpo.nodes.base import ManagedNode

ACTION_PERIOD = 0.2  # s; goals in shorter order would cancel each other before the fingers move
SAME = 1e-3  # m; an opening closer to the last goal is no new one


class Gripper(Protocol):
    """A way to the gripper. The executor's thread."""

    def send(self, opening: float) -> None:
        """Command an opening [m]; it replaces the one before."""

    def tick(self) -> None:
        """Say what had to wait; in every tick of the driver."""

    def drop(self) -> None:
        """Forget what waits: the rows that it is of were dropped."""


class OpeningTopic(Gripper):
    """The opening in metres on a topic of ours: the simulator, the dry run, and adapters that a lab writes."""

    def __init__(self, node: ManagedNode, spec: RobotSpec) -> None:
        self._out = node.publisher(qos.GRIPPER)

    def send(self, opening: float) -> None:
        """See Gripper."""
        self._out.publish(Float64MultiArray(data=[opening]))


class PositionTopic(Gripper):
    """ForwardCommandController: the position of the driver's joint, in its unit."""

    def __init__(self, node: ManagedNode, spec: RobotSpec) -> None:
        self._driver = _driver(spec, "position")
        self._out = node.publisher(qos.GRIPPER_POSITION)

    def send(self, opening: float) -> None:
        """See Gripper."""
        self._out.publish(Float64MultiArray(data=[self._driver.position(opening)]))


class CommandAction(Gripper):
    """A GripperCommand server (``arm_driver.gripper_action``): goals of the driver's joint, at most five a second.

    An opening that comes sooner waits, unless it is dropped. One that the server rejects or does not reach is sent
    again with the next ``send``. The message package control_msgs comes with a ROS install, not with the wheels.
    """

    def __init__(self, node: ManagedNode, spec: RobotSpec) -> None:
        try:
            from control_msgs.action import GripperCommand
        except ImportError:
            valid = "opening or position; this one needs the ROS package control_msgs"
            raise ConfigError("arm_driver.gripper_output", "command", valid) from None
        self._driver, self._goal = _driver(spec, "command"), GripperCommand.Goal
        self._effort = node.parameters["gripper_effort"]
        self._client: Any = ActionClient(node, GripperCommand, node.parameters["gripper_action"])
        node.on_cleanup_do(self._client.destroy)
        self._wanted: float | None = None  # what waits
        self._last, self._at, self._sent = float("nan"), 0.0, 0  # the last goal, when it was sent, how many

    def send(self, opening: float) -> None:
        """See Gripper."""
        self._wanted = opening
        self.tick()

    def tick(self) -> None:
        """See Gripper."""
        if self._wanted is None:
            return
        if abs(self._wanted - self._last) < SAME:
            self._wanted = None
            return
        now = time.monotonic()
        if now - self._at < ACTION_PERIOD or not self._client.server_is_ready():
            return
        goal = self._goal()
        goal.command.position, goal.command.max_effort = self._driver.position(self._wanted), self._effort
        self._last, self._at, self._sent, self._wanted = self._wanted, now, self._sent + 1, None
        self._client.send_goal_async(goal).add_done_callback(partial(self._answered, self._sent))

    def drop(self) -> None:
        """See Gripper."""
        self._wanted = None

    def _answered(self, count: int, answer: Future) -> None:
        handle = None if answer.exception() else answer.result()
        if handle is None or not handle.accepted:
            self._missed(count)
        else:
            handle.get_result_async().add_done_callback(partial(self._ended, count))

    def _ended(self, count: int, end: Future) -> None:
        found = None if end.exception() else end.result()
        if found is None or found.status != GoalStatus.STATUS_SUCCEEDED:
            self._missed(count)

    def _missed(self, count: int) -> None:
        """Goal ``count`` came to nothing; one that a later goal has replaced does not matter."""
        if count == self._sent:
            self._last = float("nan")


def _driver(spec: RobotSpec, output: str) -> Any:
    if spec.gripper_driver is None:
        raise ConfigError("arm_driver.gripper_output", output, "opening: robot.yaml has no gripper.driver")
    return spec.gripper_driver


GRIPPERS: dict[str, Callable[[ManagedNode, RobotSpec], Gripper]] = {
    "opening": OpeningTopic,
    "position": PositionTopic,
    "command": CommandAction,
}
