"""The measured state is fresh and complete."""

from typing import ClassVar

import numpy as np

from vla_mbpo.core.chunk import ActionChunk
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.checks.check import Context, FloatArray, Stage


class MeasuredState:
    """Refuses to judge anything against a state that is stale, from the future, malformed or not finite."""

    name: ClassVar[str] = "measured_state"
    stage: ClassVar[Stage] = Stage.VALUES

    def __call__(self, chunk: ActionChunk, rows: FloatArray, context: Context) -> Reason | None:
        """See Check."""
        state, config, joints = context.state, context.config, context.spec.joints
        age = (context.now - state.stamp) / 1e9
        if age > config.max_state_age:
            return Reason(self.name, -1, "stamp", age, config.max_state_age)
        if age < -config.max_future:
            return Reason(self.name, -1, "stamp", age, -config.max_future, "from the future")
        vectors = {"positions": state.positions, "velocities": state.velocities}
        if context.commanded is not None:
            vectors["commanded"] = context.commanded
        for field, vector in vectors.items():
            if getattr(vector, "dtype", None) != np.float64:
                return Reason(self.name, -1, field, float("nan"), 0.0, "expected a float64 array")
            if np.shape(vector) != (len(joints),):
                return Reason(self.name, -1, field, float(np.size(vector)), float(len(joints)), "values")
            if not np.isfinite(vector).all():
                joint = joints[int(np.argmin(np.isfinite(vector)))]
                return Reason(self.name, -1, joint, float("nan"), 0.0, f"{field} not finite")
        if not np.isfinite(state.gripper):
            return Reason(self.name, -1, "gripper", float("nan"), 0.0, "not finite")
        return None
