"""What the arm driver says to the gripper, for the interfaces that grippers' drivers have."""

import time
from collections.abc import Callable
from typing import Any, Protocol

from rclpy.action import ActionClient
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


class OpeningTopic:
    """The opening in metres on a topic of ours: the simulator, the dry run, and adapters that a lab writes."""

    def __init__(self, node: ManagedNode, spec: RobotSpec) -> None:
        self._out = node.publisher(qos.GRIPPER)

    def send(self, opening: float) -> None:
        """See Gripper."""
        self._out.publish(Float64MultiArray(data=[opening]))


class PositionTopic:
    """ForwardCommandController: the position of the driver's joint, in its unit."""

    def __init__(self, node: ManagedNode, spec: RobotSpec) -> None:
        self._driver = _driver(spec, "position")
        self._out = node.publisher(qos.GRIPPER_POSITION)

    def send(self, opening: float) -> None:
        """See Gripper."""
        self._out.publish(Float64MultiArray(data=[self._driver.position(opening)]))


class CommandAction:
    """A GripperCommand server (``arm_driver.gripper_action``): goals of the driver's joint, at most five a second.

    The message package control_msgs comes with a ROS install, not with the wheels.
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
        self._last, self._at = float("nan"), 0.0

    def send(self, opening: float) -> None:
        """See Gripper. What is passed over for its haste comes with the driver's next repetition."""
        now = time.monotonic()
        if abs(opening - self._last) < SAME or now - self._at < ACTION_PERIOD or not self._client.server_is_ready():
            return
        goal = self._goal()
        goal.command.position, goal.command.max_effort = self._driver.position(opening), self._effort
        self._client.send_goal_async(goal)
        self._last, self._at = opening, now


def _driver(spec: RobotSpec, output: str) -> Any:
    if spec.gripper_driver is None:
        raise ConfigError("arm_driver.gripper_output", output, "opening: robot.yaml has no gripper.driver")
    return spec.gripper_driver


GRIPPERS: dict[str, Callable[[ManagedNode, RobotSpec], Gripper]] = {
    "opening": OpeningTopic,
    "position": PositionTopic,
    "command": CommandAction,
}
