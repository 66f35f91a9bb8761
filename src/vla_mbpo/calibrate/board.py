"""A ChArUco board: how it looks, and finding its corners in a picture."""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.errors import require

FloatArray = NDArray[np.float64]
LEAST_CORNERS = 8  # of a view that counts


@dataclass(frozen=True)
class View:
    """The board in one picture.

    Attributes:
        ids: numbers of the inner corners that were found, (n,).
        pixels: where they are, (n, 2), x to the right and y down from the centre of the first pixel.
        size: width and height of the picture [px].
    """

    ids: NDArray[np.int64]
    pixels: FloatArray
    size: tuple[int, int]


@dataclass(frozen=True)
class Board:
    """Size of a printed board. Its frame: origin at the first square's outer corner, x right, y down, z into it.

    Attributes:
        columns, rows: squares.
        square, marker: edges [m].
        dictionary: name of the OpenCV marker dictionary.
    """

    columns: int = 11
    rows: int = 7
    square: float = 0.025
    marker: float = 0.015  # markers nearer to the corners pull at what is found there: 0.57 px at 0.72 of a square
    dictionary: str = "DICT_4X4_50"

    def __post_init__(self) -> None:
        """ConfigError naming the field."""
        version = tuple(int(part) for part in cv2.__version__.split(".")[:2])
        fits = "4.14 or a later 4.x: earlier ones find corners half a pixel off; pip install -e '.[calibrate]'"
        require((4, 14) <= version < (5, 0), "OpenCV", cv2.__version__, fits)
        names = [name for name in dir(cv2.aruco) if name.startswith("DICT_")]
        require(3 <= self.columns <= 50, "--columns", self.columns, "3 to 50 squares")
        require(3 <= self.rows <= 50, "--rows", self.rows, "3 to 50 squares")
        require(0.001 <= self.square <= 1.0, "--square", self.square, "0.001 to 1 m")
        require(0 < self.marker < self.square, "--marker", self.marker, f"above 0 and below --square ({self.square:g})")
        require(self.dictionary in names, "--dictionary", self.dictionary, f"one of {', '.join(names)}")
        held, needed = len(self._markers.bytesList), self.columns * self.rows // 2
        require(needed <= held, "--dictionary", self.dictionary, f"one with at least {needed} markers, it has {held}")

    @cached_property
    def corners(self) -> FloatArray:
        """Inner corners, board frame [m], (N, 3)."""
        return np.asarray(self._board.getChessboardCorners(), dtype=np.float64)

    @property
    def extent(self) -> tuple[float, float]:
        """Width and height [m]."""
        return self.columns * self.square, self.rows * self.square

    def image(self, pixels: int) -> NDArray[np.uint8]:
        """The board, (rows * pixels, columns * pixels), grey, without a margin; ``pixels`` per square."""
        size = (self.columns * pixels, self.rows * pixels)
        return np.asarray(self._board.generateImage(size, marginSize=0, borderBits=1), dtype=np.uint8)

    def detect(self, image: NDArray[np.uint8]) -> View | None:
        """The board in a grey picture (h, w); None where too little of it is seen."""
        pixels, ids, _, _ = self._detector.detectBoard(np.ascontiguousarray(image))
        if ids is None or len(ids) < LEAST_CORNERS:
            return None
        ids = np.asarray(ids, dtype=np.int64).ravel()
        seen = self.corners[ids, :2]
        across = np.linalg.svd(seen - seen.mean(axis=0), compute_uv=False)[1]
        if across < 0.5 * self.square:  # all on one line: says nothing about where the board is
            return None
        height, width = image.shape
        return View(ids, np.asarray(pixels, dtype=np.float64).reshape(-1, 2), (width, height))

    @cached_property
    def _markers(self) -> "cv2.aruco.Dictionary":
        return cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, self.dictionary))

    @cached_property
    def _board(self) -> "cv2.aruco.CharucoBoard":
        return cv2.aruco.CharucoBoard((self.columns, self.rows), self.square, self.marker, self._markers)

    @cached_property
    def _detector(self) -> "cv2.aruco.CharucoDetector":
        return cv2.aruco.CharucoDetector(self._board)
