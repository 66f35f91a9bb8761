"""What a camera node reads from: a device, a file or the simulator."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Frame:
    """One image.

    Attributes:
        stamp: time of exposure [ns].
        image: RGB (height, width, 3) uint8.
    """

    stamp: int
    image: NDArray[np.uint8]


class Source(Protocol):
    """A camera. All methods are called from one thread."""

    def open(self) -> None:
        """Start. Raises ConfigError or OSError when the camera cannot be used."""

    def read(self, timeout: float) -> Frame | None:
        """The next frame, or None when none came within ``timeout`` seconds."""

    def close(self) -> None:
        """Stop and free what ``open`` took."""
