"""Pictures as MP4 and back, frame by frame.

Lossless is H.264 on the RGB planes themselves (profile High 4:4:4 Predictive): PyAV, torchcodec and torchvision decode
it to the same bytes. H.264 without loss on YUV is not enough: the conversion rounds (by up to 1 of 255). Which is why a
browser may not show it; ``lossy`` is what every player knows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import PictureType
from numpy.typing import NDArray

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.record.lerobot.layout import VIDEO
from vla_mbpo.record.lerobot.whole import Parts

# A key frame every half second at 20 Hz: half the bytes of LeRobot's every second frame, 2 ms for any frame at 96 px.
# No frames that refer to later ones: presentation and decoding order are the same, and the first stamp is 0.
_COMMON = {"g": "10", "bf": "0", "preset": "veryfast"}


@dataclass(frozen=True)
class Quality:
    """How pictures are encoded.

    Attributes:
        encoder, given: encoder and the pixel format that it gets.
        options: of the encoder.
        pixels: pixel format in the file.
    """

    encoder: str
    given: str
    options: dict[str, str]
    pixels: str


QUALITIES = {
    "lossless": Quality("libx264rgb", "rgb24", {"qp": "0", **_COMMON}, "gbrp"),
    "lossy": Quality("libx264", "yuv420p", {"crf": "18", **_COMMON}, "yuv420p"),
}
CODEC = "h264"


class Videos:
    """The files of one camera, being written. One thread."""

    def __init__(self, root: Path, key: str, fps: int, quality: Quality, limit: int) -> None:
        """``limit``: how large a file gets [bytes]."""
        self._key, self._fps, self._quality = key, fps, quality
        self._parts = Parts(root, VIDEO.replace("{video_key}", key), limit)
        self._container: av.container.OutputContainer | None = None
        self._count = self._size = 0  # frames and bytes in the file

    def add(self, pictures: Sequence[NDArray[np.uint8]]) -> dict[str, int | float]:
        """Append an episode, (h, w, 3) each. Returns its columns of the table of episodes."""
        if self._parts.full(self._size):
            self._open(*pictures[0].shape[:2])
        begin = self._count
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = self._count, Fraction(1, self._fps)
            if self._count == begin:  # an episode can be read without the one before it
                frame.pict_type = PictureType.I
            self._write(frame)
            self._count += 1
        spans = {"from_timestamp": begin / self._fps, "to_timestamp": self._count / self._fps}
        return {f"videos/{self._key}/{name}": value for name, value in (self._parts.place | spans).items()}

    def close(self) -> None:
        """Write what the encoder holds, and the index."""
        if self._container is not None:
            self._write(None)
            self._container.close()
            self._container = None

    def _open(self, height: int, width: int) -> None:
        self.close()
        self._container = av.open(str(self._parts.path), "w")
        stream = self._container.add_stream(self._quality.encoder, rate=self._fps, options=dict(self._quality.options))
        stream.height, stream.width, stream.pix_fmt = height, width, self._quality.given  # type: ignore[union-attr]
        self._stream, self._count, self._size = stream, 0, 0

    def _write(self, frame: av.VideoFrame | None) -> None:
        assert self._container is not None
        for packet in self._stream.encode(frame):  # type: ignore[union-attr, arg-type]
            self._container.mux(packet)
            self._size += packet.size


def read_pictures(path: Path, fps: int, wanted: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Frames of a file by their numbers, which rise: (len(wanted), h, w, 3).

    Raises:
        ConfigError: the file has no such frame, or is no video.
    """
    left, found = [int(number) for number in wanted], []
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            base = stream.time_base or Fraction(1, fps)
            container.seek(int(Fraction(left[0], fps) / base), stream=stream)  # to the key frame before it
            for frame in container.decode(stream):
                number = round((frame.pts or 0) * base * fps)
                if left and number == left[0]:
                    found.append(frame.to_ndarray(format="rgb24"))
                    left.pop(0)
                if not left:
                    break
    except (av.FFmpegError, OSError, IndexError) as error:
        raise ConfigError("video", str(path), f"expected an MP4 file: {error}") from None
    require(not left, "video", str(path), f"expected frame {left[0] if left else ''} in it")
    return np.stack(found)
