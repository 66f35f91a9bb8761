"""Pictures of a topic, each with the joint positions of its moment, for a command beside the stack."""

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image, JointState

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.nodes import convert, qos
from vla_mbpo.nodes.client import StackClient

MAX_SKEW = 100_000_000  # ns between a picture and the joint states; the robot is at rest when they count


@dataclass(frozen=True)
class Picture:
    """RGB (h, w, 3), and joint positions [rad], (n,), where they were asked for."""

    image: NDArray[np.uint8]
    joints: NDArray[np.float64] | None


class Pictures:
    """The latest picture again and again. One thread."""

    def __init__(self, topic: str, spec: RobotSpec | None) -> None:
        """``spec``: of the robot whose joints are asked for."""
        self._client, self._topic = StackClient("vla_mbpo_calibrate"), topic
        self._reader = None if spec is None else convert.JointStateReader(spec)
        self._image: Image | None = None
        self._joints: JointState | None = None
        self.lacking = "pictures expected"
        node = self._client.node
        node.create_subscription(Image, topic, self._on_image, qos.SENSOR)
        if spec is not None:
            node.create_subscription(JointState, qos.JOINT_STATES.name, self._on_joints, qos.JOINT_STATES.qos)

    def next(self, timeout: float) -> Picture | None:
        """The next picture that has joints of its moment; None if none came within ``timeout`` seconds.

        Raises:
            ConfigError: pictures of another encoding than the stack's.
        """
        self._image, until = None, time.monotonic() + timeout
        while time.monotonic() < until:
            self._client.spin(0.02)
            if self._image is None:
                continue
            try:
                image = convert.from_image(self._image)
            except ValueError as error:
                raise ConfigError("pictures", self._topic, f"pictures of the stack's kind: {error}") from None
            if self._reader is None:
                return Picture(image, None)
            state = None if self._joints is None else self._reader.read(self._joints)
            stamp = convert.to_ns(self._image.header.stamp)
            if state is not None and abs(state.stamp - stamp) <= MAX_SKEW:
                return Picture(image, state.positions)
            what = "none" if state is None else f"{abs(state.stamp - stamp) / 1e6:.0f} ms apart"
            self.lacking = f"pictures and {qos.JOINT_STATES.name} within {MAX_SKEW / 1e6:.0f} ms expected ({what})"
        return None

    def close(self) -> None:
        """Leave the graph."""
        self._client.close()

    def _on_image(self, message: Image) -> None:
        self._image = message

    def _on_joints(self, message: JointState) -> None:
        self._joints = message
