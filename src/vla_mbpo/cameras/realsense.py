"""An Intel RealSense camera, or a recording of one."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla_mbpo.cameras import librealsense as lib
from vla_mbpo.cameras.source import Frame, Lost, Opened
from vla_mbpo.cameras.stamps import Stamps
from vla_mbpo.core.errors import ConfigError, require

SILENT = 0.4  # s without a frame before it is asked whether the camera is still there
STUCK, BEGINNING = 1.0, 5.0  # s without a frame, or without the first one, after which a camera is opened anew
_QUEUE = 4  # frames; a process that was busy for longer gets the newest, and those that it missed are counted
_BUSY = ("busy", "errno=16", "is streaming", "already opened", "power state")


@dataclass(frozen=True)
class RealSenseSettings:
    """What is asked of the camera.

    Attributes:
        serial: number on the camera; empty: the only one there is.
        file: a recording to be played in place of a camera; empty: none.
        width, height, fps: of the colour stream, and of depth.
        exposure: of the colour sensor [us]; 0: automatic.
        depth: with depth, aligned to colour.
        latency: least time from exposure to arrival [ns], for stamps of the device's own clock.
    """

    serial: str = ""
    file: str = ""
    width: int = 640
    height: int = 480
    fps: int = 30
    exposure: int = 0
    depth: bool = False
    latency: int = 0


class RealSenseSource:
    """Colour, and depth in the same pixels. Frames carry the camera's stamps on the node's clock (see ``stamps``)."""

    def __init__(self, settings: RealSenseSettings, now: Callable[[], int]) -> None:
        """``now``: node's clock [ns]."""
        self._settings, self._now = settings, now
        self._context: Any = None
        self._pipeline: Any = None
        self._serial = ""
        self._stamps = Stamps()
        self._number = -1  # of the last frame
        self._missed, self._last = 0, 0.0  # frames; steady time of the last new one [s]

    def open(self) -> Opened:
        """Start the streams.

        Raises:
            ConfigError: no library, no such camera (the error names those there are), it is in use, or it has no such
                mode or exposure.
        """
        rs = lib.library()
        if self._context is None:
            self._context = lib.new_context()
        config = rs.config()
        if self._settings.file:
            path = Path(self._settings.file).expanduser()
            require(path.is_file(), "realsense.file", str(path), "expected a recording of librealsense")
            rs.config.enable_device_from_file(config, str(path), False)
        else:
            self._serial = self._chosen()
            config.enable_device(self._serial)
            mode = (self._settings.width, self._settings.height)
            config.enable_stream(rs.stream.color, *mode, rs.format.rgb8, self._settings.fps)
            if self._settings.depth:
                config.enable_stream(rs.stream.depth, *mode, rs.format.z16, self._settings.fps)
        profile = self._start(config)
        if not self._settings.file:
            try:
                lib.prepare(lib.colour_sensor(profile.get_device()), self._settings.exposure)
            except BaseException:
                self.close()
                raise
        self._align = rs.align(rs.stream.color) if self._settings.depth else None
        self._stamps, self._number, self._last = Stamps(self._settings.latency), -1, time.monotonic()
        stream = profile.get_stream(rs.stream.color).as_video_stream_profile()
        return Opened(stream.width(), stream.height(), lib.factory(stream, self._serial), self._serial)

    def read(self, timeout: float) -> Frame | None:
        """The next frame, or None. Raises Lost."""
        try:
            there, found = self._frames.try_wait_for_frame(round(1e3 * timeout))
            frame = self._frame(found.as_frameset()) if there else None
        except RuntimeError as error:
            raise Lost(lib.one_line(error)) from None
        if frame is None:
            self._check_presence()
        return frame

    def close(self) -> None:
        """Stop the streams."""
        if self._pipeline is not None:
            with suppress(RuntimeError):  # the camera may be gone
                self._pipeline.stop()
        self._pipeline = None

    def report(self) -> dict[str, object]:
        """Values for /diagnostics; any thread."""
        stamps = self._stamps
        return {
            "serial": self._serial,
            "clock": stamps.clock,
            "frames_missed": self._missed,
            "stamps_refused": stamps.refused,
        }

    def _chosen(self) -> str:
        rs, there = lib.library(), {}
        for device in self._context.query_devices():
            with suppress(RuntimeError):  # it goes away at this moment
                there[device.get_info(rs.camera_info.serial_number)] = device.get_info(rs.camera_info.name)
        names = ", ".join(f"{serial} ({name})" for serial, name in there.items()) or "none"
        wanted = self._settings.serial
        if not wanted:
            require(len(there) == 1, "realsense.serial", wanted, f"name one of the cameras that are there: {names}")
            return next(iter(there))
        require(wanted in there, "realsense.serial", wanted, f"cameras that are there: {names}")
        return wanted

    def _start(self, config: Any) -> Any:
        rs, settings = lib.library(), self._settings
        self._pipeline, self._frames = rs.pipeline(self._context), rs.frame_queue(_QUEUE)
        try:
            # Into a queue: a pipeline that is waited on starts itself anew after an unplug, with another clock.
            return self._pipeline.start(config, self._frames)
        except RuntimeError as error:
            self._pipeline, text = None, lib.one_line(error)
        if settings.file:
            raise ConfigError("realsense.file", settings.file, f"expected a recording with colour ({text})")
        if "resolve" in text:
            mode = f"{settings.width}x{settings.height} at {settings.fps}"
            raise ConfigError("width, height, fps", mode, f"camera {self._serial} has: {self._modes()}")
        if any(word in text.lower() for word in _BUSY):
            what = "a camera that nothing else uses: end the program that has it (`fuser -v /dev/video*`), or replug it"
            raise ConfigError("realsense.serial", self._serial, f"{what} ({text})")
        raise OSError(f"camera {self._serial}: {text}")

    def _modes(self) -> str:
        rs, found = lib.library(), set()
        for device in self._context.query_devices():
            if device.get_info(rs.camera_info.serial_number) == self._serial:
                profiles = [p for sensor in device.query_sensors() for p in sensor.get_stream_profiles()]
                colour = [p.as_video_stream_profile() for p in profiles if p.stream_type() == rs.stream.color]
                found |= {(p.width(), p.height(), p.fps()) for p in colour}
        return ", ".join(f"{width}x{height} at {fps}" for width, height, fps in sorted(found)) or "no colour stream"

    def _check_presence(self) -> None:
        silent = time.monotonic() - self._last
        if silent < SILENT:
            return
        if self._settings.file:
            if "stopped" in str(self._pipeline.get_active_profile().get_device().as_playback().current_status()):
                raise Lost("the recording is at its end")
            return
        try:
            self._chosen()
        except ConfigError as error:
            raise Lost(str(error)) from None
        if silent > (STUCK if self._number >= 0 else BEGINNING):
            raise Lost(f"{self._serial} is there and delivers nothing")

    def _frame(self, frames: Any) -> Frame | None:
        arrival, steady = self._now(), time.monotonic_ns()
        colour = frames.get_color_frame()
        if not colour:
            return None
        number = colour.get_frame_number()
        if number > self._number:  # with depth, framesets go on with the last colour frame when colour is dead
            self._last = steady / 1e9
        self._missed += max(number - self._number - 1, 0) if self._number >= 0 else 0
        self._number = number
        raw = round(1e6 * colour.get_timestamp())
        own = "hardware" in str(colour.get_frame_timestamp_domain()) or bool(self._settings.file)
        stamp = self._stamps.stamp(raw, not own, arrival, steady)
        if stamp is None:
            return None
        depth = None
        if self._align is not None:
            depth = lib.millimetres(self._align.process(frames).get_depth_frame())
        return Frame(stamp, np.array(colour.get_data()), depth)  # a copy: librealsense has few frames to lend
