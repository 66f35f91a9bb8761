"""Every number of the chunk is an ordinary one."""

from typing import ClassVar

import numpy as np

from vla_mbpo.core.chunk import ActionChunk
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.checks.check import Context, FloatArray, Stage
from vla_mbpo.gate.conversion import CARTESIAN

DENORMAL = 1e-300  # no sensor or network writes such a number on purpose; it slows arithmetic and hides corruption
HUGE = 1e6  # far above any joint position in rad; keeps differences of rows from overflowing


class Finite:
    """Refuses NaN, infinite, denormal and absurdly large numbers."""

    name: ClassVar[str] = "finite"
    stage: ClassVar[Stage] = Stage.VALUES

    def __call__(self, chunk: ActionChunk, rows: FloatArray, context: Context) -> Reason | None:
        """See Check."""
        for field in ("positions", "reference", "gripper"):
            array = getattr(chunk, field)
            size = np.abs(array)
            bad = ~(size <= HUGE) | ((size < DENORMAL) & (array != 0.0))
            if bad.any():
                index = np.unravel_index(int(np.argmax(bad)), bad.shape)
                subject = _column(chunk, int(index[-1])) if field == "positions" else field
                row = -1 if field == "reference" else int(index[0])
                return Reason(self.name, row, subject, float(array[index]), HUGE)
        return None


def _column(chunk: ActionChunk, index: int) -> str:
    return f"tool {'xyz'[index % 3]}" if chunk.action_type in CARTESIAN else chunk.joint_names[index]
