"""Meta-World's scripted experts, one action for each row.

A script answers each of a row's steps. Its row is what its answers amount to: it drives for one, which then has
not happened, and the average of its actions is held. Where the first one is held instead, the tool goes too far, waves
around its goal, and takes up to three times as long.
"""

import numpy as np
from metaworld.policies import ENV_POLICY_MAP
from numpy.typing import NDArray

from benchmarks.metaworld.arm import Arm
from benchmarks.metaworld.frames import HORIZON, ROW_STEPS, averaged, row_of


class Expert:
    """Interface of ``vla_mbpo.sim.experts.Expert``. One attempt, one thread."""

    def __init__(self, arm: Arm) -> None:
        self._arm, self._script = arm, ENV_POLICY_MAP[f"{arm.scene.task}-v3"]()

    def row(self) -> tuple[NDArray[np.float64], float]:
        """Set point (3,) [m] at the end of the row, and opening."""
        arm, actions = self._arm, []
        with arm.supposed():
            for _ in range(ROW_STEPS):
                actions.append(np.asarray(self._script.get_action(arm.seen), np.float64).clip(-1.0, 1.0))
                if arm.steps < HORIZON:
                    arm.step(actions[-1])
        return row_of(averaged(np.array(actions)), arm.tool_set_point())

    def displaced(self, offset: NDArray[np.float64]) -> NDArray[np.float64]:
        """The row's set point, pushed aside by ``offset`` (3,) [m]."""
        return self.row()[0] + offset

    def resync(self) -> None:
        """Nothing to do: the script looks at the present only."""
