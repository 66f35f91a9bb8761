"""What the arm driver says to the controller, for the kinds of controllers that ros2_control has."""

from collections.abc import Callable
from typing import Any, Protocol

from rclpy.action import ActionClient
from std_msgs.msg import Float64MultiArray

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.core.state import Trajectory
from vla_mbpo.nodes import convert, qos
from vla_mbpo.nodes.base import ManagedNode
from vla_mbpo.nodes.exclusive import ExclusiveTopic


class Output(Protocol):
    """A way to the controller. ``name``, ``left`` and ``warning`` as in ExclusiveTopic.

    ``stream``: what is sent has no brake of its own.
    """

    name: str
    stream: bool

    @property
    def left(self) -> float: ...  # noqa: D102

    @property
    def warning(self) -> str: ...  # noqa: D102

    def listen(self) -> None:
        """Hear whether somebody else commands the controller, until the node is deactivated."""

    def send(self, trajectory: Trajectory) -> None:
        """Command motion that ends at rest; it replaces what was sent before."""


class TrajectoryTopic(ExclusiveTopic):
    """joint_trajectory_controller by topic: three ticks of motion and a brake, so that silence is a stop."""

    stream = False

    def __init__(self, node: ManagedNode, on_other: Callable[[], None]) -> None:
        super().__init__(node, qos.TRAJECTORY, on_other)

    def send(self, trajectory: Trajectory) -> None:
        """See Output."""
        self.publish(convert.to_trajectory(trajectory))


class PositionStream(ExclusiveTopic):
    """JointGroupPositionController: the set point of the next tick, nothing beyond it.

    Such a controller holds the last position it got: when the driver dies, it stops without a ramp.
    """

    stream = True

    def __init__(self, node: ManagedNode, on_other: Callable[[], None]) -> None:
        super().__init__(node, qos.POSITION_STREAM, on_other)

    def send(self, trajectory: Trajectory) -> None:
        """See Output."""
        self.publish(Float64MultiArray(data=convert.to_doubles(trajectory.positions[0])))


class TrajectoryAction:
    """A FollowJointTrajectory server. Each goal takes the place of the one before, as the servers of ros2_control do.

    The message package control_msgs comes with a ROS install, not with the wheels. Goals of others cannot be heard; the
    driver notices them by the arm's distance from its command.
    """

    left, warning, stream = 0.0, "", False

    def __init__(self, node: ManagedNode, on_other: Callable[[], None]) -> None:
        try:
            from control_msgs.action import FollowJointTrajectory
        except ImportError:
            valid = "joint_trajectory or position_stream; this one needs the ROS package control_msgs"
            raise ConfigError("arm_driver.output", "follow_joint_trajectory", valid) from None
        self.name = qos.FOLLOW_TRAJECTORY
        self._goal = FollowJointTrajectory.Goal
        self._client: Any = ActionClient(node, FollowJointTrajectory, self.name)
        node.on_cleanup_do(self._client.destroy)

    def listen(self) -> None:
        """See Output; nothing can be heard here."""

    def send(self, trajectory: Trajectory) -> None:
        """See Output. A goal for a server that is not there yet is dropped: it would come late."""
        if self._client.server_is_ready():
            self._client.send_goal_async(self._goal(trajectory=convert.to_trajectory(trajectory)))


OUTPUTS: dict[str, Callable[[ManagedNode, Callable[[], None]], Output]] = {
    "joint_trajectory": TrajectoryTopic,
    "follow_joint_trajectory": TrajectoryAction,
    "position_stream": PositionStream,
}
