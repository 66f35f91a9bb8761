"""The candidates of the newest chunk set as ways of the tool, with what became of each. No ROS here."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.chunk import ActionChunk
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.verdict import Verdict
from vla_mbpo.gate.conversion import CONVERTIBLE, Converter
from vla_mbpo.gate.kinematics import Kinematics
from vla_mbpo.monitor.verdicts import Verdicts

FloatArray = NDArray[np.float64]
MOST_ROWS = 64  # of one candidate


@dataclass(frozen=True)
class Ribbon:
    """One candidate to be drawn.

    Attributes:
        candidate: its number in the set.
        way: of the tool, base frame [m], (H, 3), finite; a single point where the rows are not numbers.
        verdict: of imagination; UNKNOWN also where it is off.
        chosen: the gate has accepted it.
        refused: why the gate has not, or an empty string.
    """

    candidate: int
    way: FloatArray
    verdict: Verdict
    chosen: bool
    refused: str


class Ways:
    """Tool ways of chunks of any action type. Buffers are reused: one thread."""

    def __init__(self, spec: RobotSpec) -> None:
        """Load the arm's kinematics. Raises ConfigError when the URDF cannot be loaded."""
        self._joints = spec.joints
        self.kinematics = Kinematics(spec)
        self._converter = Converter(spec, CONVERTIBLE)

    def of(self, chunk: ActionChunk) -> FloatArray:
        """Tool positions of its rows, (H, 3) [m]; where it starts, (1, 3), if not all of them are numbers.

        Raises:
            ValueError: rows of another arm, or numbers that lead nowhere.
        """
        if chunk.joint_names != self._joints:
            raise ValueError("rows of another arm")
        if len(chunk.positions) and np.isfinite(chunk.positions).all():
            rows = self._converter.rows(chunk)[:MOST_ROWS]
        else:
            rows = np.asarray(chunk.reference)[None]
        self.kinematics.place(rows)
        way = self.kinematics.tool.copy()
        if not np.isfinite(way).all():
            raise ValueError("the tool's way is not finite")
        return way


def ribbons(chunks: Sequence[ActionChunk], ways: Ways, verdicts: Verdicts) -> list[Ribbon]:
    """What is to be drawn of a chunk set; candidates that lead nowhere are left out."""
    found = []
    for chunk in chunks:
        try:
            way = ways.of(chunk)
        except ValueError:
            continue
        said = verdicts.of(chunk.chunk_set_id, chunk.candidate)
        decision = said.get("decision", "")
        refused = said["why"] if decision.startswith("✗") else ""
        verdict = Verdict[said.get("verdict", "UNKNOWN")]
        found.append(Ribbon(chunk.candidate, way, verdict, decision.startswith("✓"), refused))
    return found
