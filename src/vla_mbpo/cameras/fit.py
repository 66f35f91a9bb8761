"""From a camera's pictures to what the stack looks at: square, in the policy's size, with intrinsics to match."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vla_mbpo.cameras.calibration import Calibration
from vla_mbpo.cameras.source import Frame
from vla_mbpo.core.errors import require


def square(frame: Frame, size: int) -> Frame:
    """The square in the middle of a frame, ``size`` px wide. A frame that is so already is given back itself."""
    height, width, _ = frame.image.shape
    if height == width == size:
        return frame
    x, y, edge = _middle(width, height)
    image = np.ascontiguousarray(frame.image[y : y + edge, x : x + edge])
    if edge != size:  # area average when it gets smaller: no aliasing, and a fraction of a millisecond
        kind = Image.Resampling.BOX if edge > size else Image.Resampling.BILINEAR
        image = np.asarray(Image.fromarray(image).resize((size, size), kind))
    depth = None if frame.depth is None else _nearest(frame.depth[y : y + edge, x : x + edge], size)
    return Frame(frame.stamp, image, depth)


def fitted(calibration: Calibration, width: int, height: int, size: int) -> Calibration:
    """The calibration of frames that ``square`` made of frames of ``width`` x ``height``.

    ``calibration`` is for frames as the camera delivers them, or for square ones of any size that ``square`` made.

    Raises:
        ConfigError: it is for others.
    """
    mine = (calibration.width, calibration.height)
    fits = mine == (width, height) or mine[0] == mine[1]
    valid = f"the camera delivers {width}x{height}: that, or a square cut of it"
    require(fits, "calibration size", f"{mine[0]}x{mine[1]}", valid)
    x, y, edge = _middle(*mine)
    scale = size / edge
    k, p = np.reshape(calibration.k, (3, 3)).copy(), np.reshape(calibration.p, (3, 4)).copy()
    for matrix in (k, p):  # whole numbers are the middles of pixels
        matrix[:2] *= scale
        if matrix[0, 0]:
            matrix[0, 2] += scale * (0.5 - x) - 0.5
            matrix[1, 2] += scale * (0.5 - y) - 0.5
    return replace(calibration, width=size, height=size, k=tuple(k.ravel().tolist()), p=tuple(p.ravel().tolist()))


def unknown(width: int, height: int) -> Calibration:
    """What sensor_msgs/CameraInfo says of a camera that was never calibrated: zeros."""
    return Calibration("", width, height, "", (), (0.0,) * 9, (0.0,) * 9, (0.0,) * 12)


def _middle(width: int, height: int) -> tuple[int, int, int]:
    edge = min(width, height)
    return (width - edge) // 2, (height - edge) // 2, edge


def _nearest(depth: NDArray[np.uint16], size: int) -> NDArray[np.uint16]:
    """Not averaged: half way between an object and the wall behind it there is nothing."""
    index = ((np.arange(size) + 0.5) * len(depth) / size).astype(int)
    return depth[np.ix_(index, index)]
