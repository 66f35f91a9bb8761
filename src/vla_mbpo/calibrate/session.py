"""A calibration in the making: takes views, says how they fit and what is missing, and when there are enough."""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from vla_mbpo.calibrate import hand_eye, intrinsics
from vla_mbpo.calibrate.board import Board, FloatArray, View
from vla_mbpo.calibrate.coverage import LensCoverage, missing_turns
from vla_mbpo.calibrate.hand_eye import HandEye
from vla_mbpo.calibrate.intrinsics import Lens, Solved
from vla_mbpo.core.errors import ConfigError

FOCAL_SIGMA = 0.0015  # standard error of the focal length, as a share of it, that is good enough
AXIS_SIGMA = 0.10  # deg; of the optical axis, that is of the principal point
TURN_SIGMA, PLACE_SIGMA = 0.10, 0.001  # deg, m; of the camera's rotation and position
ANEW = 5  # views after which all is solved again


class Session(Protocol):
    """What guided capture needs. One thread."""

    board: Board

    @property
    def count(self) -> int:
        """Views so far."""

    def take(self, name: str, view: View, tool: FloatArray | None) -> str:
        """Add a view; returns how it fits, in words. ``tool``: pose, base frame, (4, 4), for hand-eye."""

    def wanting(self) -> list[str]:
        """What is still missing, in words; nothing when there are enough views."""


class LensSession:
    """Intrinsics. Attributes: ``views`` so far, with their ``names``."""

    def __init__(self, board: Board, wide: bool = False) -> None:
        self.board, self._wide = board, wide
        self.names: list[str] = []
        self.views: list[View] = []
        self._coverage = LensCoverage()
        self._solved: Solved | None = None
        self._solved_at = 0

    @property
    def count(self) -> int:
        """Views so far."""
        return len(self.views)

    def take(self, name: str, view: View, tool: FloatArray | None = None) -> str:
        """See Session."""
        lens = self._solved.lens if self._solved is not None else Lens.guess(view.size)
        found = lens.board(self.board, view)
        if found is None:
            return f"{len(view.ids)} corners that fit no board before the camera: left out"
        self.names.append(name)
        self.views.append(view)
        self._coverage.add(view, found[0])
        known = f", {found[1]:.2f} px" if self._solved is not None else ""
        return f"{len(view.ids)} corners{known}"

    def solve(self) -> Solved:
        """Of all views so far. ConfigError: see ``intrinsics.solve``."""
        if self._solved is None or self._solved_at != self.count:
            self._solved, self._solved_at = intrinsics.solve(self.board, self.views, self._wide), self.count
        return self._solved

    def wanting(self) -> list[str]:
        """See Session. Solves again after every few views, and when nothing else is missing."""
        missing = self._coverage.missing()
        if missing and self.count - self._solved_at < ANEW:
            return missing
        return missing + _tried(lambda: self._imprecise(self.solve()))

    @staticmethod
    def _imprecise(solved: Solved) -> list[str]:
        found = []
        if solved.focal_sigma > FOCAL_SIGMA:
            found.append(
                f"focal length known to {solved.focal_sigma:.2%} of {FOCAL_SIGMA:.2%}: more near, tilted views"
            )
        if solved.axis_sigma > AXIS_SIGMA:
            found.append(f"optical axis known to {solved.axis_sigma:.2f} of {AXIS_SIGMA:g} deg: more tilted views")
        return found


class HandEyeSession:
    """A camera's place. Attributes: ``views`` and ``tools`` so far, with their ``names``."""

    def __init__(self, board: Board, lens: Lens, in_hand: bool) -> None:
        """``in_hand``: camera on the tool and board in the room; False: the reverse."""
        self.board, self._lens, self._in_hand = board, lens, in_hand
        self.names: list[str] = []
        self.views: list[View] = []
        self.tools: list[FloatArray] = []
        self._solved: HandEye | None = None
        self._solved_at = 0

    @property
    def count(self) -> int:
        """Views so far."""
        return len(self.views)

    def take(self, name: str, view: View, tool: FloatArray | None) -> str:
        """See Session."""
        if tool is None:
            raise ConfigError("pose", name, "a tool pose for each picture")
        self.names.append(name)
        self.views.append(view)
        self.tools.append(tool)
        found = self._lens.board(self.board, view)
        return f"{len(view.ids)} corners, {found[1]:.2f} px by itself" if found else f"{len(view.ids)} corners"

    def solve(self) -> HandEye:
        """Of all views so far. ConfigError: see ``hand_eye.solve``."""
        if self._solved is None or self._solved_at != self.count:
            tools = np.array(self.tools).reshape(-1, 4, 4)
            self._solved = hand_eye.solve(self.board, self._lens, self.views, tools, self._in_hand)
            self._solved_at = self.count
        return self._solved

    def wanting(self) -> list[str]:
        """See Session."""
        missing = missing_turns(self.tools)
        return missing or _tried(lambda: self._imprecise(self.solve()))

    @staticmethod
    def _imprecise(solved: HandEye) -> list[str]:
        turn, place = solved.sigma
        found = []
        if turn > TURN_SIGMA:
            found.append(f"rotation known to {turn:.2f} of {TURN_SIGMA:g} deg: more turning of the tool")
        if place > PLACE_SIGMA:
            found.append(f"position known to {1e3 * place:.1f} of {1e3 * PLACE_SIGMA:g} mm: more turning of the tool")
        return found


def _tried(judge: Callable[[], list[str]]) -> list[str]:
    try:
        return judge()
    except ConfigError as error:
        return [error.valid]
