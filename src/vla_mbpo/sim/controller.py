"""A joint trajectory controller that behaves like ros2_control's joint_trajectory_controller."""

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.state import Trajectory

FloatArray = NDArray[np.float64]


class TrajectoryController:
    """Samples the active trajectory and holds its last point when it ends. One thread.

    As in joint_trajectory_controller: times strictly increase, a trajectory whose end lies in the past or that
    does not end at rest is rejected, an accepted one replaces the remainder of the active one and is joined from
    the current set point, cubic (Hermite) where velocities are given and linear otherwise.
    """

    def __init__(self, joints: tuple[str, ...], start: FloatArray) -> None:
        self._joints = joints
        self._times = np.zeros(1)
        self._q = start.copy()[None]
        self._v = np.zeros_like(self._q)
        self._linear = False

    @property
    def end(self) -> int:
        """Time of the last point of the active trajectory [ns]; 0 before the first one."""
        return round(self._times[-1] * 1e9)

    def accept(self, trajectory: Trajectory, now: int) -> str | None:
        """Take a trajectory at ``now`` [ns]. Returns None, or why it was rejected."""
        why = self._reject(trajectory, now)
        if why:
            return why
        order = [trajectory.joint_names.index(name) for name in self._joints]
        stamp = trajectory.stamp or now
        times = (np.array(trajectory.times, dtype=np.int64) + stamp) / 1e9
        q = trajectory.positions[:, order]
        linear = len(trajectory.velocities) == 0
        v = np.zeros_like(q) if linear else trajectory.velocities[:, order]
        here, speed = self.sample(now)
        ahead = times > now / 1e9
        self._times = np.concatenate([[now / 1e9], times[ahead]])
        self._q = np.concatenate([here[None], q[ahead]])
        self._v = np.concatenate([speed[None], v[ahead]])
        self._linear = linear
        return None

    def _reject(self, trajectory: Trajectory, now: int) -> str | None:
        n = len(self._joints)
        if sorted(trajectory.joint_names) != sorted(self._joints):
            return f"joint_names: {list(trajectory.joint_names)} are not this controller's {list(self._joints)}"
        if len(trajectory.times) == 0:
            return "points: the trajectory is empty"
        if trajectory.positions.shape != (len(trajectory.times), n):
            return f"positions: shape {trajectory.positions.shape}, expected ({len(trajectory.times)}, {n})"
        if len(trajectory.velocities) and trajectory.velocities.shape != trajectory.positions.shape:
            return f"velocities: shape {trajectory.velocities.shape}, expected {trajectory.positions.shape}"
        if not (np.isfinite(trajectory.positions).all() and np.isfinite(trajectory.velocities).all()):
            return "points: not finite"
        if np.any(np.diff(trajectory.times) <= 0) or trajectory.times[0] < 0:
            return f"time_from_start: {trajectory.times} does not strictly increase"
        if trajectory.times[-1] == 0:
            return "time_from_start: the last point is due at once, expected above 0"
        if trajectory.stamp and trajectory.stamp + trajectory.times[-1] <= now:
            return "stamp: the trajectory ends in the past"
        if len(trajectory.velocities) and np.abs(trajectory.velocities[-1]).max() > 1e-3:
            return "velocities: the last point is not at rest"
        return None

    def sample(self, now: int) -> tuple[FloatArray, FloatArray]:
        """Set point (positions, velocities) at ``now`` [ns]."""
        t = now / 1e9
        i = int(np.searchsorted(self._times, t, side="right"))
        if i >= len(self._times):
            return self._q[-1].copy(), np.zeros_like(self._q[-1])
        if i == 0:
            return self._q[0].copy(), self._v[0].copy()
        h = self._times[i] - self._times[i - 1]
        s = (t - self._times[i - 1]) / h
        q0, q1, v0, v1 = self._q[i - 1], self._q[i], self._v[i - 1], self._v[i]
        if self._linear:
            return q0 + s * (q1 - q0), (q1 - q0) / h
        d = (q1 - q0) / h
        c2, c3 = 3 * d - 2 * v0 - v1, v0 + v1 - 2 * d
        return q0 + h * s * (v0 + s * (c2 + s * c3)), v0 + s * (2 * c2 + 3 * s * c3)
