"""Sources that are files: videos, folders of pictures, and recorded topics."""

import time

import av
import numpy as np
import pytest
from PIL import Image as Picture
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image

from vla_mbpo.cameras.files import file_source
from vla_mbpo.cameras.recorded import bag_source, picture
from vla_mbpo.core.errors import ConfigError
from vla_mbpo.nodes.convert import to_image, to_time
from vla_mbpo.record.bag import Bag
from vla_mbpo.record.message import Message, TopicInfo

TOPIC, FPS = "/some/image_raw", 50


def grey(value, width=32, height=24):
    return np.full((height, width, 3), value, np.uint8)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "pictures"
    made.mkdir()
    for value in (10, 20, 30):
        Picture.fromarray(grey(value)).save(made / f"{value}.png")
    (made / "notes.txt").write_text("no picture")
    return made


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "video.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "bgr0"
        for value in (10, 20, 30):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(grey(value), format="rgb24")))
        out.mux(stream.encode(None))
    return path


@pytest.fixture
def bag(tmp_path):
    made = Bag(tmp_path / "bag", [TopicInfo(TOPIC, "sensor_msgs/msg/Image")])
    for index, value in enumerate((10, 20, 30)):
        stamp = 10**18 + index * 20_000_000
        made.write(Message(0, stamp + 7, stamp, index + 1, serialize_message(to_image(grey(value), stamp, "f"))))
    made.close()
    return made.folder


def shown(source, count):
    """Value and stamp of so many pictures, and of those that come in a little while after them."""
    frames, until, after = [], time.monotonic() + 5.0, 0
    opened = source.open()
    assert (opened.width, opened.height, opened.calibration) == (32, 24, None)
    while time.monotonic() < until and after < 3:
        frame = source.read(0.05)
        frames += [] if frame is None else [(int(frame.image[12, 16, 0]), frame.stamp)]
        after += len(frames) >= count
    source.close()
    return frames


KINDS = ("folder", "video", "bag")


def make(kind, request, loop):
    path = str(request.getfixturevalue(kind))
    if kind == "bag":
        return bag_source(path, TOPIC, loop, time.time_ns)
    return file_source(path, loop, FPS, time.time_ns)


@pytest.mark.parametrize("kind", KINDS)
def test_every_picture_is_shown_once_in_order_with_a_stamp_of_now(kind, request):
    source, begin = make(kind, request, loop=False), time.time_ns()
    frames = shown(source, 3)
    assert [value for value, _ in frames] == [10, 20, 30]
    stamps = [begin, *(stamp for _, stamp in frames), time.time_ns()]
    assert stamps == sorted(stamps)
    assert stamps[3] - begin >= 40_000_000  # at the pace of the recording, not as fast as it goes


@pytest.mark.parametrize("kind", KINDS)
def test_in_a_loop_it_begins_again(kind, request):
    frames = shown(make(kind, request, loop=True), 7)
    values = [value for value, _ in frames]
    assert len(values) >= 7 and values == [(10, 20, 30)[i % 3] for i in range(len(values))]
    assert (np.diff([stamp for _, stamp in frames]) > 0).all()


def test_one_picture_in_a_loop_is_shown_at_its_rate(folder):
    """Incident: the time from the only picture to itself was 0, and the node was flooded."""
    for name in ("20.png", "30.png"):
        (folder / name).unlink()
    source, begin = file_source(str(folder), True, FPS, time.time_ns), time.monotonic()
    frames = shown(source, 4)
    assert 4 <= len(frames) <= 2 + FPS * (time.monotonic() - begin)


def test_after_close_and_open_it_begins_anew(folder):
    """Incident: all pictures that would have been due while it was closed came at once."""
    source = file_source(str(folder), True, FPS, time.time_ns)
    shown(source, 3)
    time.sleep(0.3)
    source.open()
    first, begin = source.read(1.0), time.monotonic()
    assert first.image[0, 0, 0] == 10
    for _ in range(4):
        assert source.read(1.0) is not None
    assert time.monotonic() - begin > 3.5 / FPS
    source.close()


@pytest.mark.parametrize(
    ("encoding", "pixel"), [("rgb8", (1, 2, 3)), ("bgr8", (3, 2, 1)), ("rgba8", (1, 2, 3)), ("mono8", (1, 1, 1))]
)
def test_encodings_become_rgb(encoding, pixel):
    wide = {"rgba8": 4, "mono8": 1}.get(encoding, 3)
    row = bytes([1, 2, 3, 255][:wide]) * 2 + b"padding"
    message = Image(height=2, width=2, encoding=encoding, step=len(row), data=row * 2)
    assert picture(message).tolist() == [[list(pixel)] * 2] * 2


def test_what_is_no_picture_is_named(tmp_path, folder, bag):
    def of(path, loop=True):
        return file_source(str(path), loop, FPS, time.time_ns)

    for path, text in (
        ("", "file.path: '' is not valid; expected a video or a folder"),
        (tmp_path / "none", "file.path: .*none' is not valid"),
        (tmp_path, "expected pictures in it"),
        (folder / "notes.txt", "file.path: .*notes.txt' is not valid; expected a video"),
    ):
        with pytest.raises(ConfigError, match=text):
            of(path).open()
    (folder / "05.png").write_bytes(b"broken")
    with pytest.raises(ConfigError, match="05.png' is not valid; expected a picture"):
        of(folder).open()
    with pytest.raises(ConfigError, match="bag.path: 'none' is not valid; expected an MCAP file"):
        bag_source("none", TOPIC, True, time.time_ns)
    with pytest.raises(
        ConfigError, match="bag.topic: '/other' is not valid; expected a topic with images in bag_0.mcap"
    ):
        bag_source(str(bag), "/other", True, time.time_ns).open()
    with pytest.raises(ConfigError, match="encoding: '16UC1' is not valid; expected one of rgb8"):
        picture(Image(encoding="16UC1"))


def test_pictures_that_repeat_their_stamp_are_passed_over(tmp_path):
    made = Bag(tmp_path / "twice", [TopicInfo(TOPIC, "sensor_msgs/msg/Image")])
    for index, stamp in enumerate((10**18, 10**18, 10**18 + 20_000_000)):
        message = to_image(grey(10 * index), stamp, "f")
        assert message.header.stamp == to_time(stamp)
        made.write(Message(0, stamp + index, stamp, index + 1, serialize_message(message)))
    made.close()
    frames = shown(bag_source(str(made.folder), TOPIC, False, time.time_ns), 2)
    assert [value for value, _ in frames] == [0, 20]
