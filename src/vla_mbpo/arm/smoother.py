"""Joint limits at every tick: targets become motion under velocity, acceleration and jerk limits.

Why not a time-optimal motion to each target (ruckig with the target's velocity): with 3 mrad of noise on the rows the
targets are often just out of reach within a tick, time-optimal answers swing between the limits, and the arm ends up
50 to 180 mrad off the path (measured). A velocity servo that looks ahead and saturates stays within a few mrad. Ruckig
does what it is best at: braking to a standstill.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import ruckig
from numpy.typing import NDArray

from vla_mbpo.arm.config import DriverConfig
from vla_mbpo.arm.rows import Target
from vla_mbpo.core.robot import RobotSpec

FloatArray = NDArray[np.float64]

MARGIN = 0.9  # share of the acceleration limits used, so that differences of 50 Hz samples stay under them
VELOCITY_MARGIN = 0.99  # share of the velocity limits used: rows may use them fully, and what is left over is lag
GAIN = 15.0  # 1/s, position error to velocity


@dataclass(frozen=True)
class JointState:
    """Commanded position [rad], velocity [rad/s] and acceleration [rad/s^2], each (n,)."""

    q: FloatArray
    v: FloatArray
    a: FloatArray

    @classmethod
    def rest(cls, q: FloatArray) -> "JointState":
        """Standing still at ``q``."""
        return cls(q.copy(), np.zeros_like(q), np.zeros_like(q))

    @property
    def at_rest(self) -> bool:
        """Standing still, up to rounding."""
        return bool((np.abs(self.v) < 1e-6).all() and (np.abs(self.a) < 1e-6).all())


class Motion(Protocol):
    """A piece of motion from a known state."""

    def at(self, t: float) -> JointState:
        """State ``t`` seconds after the start."""


@dataclass(frozen=True)
class Ramp:
    """Acceleration that goes from that of ``start`` to ``a`` with ``jerk`` (magnitude), then stays; all (n,)."""

    start: JointState
    a: FloatArray
    jerk: FloatArray

    def at(self, t: float) -> JointState:
        """See Motion."""
        start, change = self.start, self.a - self.start.a
        ramp = np.minimum(np.abs(change) / self.jerk, t)
        risen = np.copysign(self.jerk, change) * ramp
        a = start.a + risen
        v = start.v + ramp * (start.a + 0.5 * risen)
        q = start.q + ramp * (start.v + ramp * (0.5 * start.a + risen / 6.0))
        rest = t - ramp
        gained = a * rest
        return JointState(q + rest * (v + 0.5 * gained), v + gained, a)


@dataclass(frozen=True)
class Brake:
    """Motion to a standstill that lasts ``duration`` s; after it the arm stands."""

    motion: ruckig.Trajectory
    duration: float

    def at(self, t: float) -> JointState:
        """See Motion."""
        q, v, a = self.motion.at_time(min(t, self.duration))
        if t >= self.duration:
            return JointState.rest(np.array(q))
        return JointState(np.array(q), np.array(v), np.array(a))


@dataclass(frozen=True)
class Mixed:
    """``first`` for the joints of ``mask`` (n,), ``second`` for the others."""

    mask: NDArray[np.bool_]
    first: Motion
    second: Motion

    def at(self, t: float) -> JointState:
        """See Motion."""
        one, two = self.first.at(t), self.second.at(t)
        return JointState(*(np.where(self.mask, x, y) for x, y in ((one.q, two.q), (one.v, two.v), (one.a, two.a))))


class Smoother:
    """Plans single steps and brakes. Holds no state of the arm, only buffers: one thread.

    From every state it leads to, each joint can be braked inside its position limits; a joint whose step would end that
    brakes instead. A standstill inside the limits is such a state, so what starts there stays inside for ever.
    """

    def __init__(self, spec: RobotSpec, config: DriverConfig | None = None) -> None:
        """Take limits from ``spec``, ``settle`` and ``look_ahead`` from ``config``."""
        config = config or DriverConfig()
        self._settle, self._look_ahead = config.settle, config.look_ahead
        self._n = len(spec.joints)
        self._lower, self._upper, self._jerk = spec.lower, spec.upper, spec.jerk
        self._velocity, self._acceleration = VELOCITY_MARGIN * spec.velocity, MARGIN * spec.acceleration
        self._least_velocity, self._least_acceleration = -self._velocity, -self._acceleration
        # A change of acceleration takes time under the jerk limit; this much velocity can pass meanwhile.
        reserve = np.minimum(2.5 * self._acceleration**2 / self._jerk, 0.5 * self._velocity)
        self._top = self._velocity - reserve
        self._least_top = -self._top
        self._linear = 0.5 * self._acceleration / GAIN**2  # from this position error [rad] on braking is the limit
        self._half_linear = 0.5 * self._linear
        # Farthest a joint can swing past both ends of its brake while a jerk-limited acceleration changes sign.
        self._swing = self._acceleration**3 / self._jerk**2
        # Most that the velocity rises while the acceleration is taken back, and longest time for all its changes [s].
        self._rise, self._turn = 0.5 * self._acceleration**2 / self._jerk, 3.0 * self._acceleration / self._jerk
        self._solver, self._together = ruckig.Ruckig(self._n), ruckig.Ruckig(self._n)
        given = ruckig.InputParameter(self._n)
        given.control_interface = ruckig.ControlInterface.Velocity
        given.max_velocity = self._velocity.tolist()
        given.max_acceleration = self._acceleration.tolist()
        given.max_jerk = self._jerk.tolist()
        given.target_velocity = given.target_acceleration = [0.0] * self._n
        self._brake_input = given

    def step(self, state: JointState, target: Target, dt: float) -> tuple[Motion, JointState]:
        """Move for ``dt`` seconds along the path.

        Args:
            state: at the start.
            target: point of the path ``look_ahead`` after the end of the step.
            dt: [s].

        Returns:
            The motion, to be used up to ``dt`` only, and the state at ``dt``.
        """
        least, most = self._least_acceleration, self._acceleration
        q, v = _within(target.q, self._lower, self._upper), _within(target.v, self._least_velocity, self._velocity)
        error = q - state.q - (state.v + v) * (0.5 * (dt + self._look_ahead))
        a = (v + self._approach(error) - state.v) / self._settle
        a = _within(_within(a, (self._least_top - state.v) / dt, (self._top - state.v) / dt), least, most)
        motion: Motion = Ramp(state, a, self._jerk)
        after = motion.at(dt)
        free = self._can_stop(state, after)
        if free is not None:
            motion = Mixed(free, motion, self.brake(state))
            after = motion.at(dt)
        return motion, after

    def stop(self, state: JointState) -> Brake:
        """Stop as fast as the limits allow, on the way the arm is going.

        All joints stop at the same time: where one swings out while another holds the tool up, the other must not
        stop first (a tool 3 mm above the table went 14 mm below it). Only near a position limit each stops alone.
        """
        together = self._solve(self._together, state, ruckig.Synchronization.Time)
        end = together.at(together.duration).q
        low, high = np.minimum(state.q, self._lower), np.maximum(state.q, self._upper)
        return together if ((end >= low) & (end <= high)).all() else self.brake(state)

    def brake(self, state: JointState) -> Brake:
        """Stop each joint as fast as its limits allow."""
        return self._solve(self._solver, state, ruckig.Synchronization.No)

    def _solve(self, solver: ruckig.Ruckig, state: JointState, synchronization: ruckig.Synchronization) -> Brake:
        given = self._brake_input
        given.synchronization = synchronization
        given.current_position, given.current_velocity = state.q.tolist(), state.v.tolist()
        given.current_acceleration = state.a.tolist()
        motion = ruckig.Trajectory(self._n)
        solver.calculate(given, motion)
        return Brake(motion, motion.duration)

    def _approach(self, error: FloatArray) -> FloatArray:
        """Velocity that takes a position error away: linear for small ones, braking parabola for large ones."""
        size = np.abs(error)
        # The line is the parabola's tangent, so that the parabola is below it from where they meet.
        parabola = np.sqrt(self._acceleration * (np.maximum(size, self._linear) - self._half_linear))
        return np.copysign(np.minimum(GAIN * size, parabola), error)

    def _can_stop(self, before: JointState, after: JointState) -> NDArray[np.bool_] | None:
        """Joints that, braking from ``after``, stay inside their limits, or no farther outside than they were, (n,).

        None: all of them do.

        Position limits bound the whole brake, velocity limits the peak while the acceleration is taken back to 0.
        """
        # Far from all limits there is nothing to solve: no brake lasts longer, nor is any part of it faster.
        fastest = np.abs(after.v) + self._rise
        most = fastest * (fastest / self._acceleration + self._turn) + self._swing
        inside = (after.q - most >= self._lower) & (after.q + most <= self._upper) & (fastest <= self._velocity)
        if inside.all():
            return None
        brake = self.brake(after)
        end = brake.at(brake.duration).q  # ruckig's own position_extrema are wrong for velocity control (0.19)
        low, high = np.minimum(after.q, end) - self._swing, np.maximum(after.q, end) + self._swing
        lower, upper = np.minimum(self._lower, before.q - self._swing), np.maximum(self._upper, before.q + self._swing)
        peak, was = (np.abs(s.v + 0.5 * s.a * np.abs(s.a) / self._jerk) for s in (after, before))
        slow = peak <= np.maximum(self._velocity, was) + 1e-9
        free = slow & (low >= lower) & (high <= upper)
        return None if free.all() else free


def _within(x: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    """As numpy.clip, whose dispatch takes longer than what it does for so few numbers."""
    return np.minimum(np.maximum(x, low), high)
