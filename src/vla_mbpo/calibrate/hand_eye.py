"""Where a camera is on the robot, from views of a board at known tool poses.

Camera on the tool, board in the room: tool_i * camera * board_i is the same board pose, base frame, in every view.
Camera in the room, board on the tool: the same with the inverse tool poses, and a board pose in the tool's frame.
OpenCV's closed solution is the start; what is reported minimises the reprojection error of all corners.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from vla_mbpo.calibrate.board import Board, FloatArray, View
from vla_mbpo.calibrate.intrinsics import OUTLIER, OUTLIER_PX, ROUNDS, Lens
from vla_mbpo.calibrate.poses import from_vector, inverse, to_vector
from vla_mbpo.core.errors import ConfigError, require

LEAST_VIEWS = 5
LEAST_TURN = 5.0  # deg; tool poses that differ by less say nothing about where an axis is
LEAST_SECOND_AXIS = 0.15  # share of the turns' axes that is not along their main one
ROBUST_PX = 1.0  # reprojection errors beyond count less than their square


@dataclass(frozen=True)
class HandEye:
    """A camera's place and how well it is known.

    Attributes:
        camera: pose of the optical frame in the tool's frame (camera on the tool) or the base frame, (4, 4) [m].
        target: pose of the board in the base frame (camera on the tool) or the tool's frame, (4, 4) [m].
        errors: root mean square of the reprojection error in each view [px], (n,).
        used: views that went in, (n,); the others are outliers.
        rms: of the views used [px].
        sigma: standard errors of the camera's rotation [deg] and position [m], (2,), if the lens is right.
        distance: of the board's middle from the camera, mean of the views used [m].
    """

    camera: FloatArray
    target: FloatArray
    errors: FloatArray
    used: NDArray[np.bool_]
    rms: float
    sigma: FloatArray
    distance: float

    def sigma_with(self, focal_sigma: float, axis_sigma: float) -> tuple[float, float]:
        """``sigma`` for a lens with these errors: the axis' [deg] turns the camera, the length's moves it."""
        turn, place = self.sigma
        return float(np.hypot(turn, axis_sigma)), float(np.hypot(place, focal_sigma * self.distance))


def solve(board: Board, lens: Lens, views: Sequence[View], tools: FloatArray, in_hand: bool) -> HandEye:
    """Find the camera. ``tools``: tool pose of each view, base frame, (n, 4, 4) [m].

    Raises:
        ConfigError: pictures of another size than the intrinsics, too few views, or too little turning.
    """
    width, height = lens.size
    odd = sorted({view.size for view in views} - {lens.size})
    require(not odd, "pictures", odd, f"{width}x{height}, as the intrinsics are for")
    carriers = tools if in_hand else inverse(tools)
    found = [lens.board(board, view) for view in views]
    used = np.array([one is not None for one in found])
    boards = np.array([one[0] if one is not None else np.eye(4) for one in found]).reshape(-1, 4, 4)
    x, used = _robust(board, lens, views, carriers, boards, used)
    chosen = [view for view, use in zip(views, used, strict=True) if use]
    # Without outliers plain squares, of which the standard errors are known.
    fit = least_squares(_residuals, x, x_scale="jac", args=_arguments(board, lens, chosen, carriers[used]))
    errors = _errors(board, lens, views, carriers, fit.x)
    rms = float(np.sqrt(np.mean(errors[used] ** 2)))
    sigma = _sigma(fit.jac, fit.fun, np.array([len(view.ids) for view in chosen]))
    middle = np.r_[board.corners.mean(axis=0), 1.0]
    distance = float(np.linalg.norm((boards[used] @ middle)[:, :3], axis=1).mean())
    return HandEye(from_vector(fit.x[:6]), from_vector(fit.x[6:]), errors, used, rms, sigma, distance)


def _robust(
    board: Board, lens: Lens, views: Sequence[View], carriers: FloatArray, boards: FloatArray, used: NDArray[np.bool_]
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Camera and target, (12,), that large errors hardly move, and which of the ``used`` views fit them."""
    for round_ in range(1, ROUNDS + 1):
        require(int(used.sum()) >= LEAST_VIEWS, "views", int(used.sum()), f"at least {LEAST_VIEWS} that fit each other")
        require_turning(carriers[used])
        arguments = _arguments(board, lens, [v for v, use in zip(views, used, strict=True) if use], carriers[used])
        start = _start(carriers[used], boards[used])
        x = least_squares(_residuals, start, loss="huber", f_scale=ROBUST_PX, x_scale="jac", args=arguments).x
        errors = _errors(board, lens, views, carriers, x)
        outliers = used & (errors > OUTLIER * np.median(errors[used])) & (errors > OUTLIER_PX)
        if round_ == ROUNDS or not outliers.any():
            break  # the checks above are of the views used
        used = used & ~outliers
    return x, used


def require_turning(tools: FloatArray) -> None:
    """ConfigError unless the tool turned about at least two axes: of one alone the camera's place does not follow."""
    first, second = np.triu_indices(len(tools), 1)
    turns = Rotation.from_matrix(tools[first, :3, :3].swapaxes(-1, -2) @ tools[second, :3, :3])
    vectors, angles = turns.as_rotvec(), turns.magnitude()
    wide = angles > np.radians(LEAST_TURN)
    require(bool(wide.any()), "tool poses", f"turned by {np.degrees(angles.max()):.1f} deg", "turn the tool by 30 deg")
    axes = vectors[wide] / angles[wide, None]
    shares = np.linalg.svd(axes, compute_uv=False) / np.sqrt(len(axes))
    text = f"turned about one axis only, {shares[1]:.2f} about others"
    require(bool(shares[1] > LEAST_SECOND_AXIS), "tool poses", text, "turn the tool about two axes, 30 deg each")


def _start(carriers: FloatArray, boards: FloatArray) -> FloatArray:
    """Camera and target, (12,), by Park and Martin's method."""
    try:
        turn, place = cv2.calibrateHandEye(
            list(carriers[:, :3, :3]), list(carriers[:, :3, 3]), list(boards[:, :3, :3]), list(boards[:, :3, 3]),
            method=cv2.CALIB_HAND_EYE_PARK,
        )  # fmt: skip
    except cv2.error as error:
        raise ConfigError("views", len(boards), f"more turning of the tool ({' '.join(str(error).split())})") from None
    camera = np.eye(4)
    camera[:3, :3], camera[:3, 3] = turn, np.asarray(place).ravel()
    require(bool(np.isfinite(camera).all()), "views", len(boards), "views with more turning of the tool")
    targets = carriers @ camera @ boards
    turned = Rotation.from_matrix(targets[:, :3, :3]).mean().as_rotvec()
    return np.r_[to_vector(camera), turned, np.median(targets[:, :3, 3], axis=0)]


def _arguments(board: Board, lens: Lens, views: list[View], carriers: FloatArray) -> tuple[FloatArray, ...]:
    """For each corner of all views: its point (N, 4), inverse carrier (N, 4, 4), undistorted pixel (N, 2); the lens."""
    points = np.concatenate([board.corners[view.ids] for view in views])
    points = np.c_[points, np.ones(len(points))]
    behind = np.repeat(inverse(carriers), [len(view.ids) for view in views], axis=0)
    return points, behind, np.concatenate([lens.undistorted(view.pixels) for view in views]), lens.matrix


def _residuals(
    x: FloatArray, points: FloatArray, behind: FloatArray, pixels: FloatArray, matrix: FloatArray
) -> FloatArray:
    """Reprojection errors (2 N,) [px]."""
    eye, target = inverse(from_vector(x[:6])), from_vector(x[6:])
    seen = np.einsum("nij,nj->ni", behind, points @ target.T) @ eye.T
    depth = np.maximum(seen[:, 2], 1e-3)
    flat = (seen[:, :3] / depth[:, None]) @ matrix.T
    return (flat[:, :2] - pixels).ravel()


def _errors(board: Board, lens: Lens, views: Sequence[View], carriers: FloatArray, x: FloatArray) -> FloatArray:
    """Root mean square of the reprojection error in each view [px], (n,)."""
    found = []
    for view, carrier in zip(views, carriers, strict=True):
        errors = _residuals(x, *_arguments(board, lens, [view], carrier[None]))
        found.append(np.sqrt(2.0 * np.mean(errors**2)))
    return np.array(found)


def _sigma(jacobian: FloatArray, residuals: FloatArray, corners: FloatArray) -> FloatArray:
    """Standard errors of rotation [deg] and position [m] of the camera, (2,). ``corners``: of each view, (n,).

    Views err independently of each other, corners of one view need not: where a tool pose is wrong, they err together.
    """
    n = len(corners)
    begins = np.r_[0, np.cumsum(2 * corners)[:-1]]
    pulls = np.add.reduceat(jacobian * residuals[:, None], begins, axis=0)
    inverted = np.linalg.pinv(jacobian.T @ jacobian)
    covariance = inverted @ (pulls.T @ pulls) @ inverted * n / (n - 2)  # a view gives 6 numbers, 12 are sought
    sigmas = np.sqrt(np.diag(covariance)[:6])
    return np.array([np.degrees(np.linalg.norm(sigmas[:3])), np.linalg.norm(sigmas[3:])])
