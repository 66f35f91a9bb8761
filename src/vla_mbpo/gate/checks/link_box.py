"""The moving links stay in their box."""

from typing import ClassVar

import numpy as np

from vla_mbpo.core.chunk import ActionChunk
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.checks.check import Context, FloatArray, Stage


class LinkBox:
    """Refuses rows in which any part of a moving link leaves the box for links."""

    name: ClassVar[str] = "link_box"
    stage: ClassVar[Stage] = Stage.GEOMETRY

    def __call__(self, chunk: ActionChunk, rows: FloatArray, context: Context) -> Reason | None:
        """See Check."""
        spec, kinematics = context.spec, context.placed(rows)
        low, high = kinematics.bounds()
        outside = np.maximum(spec.links_lower - low, high - spec.links_upper).max(axis=2)
        found = context.beyond(outside)
        if found is None:
            return None
        index, link = found
        note = " ".join(filter(None, ("m outside", context.note(index))))
        return Reason(self.name, context.row_of(index), kinematics.links[link], float(outside[found]), 0.0, note)
