"""What the ROS package robot_state_publisher publishes, where it is not installed: transforms and the robot's URDF."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from geometry_msgs.msg import TransformStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.monitor.transforms import Transform, Tree
from vla_mbpo.nodes import qos
from vla_mbpo.nodes.base import ManagedNode
from vla_mbpo.nodes.polled import Unwatched, drain

RATE = 20.0  # Hz; joint states come faster, and RViz draws no faster
AGAIN = 1.0  # s; a joint state that does not change is said again after so long


class Transforms:
    """Publishes /tf with the stamps of the joint states, and once /tf_static and /robot_description.

    Made while ``node`` is configured; ``begin`` when it is activated, ``tick`` RATE times a second, both on the
    executor's thread.
    """

    def __init__(self, node: ManagedNode, spec: RobotSpec) -> None:
        """ImportError where there is no tf2_msgs."""
        self._node, self._tree, self._urdf = node, Tree(spec.urdf), spec.urdf.read_text()
        self._moving, self._static, self._model = (node.publisher(topic) for topic in qos.transforms())
        self._spec = spec
        self._latest: JointState | None = None
        self._said, self._positions = float("-inf"), dict[str, float]()

    def begin(self) -> None:
        """Say what never changes, and listen."""
        self._model.publish(String(data=self._urdf))
        self._static.publish(self._message(self._tree.fixed, self._node.get_clock().now().to_msg()))
        topic = replace(qos.JOINT_STATES, qos=qos.ANYBODY)
        self._states = self._node.subscribe(topic, self._take, group=Unwatched())

    def tick(self) -> None:
        """Publish where the newest joint state puts the links."""
        drain(self._states, self._take)
        state, self._latest = self._latest, None
        if state is None:
            return
        positions, now = dict(zip(state.name, state.position, strict=False)), time.monotonic()
        if positions == self._positions and now - self._said < AGAIN:
            return
        self._positions, self._said = positions, now
        placed = self._tree.moved(fingers(self._spec, positions) | positions)
        self._moving.publish(self._message(placed, state.header.stamp))

    def _take(self, message: JointState, about: Any = None) -> None:
        self._latest = message

    def _message(self, transforms: list[Transform], stamp: Any) -> Any:
        from tf2_msgs.msg import TFMessage

        return TFMessage(transforms=[_stamped(one, stamp) for one in transforms])


def fingers(spec: RobotSpec, positions: Mapping[str, float]) -> dict[str, float]:
    """Finger joints of the URDF [m], of the joint by which the gripper's driver says its opening; none without it."""
    driver = spec.gripper_driver
    if driver is None or driver.joint not in positions:
        return {}
    share = driver.opening(positions[driver.joint]) / len(spec.gripper_joints)
    return dict.fromkeys(spec.gripper_joints, share)


def _stamped(one: Transform, stamp: Any) -> TransformStamped:
    made = TransformStamped(child_frame_id=one.child)
    made.header.frame_id, made.header.stamp = one.parent, stamp
    place, turn = made.transform.translation, made.transform.rotation
    place.x, place.y, place.z = (float(value) for value in one.translation)
    turn.x, turn.y, turn.z, turn.w = (float(value) for value in one.rotation)
    return made
