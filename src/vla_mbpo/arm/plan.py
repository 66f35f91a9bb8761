"""The motion published last: what the controller executes until it gets a newer one."""

from dataclasses import dataclass

import numpy as np

from vla_mbpo.arm.smoother import Brake, JointState, Motion
from vla_mbpo.core.state import Trajectory


@dataclass(frozen=True)
class Plan:
    """Some ticks of motion, then a brake to a standstill.

    Attributes:
        start: [ns].
        tick: length of each motion [ns].
        motions: one after the other.
        brake: after the last motion.
    """

    start: int
    tick: int
    motions: tuple[Motion, ...]
    brake: Brake

    @classmethod
    def standstill(cls, now: int, tick: int, brake: Brake) -> "Plan":
        """No motion but the brake, which is one of length 0 when the arm stands."""
        return cls(now, tick, (), brake)

    def at(self, now: int) -> JointState:
        """Commanded state at ``now``."""
        passed = max(now - self.start, 0)
        index = passed // self.tick
        if index < len(self.motions):
            return self.motions[index].at((passed - index * self.tick) / 1e9)
        return self.brake.at((passed - len(self.motions) * self.tick) / 1e9)

    @property
    def motion_end(self) -> int:
        """Time at which the brake begins [ns]."""
        return self.start + len(self.motions) * self.tick

    @property
    def end(self) -> int:
        """Time from which on the arm is to stand [ns]."""
        return self.motion_end + round(self.brake.duration * 1e9)

    def trajectory(self, joint_names: tuple[str, ...], least: int) -> Trajectory:
        """A point for every tick to the standstill, at least ``least`` points."""
        braking = -int(-self.brake.duration * 1e9 // self.tick)
        count = max(len(self.motions) + braking, least)
        times = tuple(self.tick * k for k in range(1, count + 1))
        states = [self.at(self.start + t) for t in times]
        # The boundary of the last tick is reached up to rounding; a trajectory has to end at rest, exactly.
        velocities = np.array([state.v for state in states])
        velocities[-1] = 0.0
        return Trajectory(self.start, joint_names, times, np.array([state.q for state in states]), velocities)
