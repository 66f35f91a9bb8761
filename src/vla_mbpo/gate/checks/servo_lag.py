"""The arm follows its commands."""

from typing import ClassVar

import numpy as np

from vla_mbpo.core.chunk import ActionChunk
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.checks.check import Context, FloatArray, Stage, exceeds


class ServoLag:
    """Refuses all motion while measured and commanded pose disagree by more than servos lag.

    That happens when the arm is held by a person or pressed against something, or when somebody else commands it.
    """

    name: ClassVar[str] = "servo_lag"
    stage: ClassVar[Stage] = Stage.ROWS

    def __call__(self, chunk: ActionChunk, rows: FloatArray, context: Context) -> Reason | None:
        """See Check."""
        if context.commanded is None:
            return None
        config, state = context.config, context.state
        limit = config.servo_lag + config.servo_delay * np.abs(state.velocities)
        return exceeds(self.name, -1, np.abs(context.commanded - state.positions), limit, context)
