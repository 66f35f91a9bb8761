"""What a camera node reads from: a device, a file, a recording or the simulator."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.cameras.calibration import Calibration


class Lost(OSError):
    """The camera went away while it was read, and may come back."""


@dataclass(frozen=True)
class Frame:
    """One image.

    Attributes:
        stamp: time of exposure [ns].
        image: RGB (height, width, 3) uint8.
        depth: along the optical axis [mm], 0 where unknown, (height, width) uint16, in the image's own pixels; or None.
    """

    stamp: int
    image: NDArray[np.uint8]
    depth: NDArray[np.uint16] | None = None


@dataclass(frozen=True)
class Opened:
    """What ``Source.open`` found.

    Attributes:
        width, height: of the frames [px].
        calibration: the device's own, for such frames; None if it has none.
        serial: what tells the device from others of its kind; empty where that is not known.
    """

    width: int
    height: int
    calibration: Calibration | None = None
    serial: str = ""


class Source(Protocol):
    """A camera. All methods are called from one thread."""

    def open(self) -> Opened:
        """Start, again after ``close``. Raises ConfigError or OSError when the camera cannot be used."""

    def read(self, timeout: float) -> Frame | None:
        """The next frame, or None when none came within ``timeout`` seconds. Raises Lost."""

    def close(self) -> None:
        """Stop and free what ``open`` took; without effect when it took nothing."""

    def report(self) -> dict[str, object]:
        """Values for /diagnostics; any thread."""
