"""The source against librealsense's software device, in one process: no node."""

import time

import numpy as np
import pytest

from benchmarks.software_camera import FPS, HEIGHT, SERIAL, WIDTH, SoftwareCamera, number_of
from vla_mbpo.cameras import librealsense
from vla_mbpo.cameras.realsense import RealSenseSettings, RealSenseSource
from vla_mbpo.cameras.returning import Returning
from vla_mbpo.core.errors import ConfigError

try:
    librealsense.library()
except ConfigError as missing:
    pytest.skip(f"{missing}: `make setup-dev`", allow_module_level=True)


@pytest.fixture
def plugged(monkeypatch):
    """Makes a camera, plugged in, that the source finds in place of what is on the USB."""
    made = []

    def make(**kwargs):
        camera = SoftwareCamera(**kwargs)
        monkeypatch.setattr(librealsense, "new_context", lambda: camera.context)
        camera.plug()
        made.append(camera)
        return camera

    yield make
    for camera in made:
        camera.unplug()


def source(**settings):
    return RealSenseSource(RealSenseSettings(**settings), time.time_ns)


def read(camera, count, timeout=10.0):
    """The next frames."""
    found, until = [], time.monotonic() + timeout
    while len(found) < count:
        assert time.monotonic() < until, f"{len(found)} frames of {count}; {camera.report()}"
        frame = camera.read(0.2)
        found += [] if frame is None else [frame]
    return found


def middle(frame):
    height, width, _ = frame.image.shape
    return number_of(frame.image[:, (width - height) // 2 : (width + height) // 2])


@pytest.mark.parametrize("clock", ["host", "device"])
def test_frames_have_the_time_of_their_exposure(plugged, clock):
    camera, reading = plugged(clock=clock), source()
    opened = reading.open()
    frames = read(reading, 12)
    reading.close()
    assert (opened.width, opened.height, opened.serial) == (WIDTH, HEIGHT, SERIAL)
    assert opened.calibration.k[:3] == (611.0, 0.0, 318.5) and opened.calibration.d[0] == pytest.approx(0.1)
    assert reading.report()["clock"] == clock
    exposed = {number: at for number, at, _ in camera.frames[0]}
    errors = [frame.stamp - exposed[middle(frame)] for frame in frames]
    if clock == "host":
        assert max(map(abs, errors)) < 1000  # ns, of milliseconds as floating point
    else:  # one and the same delay
        assert 0 < min(errors) and max(errors) - min(errors) < 2_000_000


def test_depth_comes_in_millimetres_in_the_pixels_of_colour(plugged):
    plugged(depth=True)
    reading = source(depth=True)
    reading.open()
    frames = read(reading, 3)
    reading.close()
    for frame in frames:
        assert frame.depth.shape == frame.image.shape[:2] and frame.depth.dtype == np.uint16
        assert abs(int(frame.depth[200, 300]) - (2000 + middle(frame)) // 2) <= 1  # units of 0.5 mm


def test_a_camera_that_delivers_nothing_is_lost_and_taken_again(plugged):
    camera, reading = plugged(), Returning(source())
    reading.open()
    read(reading, 3)
    camera.freeze(True)
    until = time.monotonic() + 5.0
    while not reading.lost:
        assert time.monotonic() < until
        reading.read(0.1)
    assert reading.lost == f"camera lost: {SERIAL} is there and delivers nothing"
    camera.freeze(False)
    read(reading, 3)
    reading.close()
    assert not reading.lost and reading.report()["losses"] == 1


def test_a_dead_colour_stream_is_noticed_while_depth_goes_on(plugged):
    """Incident: framesets with the last colour frame kept coming, and each of them counted as a sign of life."""
    camera, reading = plugged(depth=True), Returning(source(depth=True))
    reading.open()
    read(reading, 3)
    camera.freeze(True, depth_goes_on=True)
    until, framesets, late = time.monotonic() + 6.0, [], []
    look = reading._source._frame
    reading._source._frame = lambda frames: framesets.append(frames.size()) or look(frames)
    while not reading.lost:
        assert time.monotonic() < until
        late += [frame for frame in [reading.read(0.1)] if frame is not None]
    assert len(framesets) > 10 and len(late) < 5  # they came, and no picture but what was on its way
    assert reading.lost == f"camera lost: {SERIAL} is there and delivers nothing"
    camera.freeze(False)
    read(reading, 3)
    reading.close()


def test_exposure_is_set_in_the_sensor_s_units_and_checked(plugged):
    camera, reading = plugged(), source(exposure=5000)
    reading.open()
    option = camera._rs.option
    assert camera.device.query_sensors()[0].get_option(option.exposure) == 50  # of 100 us
    reading.close()
    with pytest.raises(
        ConfigError, match="realsense.exposure: 1 is not valid; expected 0 .automatic. or 100 to 1000000"
    ):
        source(exposure=1).open()


def test_errors_name_what_is_there(plugged):
    camera = plugged()
    with pytest.raises(ConfigError, match=f"realsense.serial: '42' is not valid; cameras that are there: {SERIAL}"):
        source(serial="42").open()
    with pytest.raises(ConfigError, match=f"'1280x720 at 60' is not valid; camera {SERIAL} has: 640x480 at {FPS}"):
        source(width=1280, height=720, fps=60).open()
    holder = source()
    holder.open()
    with pytest.raises(
        ConfigError, match=f"realsense.serial: '{SERIAL}' is not valid; a camera that nothing else uses"
    ):
        source().open()
    holder.close()
    source(serial=SERIAL).open()
    camera.unplug()
    with pytest.raises(ConfigError, match="cameras that are there: none"):
        source(serial=SERIAL).open()
    camera.plug()


def test_a_recording_plays_again_and_again_with_stamps_of_now(plugged, tmp_path, monkeypatch):
    camera, file = plugged(clock="device", small=True), tmp_path / "camera.db3"
    rs = camera._rs
    pipeline, config = rs.pipeline(camera.context), rs.config()
    config.enable_stream(rs.stream.color, camera.width, camera.height, rs.format.rgb8, FPS)
    config.enable_record_to_file(str(file))
    frames = rs.frame_queue(4)
    pipeline.start(config, frames)
    for _ in range(32):
        assert frames.try_wait_for_frame(1000)[0]
    pipeline.stop()
    monkeypatch.setattr(librealsense, "new_context", lambda: rs.context('{"dds": {"enabled": false}}'))
    begin, reading = time.time_ns(), Returning(source(file=str(file)))
    reading.open()
    shown = read(reading, 22, timeout=15.0)
    reading.close()
    numbers = [middle(frame) for frame in shown]
    assert len(set(numbers)) < len(numbers)  # it began again
    assert all(begin < frame.stamp <= time.time_ns() for frame in shown)
    assert (np.diff([frame.stamp for frame in shown]) > 0).all()
