"""Guided capture without ROS: of a stream of pictures takes those in which everything is still and something is new."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.calibrate.board import FloatArray, View
from vla_mbpo.calibrate.poses import apart
from vla_mbpo.calibrate.session import Session

STILL_PX, STILL_RAD = 0.75, 2e-3  # that corners and joints move by at most from picture to picture
STILL_PICTURES = 4  # in a row
NEW_SHARE = 0.05  # of the picture's width that the board has moved by since any view, or
NEW_TURN, NEW_PLACE = 5.0, 0.02  # deg, m, that the tool has
LOST, MOVING, OLD = "no board in sight", "hold still", "like an earlier view: move on"


class Keeper(Protocol):
    """Where pictures go that were taken."""

    def next_name(self) -> str:
        """What the next one will be called."""

    def add(self, image: NDArray[np.uint8], joints: FloatArray | None) -> str:
        """Keep one, with the joints [rad]. Returns its name."""


class Guide:
    """Offers pictures to a session. One thread."""

    def __init__(self, session: Session, keeper: Keeper) -> None:
        self._session, self._keeper = session, keeper
        self._last: View | None = None
        self._joints: FloatArray | None = None
        self._still = 0
        self._taken: list[tuple[View, FloatArray | None]] = []

    def note(self, view: View, tool: FloatArray | None) -> None:
        """A view that was taken earlier."""
        self._taken.append((view, tool))

    def offer(
        self, image: NDArray[np.uint8], joints: FloatArray | None = None, tool: FloatArray | None = None
    ) -> tuple[bool, str]:
        """A grey picture (h, w), the joints [rad] and tool pose (4, 4) at that moment.

        Returns:
            Whether it was taken, and how it fits or why not.
        """
        view = self._session.board.detect(image)
        steady = view is not None and self._steady(view, joints)
        self._still = self._still + 1 if steady else 0
        self._last, self._joints = view, joints
        if view is None:
            return False, LOST
        if self._still < STILL_PICTURES - 1:
            return False, MOVING
        if not all(_differ(view, tool, *other) for other in self._taken):
            return False, OLD
        before = self._session.count
        text = self._session.take(self._keeper.next_name(), view, tool)
        if self._session.count == before:
            return False, text
        self._taken.append((view, tool))
        return True, f"{self._keeper.add(image, joints)}: {text}"

    def _steady(self, view: View, joints: FloatArray | None) -> bool:
        if self._last is None or (moved := _moved(view, self._last)) is None:
            return False
        if joints is not None and (self._joints is None or np.abs(joints - self._joints).max() > STILL_RAD):
            return False
        return moved <= STILL_PX


def _differ(view: View, tool: FloatArray | None, other: View, other_tool: FloatArray | None) -> bool:
    if tool is not None and other_tool is not None:
        turn, distance = apart(tool, other_tool)
        return turn > NEW_TURN or distance > NEW_PLACE
    moved = _moved(view, other)
    return moved is None or moved > NEW_SHARE * view.size[0]


def _moved(view: View, other: View) -> float | None:
    """Mean distance of the corners that both show [px]; None where that is none."""
    _, mine, theirs = np.intersect1d(view.ids, other.ids, return_indices=True)
    if view.size != other.size or not len(mine):
        return None
    return float(np.linalg.norm(view.pixels[mine] - other.pixels[theirs], axis=1).mean())
