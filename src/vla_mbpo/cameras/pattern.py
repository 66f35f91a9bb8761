"""A test pattern in place of a camera, for dry runs: grey bars that travel, so that no two pictures are the same."""

from collections.abc import Callable, Iterator

import numpy as np

from vla_mbpo.cameras.files import Player, Timed

PERIOD, TRAVEL = 64, 3  # px from bar to bar; px per picture


def pattern_source(width: int, height: int, fps: int, now: Callable[[], int]) -> Player:
    """Pictures of (height, width) at ``fps``, without end; ``now``: node's clock [ns], for stamps."""
    return Player("test pattern", lambda: _pictures(width, height, fps), False, now)


def _pictures(width: int, height: int, fps: int) -> Iterator[Timed]:
    columns, fall, count = np.arange(width), np.linspace(0.3, 1.0, height)[:, None], 0
    while True:
        wave = 0.5 + 0.5 * np.sin(2 * np.pi * (columns + TRAVEL * count) / PERIOD)
        grey = (40 + 200 * fall * wave).astype(np.uint8)
        yield count / fps, np.repeat(grey[:, :, None], 3, axis=2)
        count += 1
