"""There is no V4L2 device on a machine for tests: a pipe with motion JPEG stands in for one, read by the same code."""

import errno
import io
import os
import threading
import time
from fractions import Fraction
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

av = pytest.importorskip("av", reason="needs PyAV: `make setup-dev`")

from vla_mbpo.cameras import v4l2  # noqa: E402
from vla_mbpo.cameras.returning import RETRY, Returning  # noqa: E402
from vla_mbpo.cameras.v4l2 import LATE, V4l2Settings, V4l2Source, devices, identity  # noqa: E402
from vla_mbpo.core.errors import ConfigError  # noqa: E402


class Cable:
    """Writes pictures into a named pipe while it is plugged in."""

    def __init__(self, path):
        self._path, self._stop, self._thread = path, threading.Event(), None
        os.mkfifo(path)

    def plug(self, value):
        buffer = io.BytesIO()
        Image.fromarray(np.full((48, 64, 3), value, np.uint8)).save(buffer, "JPEG")
        self._stop.clear()
        self._thread = threading.Thread(target=self._write, args=(buffer.getvalue(),), daemon=True)
        self._thread.start()

    def unplug(self):
        self._stop.set()
        self._thread.join()

    def _write(self, picture):
        with open(self._path, "wb", buffering=0) as out:
            while not self._stop.wait(0.01):
                try:
                    out.write(picture)
                except BrokenPipeError:
                    return


def source(device, **settings):
    return V4l2Source(V4l2Settings(**{"device": str(device), "width": 64, "height": 48, **settings}), time.time_ns)


def until_frame(reading, timeout=10.0):
    until = time.monotonic() + timeout
    while (frame := reading.read(0.1)) is None:
        assert time.monotonic() < until, reading.lost
    return frame


def test_after_an_unplug_it_comes_back_with_new_pictures_only(tmp_path):
    cable = Cable(tmp_path / "camera")
    cable.plug(60)
    reading = Returning(source(tmp_path / "camera", format="mjpeg"))
    opened = reading.open()
    assert (opened.width, opened.height, opened.calibration) == (64, 48, None)
    first = until_frame(reading)
    cable.unplug()
    until = time.monotonic() + 5.0
    while not reading.lost:
        assert time.monotonic() < until
        first = reading.read(0.1) or first
    assert "camera lost" in reading.lost and abs(int(first.image[20, 20, 0]) - 60) < 4
    away = time.time_ns()
    cable.plug(200)
    later = until_frame(reading)
    cable.unplug()
    reading.close()
    assert abs(int(later.image[20, 20, 0]) - 200) < 4 and not reading.lost
    assert first.stamp < away < later.stamp <= time.time_ns()


@pytest.fixture
def plugs(tmp_path, monkeypatch):
    """Plugs cameras in as sysfs shows it: of a name, on a port, with or without a serial number; port empty: no USB."""
    names = tmp_path / "class"
    monkeypatch.setattr(v4l2, "_NAMES", names)

    def plug(node, name, port="", serial=None):
        place = tmp_path / "devices" / "pci0000:00" / ("usb1" if port else "")
        place = place / port / f"{port}:1.0" if port else place / "camera@10"
        place.mkdir(parents=True, exist_ok=True)
        if port:
            for file, text in (("idVendor", "046d"), ("serial", serial)):
                (place.parent / file).unlink(missing_ok=True)
                if text is not None:
                    (place.parent / file).write_text(f"{text}\n")
        (names / node).mkdir(parents=True, exist_ok=True)
        (names / node / "name").write_text(f"{name}\n")
        (names / node / "device").unlink(missing_ok=True)
        (names / node / "device").symlink_to(place)

    return plug


def test_a_camera_is_known_by_its_serial_number_or_by_its_name_and_port(plugs, tmp_path):
    plugs("video0", "Webcam", "1-3", "A1")
    plugs("video1", "Webcam", "1-4.2")
    plugs("video2", "imx219")
    (tmp_path / "by-id").symlink_to("/dev/video0")
    assert identity("/dev/video0") == identity(str(tmp_path / "by-id")) == "A1"
    assert identity("/dev/video1") == "Webcam at 1-4.2" and identity("/dev/video2") == "imx219 at camera@10"
    assert identity("/dev/video9") == ""


def test_in_a_container_a_camera_is_the_one_of_its_number_not_of_its_name(plugs, tmp_path, monkeypatch):
    """Incident (review): /dev/video4 of the host, mapped to /dev/video0, had the serial number of the host's video0."""
    plugs("video0", "Laptop", "1-1", "A1")
    plugs("video4", "Webcam", "1-3", "B2")
    for node, number in (("video0", "81:0"), ("video4", "81:4")):
        (tmp_path / "class" / node / "dev").write_text(f"{number}\n")
    told = Mock(st_rdev=os.makedev(81, 4))
    monkeypatch.setattr(v4l2, "os", Mock(stat=lambda path: told, major=os.major, minor=os.minor))
    assert identity("/dev/video0") == "B2"


def test_another_camera_of_the_same_size_at_the_same_path_is_not_taken(plugs, monkeypatch):
    """Incident: V4L2 cameras had no serial number here, so any of them was the one that had been unplugged."""
    stream, container, clock = Mock(width=64, height=48), Mock(), [0.0]
    container.streams.video, container.demux.side_effect = [stream], lambda _: iter([])
    monkeypatch.setattr(av, "open", lambda *_, **__: container)
    plugs("video0", "Webcam", "1-3", "A1")
    camera = source("0")
    reading = Returning(camera, lambda: clock[0])
    assert reading.open().serial == "A1" == camera.report()["serial"]
    assert reading.read(0.0) is None and "camera lost" in reading.lost
    plugs("video0", "Webcam", "1-3", "B2")
    clock[0] += 2 * RETRY
    assert reading.read(0.0) is None and "another camera came back" in reading.lost


def test_a_camera_that_is_not_there_is_named_with_those_that_are():
    there = ", ".join(f"{path} ({name})" for path, name in devices()) or "none"
    with pytest.raises(ConfigError) as error:
        source("99").open()
    assert str(error.value) == f"v4l2.device: '/dev/video99' is not valid; cameras that are there: {there}"


def test_another_size_than_asked_for_is_refused(tmp_path):
    cable = Cable(tmp_path / "camera")
    cable.plug(60)
    with pytest.raises(ConfigError, match="width, height: '1280x720' is not valid; .*camera offers 64x48"):
        source(tmp_path / "camera", format="mjpeg", width=1280, height=720).open()
    cable.unplug()


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (errno.EBUSY, "v4l2.device: '/dev/video3' is not valid; a camera that nothing else uses: end the program"),
        (errno.EACCES, "v4l2.device: '/dev/video3' is not valid; one that you may read: join the group video"),
        (errno.EINVAL, "fps, v4l2.fourcc: '64x48 at 30 MJPG' is not valid; `v4l2-ctl --device /dev/video3"),
    ],
)
def test_what_the_driver_refuses_is_said_with_what_to_do(monkeypatch, code, text):
    def refuse(*_, **asked):
        assert asked["options"] == {"video_size": "64x48", "framerate": "30", "input_format": "mjpeg"}
        av.error.err_check(-code)

    monkeypatch.setattr(av, "open", refuse)
    with pytest.raises(ConfigError, match=text):
        source("3", fourcc="MJPG").open()


class Packet:
    """A picture that the kernel stamped at ``at``, steady clock [s]."""

    def __init__(self, at):
        self.time, self.pts, self.time_base, self.is_corrupt = at, round(1e6 * at), Fraction(1, 1_000_000), False

    def decode(self):
        return [self]

    def to_ndarray(self, format):
        return np.zeros((48, 64, 3), np.uint8)


@pytest.fixture
def kernel(monkeypatch):
    """Makes a source whose driver has packets of these times."""

    def make(*times):
        stream, container = Mock(width=64, height=48), Mock()
        container.streams.video, container.demux.return_value = [stream], iter([Packet(at) for at in times])
        monkeypatch.setattr(av, "open", lambda *_, **__: container)
        made = source("0")
        made.open()
        return made

    return make


def test_the_kernel_s_stamps_are_on_the_steady_clock_and_become_the_node_s(kernel):
    begin = time.monotonic() - 0.05
    reading, ahead = kernel(begin, begin + 0.03, begin + 0.03), 5 * 10**17 - time.monotonic_ns()
    reading._now = lambda: ahead + time.monotonic_ns()  # a node's clock like no other here
    first, second = reading.read(0.1), reading.read(0.1)
    assert abs(first.stamp - (ahead + round(1e9 * begin))) < 1_000_000  # ns
    assert abs(second.stamp - first.stamp - 30_000_000) < 1_000_000
    assert reading.report()["clock"] == "host"


def test_pictures_that_waited_too_long_are_passed_over(kernel):
    now = time.monotonic()
    reading = kernel(now - 0.1, now - 2 * LATE, now)
    assert reading.read(0.1) is not None
    assert reading.read(0.1) is None and reading.report()["frames_skipped"] == 1
    assert reading.read(0.1) is not None
