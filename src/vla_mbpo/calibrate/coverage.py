"""Which views of a board are missing before a calibration can be good."""

from collections.abc import Iterable

import numpy as np
from scipy.spatial.transform import Rotation

from vla_mbpo.calibrate.board import FloatArray, View

CELL_CORNERS = 15  # in each ninth of the picture
TILT, TILTED_VIEWS = 15.0, 2  # deg, and views that have it, to each side
NEAR, FAR = 0.65, 0.50  # share of the picture's width or height that a near view has at least, a far one at most
TURN = 25.0  # deg, between the extreme views, about each axis of the tool
HAND_EYE_VIEWS = 12
_ROWS, _COLUMNS = ("top", "", "bottom"), ("left", "", "right")
_SIDES = ("left", "right", "top", "bottom")


class LensCoverage:
    """What views of a camera have shown."""

    def __init__(self) -> None:
        self._cells = np.zeros((3, 3), dtype=np.int64)
        self._tilts = dict.fromkeys(_SIDES, 0)
        self._near = self._far = False

    def add(self, view: View, board: FloatArray) -> None:
        """``board``: its pose, camera frame, (4, 4); a rough one will do."""
        share = view.pixels / view.size
        column, row = np.clip((3 * share).astype(int), 0, 2).T
        np.add.at(self._cells, (row, column), 1)
        extent = float(np.ptp(share, axis=0).max())
        self._near, self._far = self._near or extent >= NEAR, self._far or extent <= FAR
        x, y, z = board[:3, 2]  # into the board: the side that it leans to is the nearer one
        across, along = np.degrees(np.arctan2((x, y), z))
        for side, angle in zip(_SIDES, (-across, across, -along, along), strict=True):
            self._tilts[side] += angle >= TILT

    def missing(self) -> list[str]:
        """What further views have to show, in words; nothing when all is there."""
        empty = [_place(row, column) for row, column in np.argwhere(self._cells < CELL_CORNERS)]
        flat = [side for side in _SIDES if self._tilts[side] < TILTED_VIEWS]
        found = [f"board at the {', '.join(empty)} of the picture"] if empty else []
        if flat:
            found.append(f"board tilted by {TILT:g} deg or more, nearer at its {', '.join(flat)} as the camera sees it")
        if not self._near:
            found.append(f"near: board over {NEAR:.0%} of the picture")
        if not self._far:
            found.append(f"far: board over at most {FAR:.0%} of the picture")
        return found


def _place(row: int, column: int) -> str:
    return " ".join(filter(None, (_ROWS[row], _COLUMNS[column]))) or "middle"


def missing_turns(tools: Iterable[FloatArray]) -> list[str]:
    """What further tool poses (4, 4) a hand-eye calibration needs, in words."""
    poses = list(tools)
    found = []
    if len(poses) > 1:
        turns = Rotation.from_matrix(np.array(poses)[:, :3, :3])
        spread = np.degrees(np.ptp((turns.mean().inv() * turns).as_rotvec(), axis=0))
        text = [f"{axis} ({had:.0f} of {TURN:g} deg)" for axis, had in zip("xyz", spread, strict=True) if had < TURN]
        if text:
            found.append(f"tool turned about its {', '.join(text)}")
    if len(poses) < HAND_EYE_VIEWS:
        found.append(f"{HAND_EYE_VIEWS - len(poses)} more poses")
    return found
