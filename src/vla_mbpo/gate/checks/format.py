"""Names, shapes and lengths: everything later checks take for granted."""

from typing import ClassVar

import numpy as np

from vla_mbpo.core.chunk import ActionChunk
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.checks.check import Context, FloatArray, Stage
from vla_mbpo.gate.conversion import CARTESIAN, WIDTH


class Format:
    """Refuses a chunk that is not laid out for this robot.

    A horizon below the robot's is fine (teleoperation sends short chunks, and the arm stops where rows end).
    """

    name: ClassVar[str] = "format"
    stage: ClassVar[Stage] = Stage.FORMAT

    def __call__(self, chunk: ActionChunk, rows: FloatArray, context: Context) -> Reason | None:
        """See Check."""
        spec, n = context.spec, len(context.spec.joints)
        if tuple(chunk.joint_names) != spec.joints:
            return self._reason("joint_names", len(chunk.joint_names), n, f"got {tuple(chunk.joint_names)}"[:200])
        for field in ("positions", "reference", "gripper"):
            array = getattr(chunk, field)
            if not isinstance(array, np.ndarray) or array.dtype != np.float64:
                kind = str(getattr(array, "dtype", type(array).__name__))
                return self._reason(field, float("nan"), float("nan"), f"expected a float64 array, got {kind}")
        if chunk.positions.ndim != 2:
            return self._reason("positions", chunk.positions.ndim, 2, "dimensions")
        horizon, width = chunk.positions.shape
        columns = WIDTH if chunk.action_type in CARTESIAN else n
        if width != columns:
            return self._reason("positions", width, columns, "columns")
        if not 2 <= horizon <= spec.horizon:  # one row has no velocity that could be looked at
            return self._reason("horizon", horizon, spec.horizon, "rows, at least 2")
        if chunk.reference.shape != (n,):
            return self._reason("reference", chunk.reference.size, n, "values")
        if chunk.gripper.shape not in ((0,), (horizon,)):
            return self._reason("gripper", chunk.gripper.size, horizon, "values, or none")
        if chunk.row_period != spec.row_period:
            return self._reason("row_period", chunk.row_period / 1e9, spec.row_period / 1e9, "s")
        if not 0 <= chunk.committed_rows <= spec.commit_rows:
            return self._reason("committed_rows", chunk.committed_rows, spec.commit_rows, "rows, from 0")
        return None

    def _reason(self, subject: str, value: float, limit: float, note: str) -> Reason:
        return Reason(self.name, -1, subject, float(value), float(limit), note)
