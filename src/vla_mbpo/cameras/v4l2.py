"""A camera that Linux itself has a driver for, such as most with a USB plug, read through FFmpeg."""

import errno
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_mbpo.cameras.source import Frame, Lost, Opened
from vla_mbpo.cameras.stamps import TRUSTED, Stamps
from vla_mbpo.core.errors import ConfigError, require

# FFmpeg's names of what V4L2 calls by four letters.
FORMATS = {"": "", "MJPG": "mjpeg", "YUYV": "yuyv422", "UYVY": "uyvy422", "NV12": "nv12", "H264": "h264"}
_NAMES = Path("/sys/class/video4linux")
LATE = 0.15  # s; a picture that waited longer is passed over, so that one which cannot keep up sees new ones
_WAIT = 5.0  # s that opening may take
_BUSY = "end the program that has it (`fuser -v DEVICE` names it), or replug the camera"


@dataclass(frozen=True)
class V4l2Settings:
    """What is asked of the camera.

    Attributes:
        device: path, or number N of /dev/videoN. Paths in /dev/v4l/by-id stay the same after an unplug.
        width, height, fps: of the pictures.
        fourcc: their encoding, a key of FORMATS; empty: the driver's choice.
        latency: least time from exposure to arrival [ns], for a driver whose stamps are not on the host's clock.
        format: FFmpeg's name of what is read.
    """

    device: str = "0"
    width: int = 640
    height: int = 480
    fps: int = 30
    fourcc: str = ""
    latency: int = 0
    format: str = "v4l2"


class V4l2Source:
    """Frames with the stamps of the kernel's driver, which are on the host's steady clock, or else see ``stamps``."""

    def __init__(self, settings: V4l2Settings, now: Callable[[], int]) -> None:
        """``now``: node's clock [ns]."""
        self._settings, self._now = settings, now
        self._path = f"/dev/video{settings.device}" if settings.device.isdecimal() else settings.device
        self._container: Any = None
        self._frames: deque[Any] = deque()
        self._stamps = Stamps()
        self._on_host: bool | None = None  # whether stamps are on the steady clock
        self._serial = ""
        self._skipped = 0

    def open(self) -> Opened:
        """Start the stream.

        Raises:
            ConfigError: no such device (the error names those there are), it is in use, or it has no such mode.
        """
        settings, av = self._settings, library("v4l2")
        mode = {"video_size": f"{settings.width}x{settings.height}", "framerate": str(settings.fps)}
        if settings.fourcc:
            mode["input_format"] = FORMATS[settings.fourcc]
        asked = mode if settings.format == "v4l2" else {}
        try:
            self._container = av.open(self._path, format=settings.format, options=asked, timeout=(_WAIT, None))
        except av.error.FFmpegError as error:
            raise self._explained(error) from None
        stream = self._container.streams.video[0]
        found = (stream.width, stream.height)
        if found != (settings.width, settings.height):
            self.close()
            valid = f"{self._path} offers {found[0]}x{found[1]} at best"
            raise ConfigError("width, height", mode["video_size"], valid)
        self._packets: Iterator[Any] = self._container.demux(stream)
        self._frames.clear()
        self._stamps, self._on_host = Stamps(settings.latency), None
        self._serial = identity(self._path)
        return Opened(*found, serial=self._serial)

    def read(self, timeout: float) -> Frame | None:
        """The next frame; waits for as long as the driver does. Raises Lost."""
        frame = self._frame()
        if frame is None or frame.is_corrupt:
            return None
        arrival, steady = self._now(), time.monotonic_ns()
        raw = round(1e9 * frame.time) if frame.time is not None else steady
        if self._on_host is None:
            self._on_host = abs(steady - raw) < TRUSTED
        at = arrival - (steady - raw) if self._on_host else raw
        stamp = self._stamps.stamp(at, self._on_host, arrival, steady)
        return None if stamp is None else Frame(stamp, frame.to_ndarray(format="rgb24"))

    def close(self) -> None:
        """Stop."""
        if self._container is not None:
            with suppress(OSError):
                self._container.close()
        self._container = None

    def report(self) -> dict[str, object]:
        """Values for /diagnostics; any thread."""
        stamps = self._stamps
        counts = {"frames_skipped": self._skipped, "stamps_refused": stamps.refused}
        return {"device": self._path, "serial": self._serial, "clock": stamps.clock, **counts}

    def _frame(self) -> Any:
        """The next frame; None after a packet that holds none."""
        if self._frames:
            return self._frames.popleft()
        error = library("v4l2").error
        try:
            packet = next(self._packets)
        except (StopIteration, error.FFmpegError) as fault:
            raise Lost(f"{self._path}: {getattr(fault, 'strerror', None) or 'no more pictures'}") from None
        if self._late(packet):
            self._skipped += 1
            return None
        with suppress(error.InvalidDataError):  # a picture cut short: the next may be whole
            self._frames.extend(packet.decode())
        return self._frames.popleft() if self._frames else None

    def _late(self, packet: Any) -> bool:
        """Whether it waited for so long that it is better not to spend time on it: the kernel keeps many."""
        if not self._on_host or packet.pts is None or self._settings.fourcc == "H264":  # whose pictures need all before
            return False
        return time.monotonic() - float(packet.pts * packet.time_base) > LATE

    def _explained(self, error: Any) -> Exception:
        there = [f"{path} ({name})" for path, name in devices()]
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            return ConfigError("v4l2.device", self._path, f"cameras that are there: {', '.join(there) or 'none'}")
        if error.errno == errno.EBUSY:
            return ConfigError("v4l2.device", self._path, f"a camera that nothing else uses: {_BUSY}")
        if error.errno in (errno.EACCES, errno.EPERM):
            return ConfigError("v4l2.device", self._path, "one that you may read: join the group video")
        if error.errno == errno.EINVAL:
            mode = f"{self._settings.width}x{self._settings.height} at {self._settings.fps} {self._settings.fourcc}"
            hint = f"`v4l2-ctl --device {self._path} --list-formats-ext` lists what the camera has"
            return ConfigError("width, height, fps, v4l2.fourcc", mode.strip(), hint)
        return OSError(f"{self._path}: {error.strerror or error}")


def devices() -> list[tuple[str, str]]:
    """Path and name of each video device there is."""
    return [(f"/dev/{entry.parent.name}", entry.read_text().strip()) for entry in sorted(_NAMES.glob("*/name"))]


def identity(device: str) -> str:
    """What tells a camera from others: the USB device's serial number, or else its name and where it is plugged in.

    ``device``: path. Empty where the system says nothing of it.
    """
    node = _entry(device)
    try:
        place = (node / "device").resolve(strict=True)
    except OSError:
        return ""
    usb = next((folder for folder in (place, *place.parents) if (folder / "idVendor").is_file()), None)
    serial, name = _text(usb / "serial") if usb is not None else "", _text(node / "name")
    return serial or (f"{name} at {(usb or place).name}" if name else "")


def _entry(device: str) -> Path:
    """What the system has on a device, by its number: in a container the host's names are others."""
    try:
        number = os.stat(device).st_rdev
    except OSError:
        number = 0
    if number:
        said = f"{os.major(number)}:{os.minor(number)}"
        found = next((entry.parent for entry in sorted(_NAMES.glob("*/dev")) if _text(entry) == said), None)
        if found is not None:
            return found
    return _NAMES / Path(device).resolve().name


def _text(path: Path) -> str:
    try:
        return " ".join(path.read_text(errors="replace").split())
    except OSError:
        return ""


def library(source: str) -> Any:
    """PyAV. Raises ConfigError where it is not installed."""
    try:
        import av
    except ImportError as error:
        hint = f"PyAV cannot be used ({error}); install it: pip install -e '.[cameras]'"
        raise ConfigError("source", source, hint) from None
    require("v4l2" in " ".join(av.formats_available) or source != "v4l2", "source", source, "a PyAV with v4l2")
    return av
