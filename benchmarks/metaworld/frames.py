"""Between Meta-World's actions and rows of a chunk. numpy only.

Meta-World takes, 80 times a second, four numbers: how far the tool's set point moves (1 is ``STEP``, beyond [-1, 1] is
cut off) and an effort of the gripper (-1 opens, 1 closes). A row is where the set point is to be after ROW_STEPS steps
and an opening (1 open, 0 closed, as Meta-World measures it). Less the tool's measured position a row's first three
numbers are the Cartesian delta that a policy predicts.
"""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

STEP_NS = 12_500_000
ROW_STEPS = 4
ROW = ROW_STEPS * STEP_NS / 1e9  # s
STEP = 0.01  # m that an action of 1 moves the set point by
HORIZON = 500  # steps of an attempt
REPLAN_ROWS = 2  # driven of a chunk: 8 steps
TIMEOUT = HORIZON * STEP_NS / 1e9  # s


def action_towards(target: FloatArray, set_point: FloatArray, opening: float) -> FloatArray:
    """The action (4,) that takes the set point (3,) [m] to ``target`` (3,) [m], or as far as one step goes."""
    return np.array([*np.clip((target - set_point) / STEP, -1.0, 1.0), effort(opening)])


def row_of(action: FloatArray, set_point: FloatArray) -> tuple[FloatArray, float]:
    """Where the set point (3,) [m] is after ROW_STEPS times ``action`` (4,), and the opening."""
    return set_point + ROW_STEPS * STEP * np.clip(action[:3], -1.0, 1.0), opening(float(action[3]))


def averaged(actions: FloatArray) -> FloatArray:
    """The action (4,) that, held, moves the set point as far as ``actions`` (N, 4) do one after another."""
    return np.clip(actions, -1.0, 1.0).mean(0)


def effort(opening: float) -> float:
    """Of the gripper, -1 to 1, for an opening from 0 to 1."""
    return 1.0 - 2.0 * opening


def opening(effort: float) -> float:
    """The other way round; efforts beyond -1 and 1 are those."""
    return (1.0 - float(np.clip(effort, -1.0, 1.0))) / 2.0
