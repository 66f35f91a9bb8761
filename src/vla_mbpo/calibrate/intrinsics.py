"""Intrinsics of a camera from views of a board (OpenCV)."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vla_mbpo.calibrate.board import Board, FloatArray, View
from vla_mbpo.calibrate.poses import from_vector
from vla_mbpo.cameras.calibration import Calibration
from vla_mbpo.core.errors import ConfigError, require

LEAST_VIEWS = 6
ROUNDS = 10  # fits at most, each without the outliers of the one before
OUTLIER, OUTLIER_PX = 3.0, 1.0  # a view is left out when its error is so many times the median, and above so many px


@dataclass(frozen=True)
class Lens:
    """Pinhole and plumb_bob distortion.

    Attributes:
        matrix: [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] [px]; the centre of the first pixel is 0, 0.
        distortion: k1, k2, p1, p2, k3, (5,); or as many as OpenCV's models of plumb_bob and rational_polynomial have.
        size: width and height [px].
    """

    matrix: FloatArray
    distortion: FloatArray
    size: tuple[int, int]

    @classmethod
    def guess(cls, size: tuple[int, int]) -> "Lens":
        """Good enough to tell how a board is turned before there is a calibration."""
        width, height = size
        matrix = np.array([[width, 0, (width - 1) / 2], [0, width, (height - 1) / 2], [0, 0, 1]], dtype=np.float64)
        return cls(matrix, np.zeros(5), size)

    @classmethod
    def of(cls, known: Calibration) -> "Lens":
        """Of a camera_info file. ConfigError: a model other than plumb_bob or rational_polynomial."""
        models = ("plumb_bob", "rational_polynomial")
        require(known.model in models, "distortion_model", known.model, " or ".join(models))
        distortion = np.array(known.d or (0.0,) * 5)
        require(len(distortion) in (4, 5, 8), "distortion_coefficients", len(distortion), "4, 5 or 8 of them")
        return cls(np.reshape(known.k, (3, 3)), distortion, (known.width, known.height))

    def undistorted(self, pixels: FloatArray) -> FloatArray:
        """Where the pixels (n, 2) would be without distortion [px]."""
        points = pixels.reshape(-1, 1, 2)
        flat = cv2.undistortPoints(points, self.matrix, self.distortion, P=self.matrix)
        return np.asarray(flat, dtype=np.float64).reshape(-1, 2)

    def board(self, board: Board, view: View) -> tuple[FloatArray, float] | None:
        """Pose of the board, camera frame, (4, 4), and its reprojection error [px]; None where there is none."""
        points = board.corners[view.ids]
        # Of the two poses that a plane seen from afar may have, the one that fits better comes first.
        found, turns, places, _ = cv2.solvePnPGeneric(
            points, view.pixels, self.matrix, self.distortion, flags=cv2.SOLVEPNP_IPPE
        )
        if not found:
            return None
        turn, place = cv2.solvePnPRefineLM(points, view.pixels, self.matrix, self.distortion, turns[0], places[0])
        seen, _ = cv2.projectPoints(points, turn, place, self.matrix, self.distortion)
        error = np.sqrt(np.mean(np.sum((np.asarray(seen).reshape(-1, 2) - view.pixels) ** 2, axis=1)))
        return (_matrix(turn, place), float(error)) if place[2, 0] > 0 else None


@dataclass(frozen=True)
class Solved:
    """A calibration and how good it is.

    Attributes:
        lens: what was found.
        boards: pose of the board in each view, camera frame, (n, 4, 4).
        errors: root mean square of the reprojection error in each view [px], (n,).
        used: views that went in, (n,); the others are outliers.
        rms: of the views used [px].
        focal_sigma: standard error of the focal length, as a share of it.
        centre_sigma: standard error of the principal point [px].
    """

    lens: Lens
    boards: FloatArray
    errors: FloatArray
    used: NDArray[np.bool_]
    rms: float
    focal_sigma: float
    centre_sigma: float

    @property
    def axis_sigma(self) -> float:
        """Standard error of the direction of the optical axis [deg]."""
        return float(np.degrees(self.centre_sigma / self.lens.matrix[0, 0]))


def solve(board: Board, views: Sequence[View], wide: bool = False) -> Solved:
    """Calibrate; views that fit much worse than the others are left out.

    ``wide``: find k3, too, which lenses of less than about 90 degrees do not need.

    Raises:
        ConfigError: too few views, of several sizes, or no lens that explains them.
    """
    sizes = {view.size for view in views}
    text = ", ".join(f"{w}x{h}" for w, h in sorted(sizes))
    require(len(sizes) <= 1, "pictures", text, "pictures of one size")
    used = np.ones(len(views), dtype=bool)
    for round_ in range(1, ROUNDS + 1):
        chosen = [view for view, use in zip(views, used, strict=True) if use]
        require(len(chosen) >= LEAST_VIEWS, "views", len(chosen), f"at least {LEAST_VIEWS} that fit each other")
        rms, lens, boards, errors, sigmas = _fit(board, chosen, wide)
        odd = (errors > OUTLIER * np.median(errors)) & (errors > OUTLIER_PX)
        if round_ == ROUNDS or not odd.any():
            break  # boards and errors are of the views used
        used[np.flatnonzero(used)[odd]] = False
    every_board, every_error = np.zeros((len(views), 4, 4)), np.full(len(views), np.inf)
    every_board[used], every_error[used] = boards, errors
    for i in np.flatnonzero(~used).tolist():
        found = lens.board(board, views[i])
        if found is not None:
            every_board[i], every_error[i] = found
    return Solved(lens, every_board, every_error, used, rms, *sigmas)


def _fit(
    board: Board, views: list[View], wide: bool
) -> tuple[float, Lens, FloatArray, FloatArray, tuple[float, float]]:
    points = [board.corners[view.ids].astype(np.float32) for view in views]
    pixels = [view.pixels.astype(np.float32) for view in views]
    flags = 0 if wide else cv2.CALIB_FIX_K3
    # OpenCV asks for arrays and takes none: with no flag for a guess it makes its own.
    nothing: FloatArray = None  # type: ignore[assignment]
    try:
        rms, matrix, distortion, turns, places, sigmas, _, errors = cv2.calibrateCameraExtended(
            points, pixels, views[0].size, nothing, nothing, flags=flags
        )
    except cv2.error as error:
        why = " ".join(str(error).split())
        raise ConfigError("views", len(views), f"views of a tilted board ({why})") from None
    sane = np.isfinite(matrix).all() and np.isfinite(distortion).all() and matrix[0, 0] > 0 and matrix[1, 1] > 0
    require(bool(sane), "views", len(views), "views from which a focal length follows: tilt the board more")
    lens = Lens(np.asarray(matrix, np.float64), np.asarray(distortion, np.float64).ravel()[:5], views[0].size)
    boards = np.array([_matrix(turn, place) for turn, place in zip(turns, places, strict=True)])
    fx, fy, cx, cy = sigmas.ravel()[:4]
    found = float(max(fx / matrix[0, 0], fy / matrix[1, 1])), float(np.hypot(cx, cy))
    return float(rms), lens, boards, np.asarray(errors, np.float64).ravel(), found


def _matrix(turn: object, place: object) -> FloatArray:
    return from_vector(np.r_[np.asarray(turn, np.float64).ravel(), np.asarray(place, np.float64).ravel()])
