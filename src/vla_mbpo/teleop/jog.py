"""From a person's velocity command to chunks of a few rows that the gate checks like any other.

Rows start at the arm's set point and ramp from its present velocity to the commanded one, so that a person can take
over a moving arm, and every new command joins the one before. They end after a fifth of a second: whoever stops
commanding, for whatever reason, stops the arm.
"""

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.chunk import ActionChunk, ActionType
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.state import RobotState
from vla_mbpo.gate.ik import ToolIK
from vla_mbpo.teleop.command import Jog

FloatArray = NDArray[np.float64]

ROWS = 4
SCALES = (
    1.0,
    0.5,
    0.25,
    0.1,
)  # at a limit the arm goes on slowly, up to it, instead of stopping a fifth of a second away
LINEAR, ANGULAR = 0.25, 1.5  # m/s, rad/s; a person moves the tool no faster, whatever is commanded
RAMP = np.array([1.0] * 3 + [4.0] * 3)  # m/s^2, rad/s^2; of the tool
JOINT_RAMP = 0.3  # share of the joint acceleration limits
SLOWING = 3.0  # times as fast the arm slows down
REST = 1e-3  # rad/s; slower is standing still


class Jogger:
    """Makes chunks from jogs. One thread. Remembers the gripper opening that is commanded."""

    def __init__(self, spec: RobotSpec) -> None:
        self._spec = spec
        self._ik = ToolIK(spec, spec.home)
        self._opening: float | None = None
        self._told: float | None = None
        self._last = 0
        self._squeeze, self._let_go = 0.0, -ROWS * spec.row_period
        self._driving = False

    def reset(self, told: float | None = None) -> None:
        """A takeover begins: the gripper keeps what it was ``told`` last [m] until the person moves it."""
        self._opening, self._told, self._driving, self._squeeze = None, told, False, 0.0
        self._let_go = -ROWS * self._spec.row_period

    def chunks(self, jog: Jog, q: FloatArray, v: FloatArray, state: RobotState, now: int) -> list[ActionChunk]:
        """Candidates, the commanded speed first, then slower ones.

        Args:
            jog: the command.
            q, v: set point of the arm driver at ``now`` [rad, rad/s], (n,).
            state: measured state.
            now: [ns].

        Returns:
            No chunk when nothing is to move and nothing moves, or moves that the person has not set in motion: the arm
            driver stops that sooner.

        Raises:
            ValueError: wrong number of joint velocities, or numbers that are not finite.
        """
        n = len(self._spec.joints)
        if len(jog.joint_velocities) not in (0, n):
            raise ValueError(f"joint_velocities: {len(jog.joint_velocities)} values for {n} joints")
        for name, values in (
            ("command", [*jog.twist, *jog.joint_velocities, jog.gripper_velocity]),
            ("set point", [*q, *v]),
        ):
            if not np.isfinite(values).all():
                raise ValueError(f"{name}: not finite")
        gripper = self._gripper(jog.gripper_velocity, state, now)
        self._driving |= jog.moves
        ending = now - self._let_go < ROWS * self._spec.row_period  # rows that still move the gripper are replaced
        if not jog.moves and not ending and (np.abs(v).max() < REST or not self._driving):
            return []
        if len(jog.joint_velocities):
            make = self._joint_rows
        else:
            make = self._twist_rows
        return [self._chunk(i, *make(jog, scale, q, v, state), gripper, now) for i, scale in enumerate(SCALES)]

    def _joint_rows(
        self, jog: Jog, scale: float, q: FloatArray, v: FloatArray, state: RobotState
    ) -> tuple[ActionType, FloatArray, FloatArray]:
        self._ik.reset(q)
        scale *= _within(self._ik.twist(jog.joint_velocities))
        speeds = self._ramp(v, scale * jog.joint_velocities, JOINT_RAMP * self._spec.acceleration)
        rows = q + np.cumsum(speeds, axis=0) * self._spec.row_period / 1e9
        return ActionType.JOINT_POSITION, rows, state.positions

    def _twist_rows(
        self, jog: Jog, scale: float, q: FloatArray, v: FloatArray, state: RobotState
    ) -> tuple[ActionType, FloatArray, FloatArray]:
        self._ik.reset(q)
        wanted = scale * _within(jog.twist) * jog.twist
        if jog.in_tool_frame:
            rotation = self._ik.pose().rotation().as_matrix()
            wanted = np.r_[rotation @ wanted[:3], rotation @ wanted[3:]]
        return ActionType.TWIST, self._ramp(self._ik.twist(v), wanted, RAMP), q

    def _ramp(self, start: FloatArray, end: FloatArray, acceleration: FloatArray) -> FloatArray:
        """Mean velocity of each row on the way from ``start`` to ``end``, (ROWS, m)."""
        period = self._spec.row_period / 1e9
        acceleration = np.where(np.abs(end) < np.abs(start), SLOWING, 1.0) * acceleration
        reached = np.minimum(np.arange(ROWS + 1)[:, None] * period * acceleration, np.abs(end - start))
        speeds = start + np.sign(end - start) * reached
        return 0.5 * (speeds[:-1] + speeds[1:])

    def _gripper(self, velocity: float, state: RobotState, now: int) -> FloatArray:
        """Opening of each row [m], (ROWS,), or (0,) while the person has not moved the gripper."""
        period, (low, high) = self._spec.row_period / 1e9, self._spec.gripper_range
        velocity = float(np.clip(velocity, -self._spec.gripper_speed, self._spec.gripper_speed))
        passed, self._last = min(max((now - self._last) / 1e9, 0.0), period), now
        if velocity != 0 and np.isfinite(state.gripper):
            start = self._start(velocity, state.gripper) if self._opening is None else self._opening
            self._opening = float(np.clip(start + velocity * passed, low, high))
        elif self._squeeze and self._opening is not None:  # it stays where the row that is under way takes it
            self._opening = float(np.clip(self._opening + self._squeeze * period, low, high))
            self._let_go = now
        self._squeeze = velocity
        if self._opening is None:
            return np.zeros(0)
        return np.clip(self._opening + velocity * period * np.arange(1, ROWS + 1), low, high)

    def _start(self, velocity: float, measured: float) -> float:
        """Opening to go on from [m]: what is held tightly is not let go of first, by whoever closes."""
        if self._told is None:
            return measured
        return min(measured, self._told) if velocity < 0 else max(measured, self._told)

    def _chunk(
        self, candidate: int, kind: ActionType, rows: FloatArray, reference: FloatArray, gripper: FloatArray, now: int
    ) -> ActionChunk:
        period = self._spec.row_period
        return ActionChunk(
            chunk_set_id=now,
            candidate=candidate,
            observation_stamp=now,
            expiry=now + ROWS * period,
            action_type=kind,
            joint_names=self._spec.joints,
            reference=reference.copy(),
            row_period=period,
            positions=rows,
            gripper=gripper.copy(),
        )


def _within(twist: FloatArray) -> float:
    """Factor that brings ``twist`` (6,) within LINEAR and ANGULAR; 1 for one that is."""
    with np.errstate(over="ignore"):
        over = float(np.linalg.norm(twist[:3])) / LINEAR, float(np.linalg.norm(twist[3:])) / ANGULAR
    return 1.0 / max(*over, 1.0)
