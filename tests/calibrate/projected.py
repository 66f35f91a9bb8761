"""Views and pictures of a board made by projection, without a renderer: exact, and quick."""

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from vla_mbpo.calibrate.board import Board, View
from vla_mbpo.calibrate.intrinsics import Lens
from vla_mbpo.calibrate.poses import inverse, pose

BOARD = Board()
LENS = Lens(
    np.array([[520.0, 0, 322.0], [0, 523.0, 236.0], [0, 0, 1]]), np.array([-0.08, 0.03, 5e-4, -4e-4, 0]), (640, 480)
)
PINHOLE = Lens(LENS.matrix, np.zeros(5), LENS.size)
MIDDLE = np.array([*BOARD.extent, 0.0]) / 2
CAMERA = pose(Rotation.from_euler("xyz", (0.2, -0.1, 1.5)), np.array([0.06, -0.03, -0.05]))  # in the tool's frame


def turned(rng, degrees=35.0):
    return Rotation.from_euler("xyz", rng.uniform(-degrees, degrees, 3), degrees=True)


def facing(rng, near=0.30, far=0.55):
    """A board before the camera, its middle somewhere in the picture, tilted."""
    distance = rng.uniform(near, far)
    place = distance * np.array([*rng.uniform(-0.15, 0.15, 2), 1.0])
    return pose(turned(rng), place) @ pose(Rotation.identity(), -MIDDLE)


def seen(at, lens=LENS, noise=0.0, rng=None):
    """The view of a board at ``at``, camera frame."""
    points, _ = cv2.projectPoints(BOARD.corners, cv2.Rodrigues(at[:3, :3])[0], at[:3, 3], lens.matrix, lens.distortion)
    pixels = points.reshape(-1, 2)
    ids = np.flatnonzero(((pixels > 0) & (pixels < np.array(lens.size) - 1)).all(axis=1))
    pixels = pixels[ids] + (noise * rng.standard_normal((len(ids), 2)) if noise else 0.0)
    return View(ids, pixels, lens.size)


def picture(at, lens=PINHOLE):
    """Grey picture of a board at ``at`` through a lens without distortion."""
    per_square = 40
    image = cv2.copyMakeBorder(BOARD.image(per_square), *(4 * [per_square]), cv2.BORDER_CONSTANT, value=255)
    scale = BOARD.square / per_square  # the middle of picture pixel i is at (i + 0.5 - per_square) * scale on the board
    to_board = np.array([[scale, 0, (0.5 - per_square) * scale], [0, scale, (0.5 - per_square) * scale], [0, 0, 1]])
    finer = np.array([[3.0, 0, 1.0], [0, 3.0, 1.0], [0, 0, 1]])  # three pixels for one, averaged below
    to_picture = finer @ lens.matrix @ at[:3, [0, 1, 3]] @ to_board
    fine = cv2.warpPerspective(image, to_picture, (3 * lens.size[0], 3 * lens.size[1]), borderValue=90)
    return cv2.resize(fine, lens.size, interpolation=cv2.INTER_AREA)


def arm(rng, n, in_hand=True, camera=CAMERA):
    """Tool poses, and the board in the camera's frame at each: (n, 4, 4) twice. ``camera`` is in the tool's frame.

    Camera in the room: the same geometry seen from the board, so that the robot's side of it is the inverse.
    """
    target = pose(Rotation.from_euler("xyz", (3.0, 0.1, 0.3)), np.array([0.5, 0.05, 0.02]))
    boards = np.array([facing(rng) for _ in range(n)])
    carriers = target @ inverse(boards) @ inverse(camera)
    return (carriers if in_hand else inverse(carriers)), boards
