"""What the arm driver is committed to: the rows before a new plan, the set point now, and the gripper's."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from vla_mbpo_msgs.msg import Commitment

from vla_mbpo.nodes.convert import from_commitment, from_doubles, to_ns

FloatArray = NDArray[np.float64]

SET_POINT_AGE = 0.1  # s; farther the set point is not carried forward


def committed_prefix(
    history: Sequence[Commitment], stamp: int, rows: int, joints: int
) -> tuple[FloatArray, FloatArray]:
    """Committed rows on the row grid of the observation at ``stamp``.

    Args:
        history: recent commitments, oldest first. The last one says whether anything is committed now; the rows come
            from the one in force at ``stamp``, because later ones lack what has been executed since.
        stamp: observation time [ns].
        rows: at most so many.
        joints: number of joints.

    Returns:
        Positions (d, n) [rad] and gripper openings (d,) [m], d <= rows.
    """
    if not history or history[-1].chunk_set_id == 0:
        return np.zeros((0, joints)), np.zeros(0)
    then = [commitment for commitment in history if to_ns(commitment.header.stamp) <= stamp]
    positions, gripper = from_commitment(then[-1] if then else history[-1]).prefix(stamp, rows)
    known = np.isfinite(gripper)
    count = len(gripper) if known.all() else int(np.argmin(known))
    return positions[:count], gripper[:count]


def set_point(commitment: Commitment | None, now: int) -> tuple[FloatArray, FloatArray] | None:
    """Commanded positions and velocities at ``now`` [ns] (n,) [rad, rad/s]; None before the first motion."""
    if commitment is None or not len(commitment.commanded_positions):
        return None
    q, v = from_doubles(commitment.commanded_positions), from_doubles(commitment.commanded_velocities)
    if q.shape != v.shape:
        raise ValueError(f"commanded: {len(q)} positions and {len(v)} velocities")
    passed = (now - to_ns(commitment.header.stamp)) / 1e9
    return q + v * min(max(passed, 0.0), SET_POINT_AGE), v


def told_opening(commitment: Commitment, before: float | None) -> float | None:
    """What the gripper is told next [m]; without rows, what it was told ``before``: it keeps that."""
    opening = commitment.gripper[0] if len(commitment.gripper) else np.nan
    return float(opening) if np.isfinite(opening) else before
