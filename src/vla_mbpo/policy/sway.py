"""In place of a policy in a dry run: the last joint turns a little, to and fro. It looks at nothing."""

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.observation import Observation
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.policy.runtime import Candidates

FloatArray = NDArray[np.float64]
SWING, PERIOD = 0.15, 6.0  # rad, s: at most 0.08 rad/s and 0.08 rad/s^2, and half of what the limits allow


class SwaySession:
    """Has what the policy node needs of a PolicySession. One thread at a time.

    The motion is a function of time, so that successive chunks join; without committed rows it begins anew.
    """

    version, trouble = "sway", ""

    def __init__(self, spec: RobotSpec) -> None:
        self._spec = spec
        self._start, self._centre = 0, spec.home
        turn = 2 * np.pi / PERIOD  # speeds are up to turn / 2, accelerations up to turn^2 / 2 times the swing
        self._swing = min(SWING, spec.velocity[-1] / turn, spec.acceleration[-1] / turn**2)

    def facts(self) -> dict[str, object]:
        """Nothing to say."""
        return {}

    def check_instruction(self, text: str) -> None:
        """Any words will do."""

    def infer(
        self,
        observation: Observation,
        instruction: str,
        prefix: FloatArray,
        prefix_gripper: FloatArray,
        k: int,
        rng: np.random.Generator,
        noise: float = 1.0,
        spread: float = 1.0,
    ) -> Candidates:
        """K times the same chunk; arguments as of PolicySession.infer."""
        spec, d = self._spec, len(prefix)
        if not d:
            self._start, self._centre = observation.stamp, observation.joints.copy()
        due = (observation.stamp - self._start + spec.row_period * np.arange(1, spec.horizon + 1)) / 1e9
        way = self._swing * 0.5 * (1.0 - np.cos(2 * np.pi * due / PERIOD))
        room = self._centre[-1] + self._swing < spec.upper[-1]
        rows = np.tile(self._centre, (spec.horizon, 1))
        rows[:, -1] += way if room else -way
        rows[:d] = prefix
        held = prefix_gripper[-1] if d else np.clip(observation.gripper, *spec.gripper_range)
        gripper = np.full(spec.horizon, float(held))
        gripper[:d] = prefix_gripper
        return Candidates(np.tile(rows, (k, 1, 1)), np.tile(gripper, (k, 1)), np.zeros(1, np.float32))
