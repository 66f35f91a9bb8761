"""A foreign policy's answer as rows of this arm: its action type, its row period and its gripper become ours."""

from typing import Any

import mink
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from vla_mbpo.core.chunk import ActionChunk, ActionType
from vla_mbpo.core.errors import require
from vla_mbpo.core.observation import Observation
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.gate.checks.reach import apart
from vla_mbpo.gate.config import GateConfig
from vla_mbpo.gate.conversion import Converter, tool_poses
from vla_mbpo.gate.kinematics import Kinematics
from vla_mbpo.policy.foreign.description import TOOL_TYPES, Actions
from vla_mbpo.policy.foreign.errors import NoChunk
from vla_mbpo.policy.runtime import rate_limited

FloatArray = NDArray[np.float64]
KINDS = {"cartesian_delta": ActionType.CARTESIAN_DELTA, "cartesian_step": ActionType.TWIST}


class Decoder:
    """Makes candidates of answers. Holds the state of the inverse kinematics: one thread.

    Attributes:
        horizon: rows of a candidate, in the robot's row period.
    """

    def __init__(self, actions: Actions, spec: RobotSpec) -> None:
        """ConfigError: an answer is not longer than what is committed when it comes."""
        self._actions, self._spec = actions, spec
        period = spec.row_period / 1e9
        self.horizon = min(spec.horizon, int(actions.rows * actions.row_period / period + 1e-6))
        least = max(spec.commit_rows + 1, 2)
        text = f"at least {least * period:g} s, {least} of the robot's rows"
        require(self.horizon >= least, "actions.rows", f"{actions.rows} of {actions.row_period:g} s", text)
        self._due = period * np.arange(1, self.horizon + 1)
        # What comes after the last row of a candidate is not read.
        self._used = min(actions.rows, int(np.ceil(self._due[-1] / actions.row_period - 1e-6)))
        self._theirs = actions.row_period * np.arange(self._used + 1)  # from the observation on
        tool = actions.type in TOOL_TYPES
        self._converter = Converter(spec, tuple(KINDS.values())) if tool else None
        self._kinematics = Kinematics(spec) if tool else None

    def decode(
        self, raw: Any, observation: Observation, prefix: FloatArray, prefix_gripper: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Positions (H, n) [rad], absolute, and openings (H,) [m] of one answer.

        The first rows are those of ``prefix`` (d, n). A policy that was not told of them goes on elsewhere: the rows
        after them are shifted by the difference at the last committed row, less with each of ``join_rows``.

        Raises:
            NoChunk: malformed, shape, not_finite or reach.
        """
        values = self._checked(raw)
        motion = values[: self._used, self._actions.motion]
        rows = self._resampled(np.vstack([observation.joints, self._joints(motion, observation.joints)]))
        d = len(prefix)  # an object that is held is not as wide as what was commanded to hold it
        openings = self._openings(values[: self._used], prefix_gripper[-1] if d else observation.gripper)
        if d:
            off = prefix[-1] - rows[d - 1]
            less = np.clip(1.0 - np.arange(1, self.horizon - d + 1) / (self._actions.join_rows + 1), 0.0, 1.0)
            rows[d:] += less[:, None] * off
            rows[:d], openings[:d] = prefix, prefix_gripper
        low, high = self._spec.gripper_range
        start = float(np.clip(observation.gripper, low, high))
        reach = self._spec.gripper_speed * self._spec.row_period / 1e9
        openings = rate_limited(openings[None], start, np.arange(self.horizon)[None] >= d, reach)[0]
        return rows, openings

    def _checked(self, raw: Any) -> FloatArray:
        """The answer's numbers (rows, columns), scaled."""
        wanted = (self._actions.rows, self._actions.columns)
        if not isinstance(raw, np.ndarray) or raw.dtype.kind not in "fiu":
            kind = getattr(raw, "dtype", type(raw).__name__)
            raise NoChunk("malformed", f"{self._actions.key!r} is {kind} instead of an array of numbers")
        if raw.shape != wanted:
            raise NoChunk("shape", f"{self._actions.key!r} has the shape {raw.shape}, expected {wanted}")
        values = raw.astype(np.float64) * self._actions.scale + self._actions.offset
        if not np.isfinite(values).all():
            row = int(np.argmin(np.isfinite(values).all(axis=1)))
            raise NoChunk("not_finite", f"{self._actions.key!r} has NaN or infinite numbers, the first in row {row}")
        return values

    def _joints(self, motion: FloatArray, start: FloatArray) -> FloatArray:
        """Absolute joint positions of their rows."""
        kind = self._actions.type
        if kind == "joint_position":
            return motion
        if kind == "joint_delta":
            return start + motion
        if kind == "joint_step":
            return start + np.cumsum(motion, axis=0)
        return self._by_tool(motion, start)

    def _by_tool(self, motion: FloatArray, start: FloatArray) -> FloatArray:
        """By the gate's inverse kinematics; what it could not follow within the gate's limits is refused."""
        assert self._converter is not None and self._kinematics is not None
        kind, config = KINDS[self._actions.type], GateConfig()
        period = self._actions.row_period
        chunk = ActionChunk(
            0, 0, 0, 0, kind, self._spec.joints, start.copy(), round(period * 1e9),
            motion if kind == ActionType.CARTESIAN_DELTA else motion / period, np.zeros(0),
        )  # fmt: skip
        try:
            rows = self._converter.rows(chunk)
        except Exception as error:  # the solver gave up, of numbers without measure
            raise NoChunk("reach", f"inverse kinematics failed: {error!r}"[:200]) from error
        position, rotation = self._kinematics.tool_at(start)
        begin = mink.SE3.from_rotation_and_translation(mink.SO3.from_matrix(rotation), position)
        for row, pose in enumerate(tool_poses(chunk, begin)):
            off, turned = apart(pose, *self._kinematics.tool_at(rows[row]))
            if not (off <= config.reach_error and turned <= config.reach_angle):
                text = f"inverse kinematics ends {off:.4f} m and {turned:.3f} rad off the tool pose of row {row}"
                raise NoChunk("reach", text)
        return rows

    def _resampled(self, rows: FloatArray) -> FloatArray:
        """Rows at the observation and at their due times (m + 1, n), read off at ours: (H, n)."""
        if self._used == self.horizon and np.allclose(self._theirs[1:], self._due):
            return rows[1:].copy()
        return PchipInterpolator(self._theirs, rows)(self._due)  # no overshoot

    def _openings(self, values: FloatArray, now: float) -> FloatArray:
        """Openings (H,) [m] in the gripper's range; without a gripper column ``now``."""
        low, high = self._spec.gripper_range
        if self._actions.gripper < 0:
            return np.full(self.horizon, np.clip(now, low, high))
        column, closed = values[:, self._actions.gripper], self._actions.closed
        share = np.clip((column - closed) / (self._actions.open - closed), 0.0, 1.0)
        return np.interp(self._due, self._theirs[1:], low + share * (high - low))
