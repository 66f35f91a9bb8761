"""Which rows are already committed when the policy looks."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from vla_mbpo_msgs.msg import Commitment

from vla_mbpo.nodes.convert import from_commitment, to_ns

FloatArray = NDArray[np.float64]


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
