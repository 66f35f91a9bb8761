"""Measured robot state and commanded trajectories."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RobotState:
    """Measured state of the arm. Joint order is RobotSpec.joints.

    Attributes:
        stamp: time of measurement [ns].
        positions: [rad], (n,).
        velocities: [rad/s], (n,).
        gripper: opening [m].
    """

    stamp: int
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]
    gripper: float


@dataclass(frozen=True)
class Trajectory:
    """A joint trajectory as ros2_control's joint_trajectory_controller takes it.

    Attributes:
        stamp: start time [ns]; 0 means now.
        joint_names: column order.
        times: offsets from ``stamp`` [ns], strictly increasing, (m,).
        positions: [rad], (m, n).
        velocities: [rad/s], (m, n), or (0, n) for positions only.
    """

    stamp: int
    joint_names: tuple[str, ...]
    times: tuple[int, ...]
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]
