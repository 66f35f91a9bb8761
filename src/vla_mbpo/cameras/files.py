"""A video or a folder of pictures in place of a camera, for dry runs: every frame is stamped when it is shown."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from vla_mbpo.cameras.source import Frame, Opened
from vla_mbpo.cameras.v4l2 import library
from vla_mbpo.core.errors import ConfigError, require

PERIOD = 1 / 30  # s, from the end of a recording to its beginning where its only picture does not tell
PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
Picture = NDArray[np.uint8]
Timed = tuple[float, Picture]  # s since the first one; RGB (height, width, 3) uint8


class Player:
    """Shows pictures at their times, once or for ever. One thread; methods of ``Source``."""

    def __init__(
        self,
        name: str,
        frames: Callable[[], Iterator[Timed]],
        loop: bool,
        now: Callable[[], int],
        period: float = PERIOD,
    ) -> None:
        """Show what ``frames`` gives out, as often as it is called.

        Args:
            name: for /diagnostics.
            frames: pictures and their times; may raise ConfigError.
            loop: begin again at the end.
            now: node's clock [ns], for stamps.
            period: from the last picture to the first, if there is only one [s].
        """
        self._name, self._make, self._loop, self._now, self._nominal = name, frames, loop, now, period
        self._frames: Iterator[Timed] = iter(())
        self._next: Timed | None = None
        self._began, self._rounds = 0.0, 0
        self._period = period  # s, the last one between two pictures

    def open(self) -> Opened:
        """Read the first picture. Raises ConfigError when there is none."""
        self._begin()
        require(self._next is not None, "file", self._name, "expected at least one picture")
        assert self._next is not None
        height, width, _ = self._next[1].shape
        return Opened(width, height)

    def read(self, timeout: float) -> Frame | None:
        """The next picture when its time has come; never again one after the end, unless in a loop."""
        if self._next is None:
            time.sleep(timeout)
            return None
        at, picture = self._next
        wait = self._began + at - time.monotonic()
        if wait > timeout:
            time.sleep(timeout)
            return None
        time.sleep(max(wait, 0.0))
        stamp = self._now()
        self._next = next(self._frames, None)
        if self._next is not None:
            self._period = self._next[0] - at or self._period
        elif self._loop:
            self._begin(at + self._period)
        return Frame(stamp, picture)

    def close(self) -> None:
        """Forget the pictures, and when the first one was shown."""
        self._frames, self._next = iter(()), None
        self._rounds, self._period = 0, self._nominal

    def report(self) -> dict[str, object]:
        """Values for /diagnostics; any thread."""
        return {"file": self._name, "rounds": self._rounds, "ended": self._rounds > 0 and self._next is None}

    def _begin(self, after: float = 0.0) -> None:
        self._began = self._began + after if self._rounds else time.monotonic()
        self._rounds += 1
        self._frames = self._make()
        self._next = next(self._frames, None)


def file_source(path: str, loop: bool, fps: int, now: Callable[[], int]) -> Player:
    """A video at its own rate, or the pictures of a folder in the order of their names at ``fps``.

    Raises:
        ConfigError: there is no such file, or no picture in the folder.
    """
    found = Path(path).expanduser()
    require(bool(path) and found.exists(), "file.path", path, "expected a video or a folder of pictures")
    if not found.is_dir():
        return Player(str(found), lambda: _video(found), loop, now, 1 / fps)
    pictures = sorted(entry for entry in found.iterdir() if entry.suffix.lower() in PICTURES)
    require(bool(pictures), "file.path", path, f"expected pictures in it ({', '.join(PICTURES)})")
    return Player(str(found), lambda: _folder(pictures, fps), loop, now, 1 / fps)


def _folder(pictures: list[Path], fps: int) -> Iterator[Timed]:
    for count, path in enumerate(pictures):
        try:
            with Image.open(path) as picture:
                yield count / fps, np.asarray(picture.convert("RGB"))
        except (OSError, UnidentifiedImageError) as error:
            raise ConfigError("file.path", str(path), f"expected a picture ({error})") from None


def _video(path: Path) -> Iterator[Timed]:
    av, first = library("file"), None
    try:
        with av.open(str(path)) as container:
            require(bool(container.streams.video), "file.path", str(path), "expected a video")
            for count, frame in enumerate(container.decode(video=0)):
                at = frame.time if frame.time is not None else count / float(container.streams.video[0].average_rate)
                first = at if first is None else first
                yield at - first, frame.to_ndarray(format="rgb24")
    except av.error.FFmpegError as error:
        raise ConfigError("file.path", str(path), f"expected a video ({error.strerror or error})") from None
