import threading
import time
from unittest.mock import Mock

import mujoco
import numpy as np
import pytest
import yaml
from rclpy.lifecycle import TransitionCallbackReturn
from vla_mbpo_msgs.msg import SceneState

from vla_mbpo.cameras.calibration import Calibration
from vla_mbpo.cameras.sim import SimSource
from vla_mbpo.cameras.source import Frame, Opened
from vla_mbpo.core.errors import ConfigError
from vla_mbpo.nodes import convert, qos
from vla_mbpo.nodes.camera import SOURCES, CameraNode
from vla_mbpo.paths import share_dir
from vla_mbpo.sim.scene import CAMERAS, Scene

VIEWS = {"head": (qos.HEAD_IMAGE, qos.HEAD_INFO), "wrist": (qos.WRIST_IMAGE, qos.WRIST_INFO)}


def scene_message(spec, stamp, task="red_bin", seed=3):
    scene = Scene.build(spec, task, seed)
    message = SceneState(task=task, seed=seed)
    message.header.stamp = convert.to_time(stamp)
    message.qpos = convert.to_doubles(scene.qpos0)
    return message


@pytest.mark.parametrize("view", VIEWS)
def test_images_follow_the_scene_state(graph, spec, view):
    image, info = VIEWS[view]
    graph.start(lambda: CameraNode("camera"), parameters={"camera.view": view})
    graph.activate()
    graph.listen(image, info)
    send = graph.talk(qos.SCENE_STATE)
    stamps = [10**18 + i for i in range(3)]
    for count, stamp in enumerate(stamps, 1):
        message = scene_message(spec, stamp)
        send(message)
        graph.until(lambda n=count: len(graph.heard[image.name]) >= n and len(graph.heard[info.name]) >= n)
    images = graph.heard[image.name]
    assert [convert.to_ns(m.header.stamp) for m in images] == stamps
    assert [convert.to_ns(m.header.stamp) for m in graph.heard[info.name]] == stamps
    assert {(m.encoding, m.width, m.height) for m in images} == {("rgb8", 96, 96)}
    assert {m.header.frame_id for m in images} == {f"{view}_camera_optical_frame"}
    pixels = [convert.from_image(m).astype(int) for m in images]
    assert pixels[0].std() > 10  # a picture, not a blank
    difference = np.abs(pixels[0] - pixels[1])
    assert 0 < difference.mean() and difference.max() <= 2  # the scene rests, the sensor does not


def test_the_scene_can_change(graph, spec):
    graph.start(lambda: CameraNode("camera"))
    graph.activate()
    graph.listen(qos.HEAD_IMAGE)
    send = graph.talk(qos.SCENE_STATE)
    for count, seed in enumerate((3, 4), 1):
        send(scene_message(spec, count, seed=seed))
        graph.until(lambda n=count: len(graph.heard[qos.HEAD_IMAGE.name]) >= n)
    first, second = (convert.from_image(m).astype(int) for m in graph.heard[qos.HEAD_IMAGE.name])
    assert np.abs(first - second).max() > 20


def test_a_calibration_of_another_size_is_refused(graph):
    node = graph.start(lambda: CameraNode("camera"), parameters={"camera.size": 64})
    graph.listen(qos.DIAGNOSTICS)
    graph.spin(0.1)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    graph.until(lambda: bool(graph.heard["/diagnostics"]))
    text = graph.heard["/diagnostics"][-1].status[0].message
    assert text == "configure failed: calibration size: '96x96' is not valid; the camera delivers 64x64"


class Broken:
    """A camera that fails to open, or at its first picture."""

    def __init__(self, opens):
        self.opens = opens

    def __call__(self, *_):
        return self

    def open(self):
        if not self.opens:
            raise OSError("no device 42")
        return Opened(96, 96)

    def feed(self, *_):
        pass

    def read(self, timeout):
        raise OSError("unplugged")

    def close(self):
        pass

    def report(self):
        return {}


def test_a_camera_that_cannot_open_is_not_active(graph, monkeypatch):
    monkeypatch.setitem(SOURCES, "sim", Broken(opens=False))
    node = graph.start(lambda: CameraNode("camera"))
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_activate() == TransitionCallbackReturn.FAILURE
    assert node._fault == "activate failed: OSError: no device 42"


def test_a_camera_that_fails_later_ends_its_process(graph, monkeypatch):
    monkeypatch.setitem(SOURCES, "sim", Broken(opens=True))
    node = graph.start(lambda: CameraNode("camera"))
    graph.activate()
    graph.until(node.ended.done)
    assert node.exit_code == 1


class Slow(Broken):
    """A camera whose driver takes its time: until ``go`` is set, opening or reading does not end."""

    def __init__(self, slow):
        super().__init__(opens=True)
        self.slow, self.go, self.reads, self.closed = slow, threading.Event(), 0, 0

    def open(self):
        if self.slow == "open":
            self.go.wait(10.0)
        return super().open()

    def read(self, timeout):
        self.reads += 1
        self.go.wait(10.0 if self.slow == "read" else timeout)
        return Frame(time.time_ns(), np.zeros((96, 96, 3), np.uint8))

    def close(self):
        self.closed += 1


@pytest.mark.parametrize("slow", ["open", "read"])
def test_a_capture_thread_does_not_outlive_its_activation(graph, monkeypatch, slow):
    """Incident: a camera that opened after its activation had failed, or let go after it had ended, was published."""
    camera = Slow(slow)
    monkeypatch.setattr("vla_mbpo.nodes.camera.OPEN_TIME", 0.1)
    monkeypatch.setitem(SOURCES, "sim", lambda _: camera)
    node = graph.start(lambda: CameraNode("camera"))
    graph.listen(qos.HEAD_IMAGE)
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    if slow == "open":
        assert node.trigger_activate() == TransitionCallbackReturn.FAILURE
        assert node._fault == "activate failed: TimeoutError: the camera did not open within 0.1 s"
    else:
        assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    last = node._thread
    assert node.trigger_activate() == TransitionCallbackReturn.FAILURE
    assert "the camera's driver still holds the last activation" in node._fault and node._thread is last
    camera.go.set()
    last.join(5.0)
    graph.spin(0.2)
    assert not last.is_alive() and camera.closed and camera.reads <= 1
    assert not graph.heard[qos.HEAD_IMAGE.name] and not node.ended.done()
    camera.slow = ""
    camera.go.clear()
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS, node._fault
    graph.until(lambda: len(graph.heard[qos.HEAD_IMAGE.name]) > 1)


def test_large_simulated_pictures_have_noise(spec, monkeypatch):
    """Incident: from 592 px on a picture had more values than noise was drawn."""
    source, size = SimSource(spec, "head", 640), 640
    render = Mock(render=lambda *_: np.full((1, size, size, 3), 100, np.uint8))
    monkeypatch.setattr(source, "_camera_for", lambda *_: render)
    assert source.open() == Opened(size, size)
    source.feed("red_bin", 3, 1, np.zeros(1))
    assert set(np.unique(source.read(1.0).image)) == {99, 100, 101}


def test_a_machine_that_cannot_render_is_told_what_it_lacks(spec, monkeypatch):
    monkeypatch.setattr(mujoco, "GLContext", lambda *_: 1 / 0)
    with pytest.raises(ConfigError, match="camera: 'head' is not valid; no OpenGL"):
        SimSource(spec, "head", 96).open()


@pytest.mark.parametrize("view", VIEWS)
def test_the_simulated_cameras_calibration_is_the_simulator_s(view):
    calibration = Calibration.load(share_dir() / "calibration" / f"{view}_camera.yaml")
    calibration.require_size(96, 96)
    focal = 48.0 / np.tan(np.radians(CAMERAS[view] / 2))
    np.testing.assert_allclose([calibration.k[0], calibration.k[4]], focal, rtol=1e-6)
    np.testing.assert_allclose([calibration.k[2], calibration.k[5]], 47.5)
    np.testing.assert_allclose(np.reshape(calibration.p, (3, 4))[:, :3], np.reshape(calibration.k, (3, 3)))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"image_width": 0}, "image_width"),
        ({"camera_matrix": {"data": [1.0] * 8}}, "camera_matrix"),
        ({"projection_matrix": None}, "projection_matrix"),
        ({"distortion_coefficients": {"data": [float("nan")]}}, "distortion_coefficients"),
    ],
)
def test_a_wrong_calibration_file_names_the_field(tmp_path, change, field):
    raw = yaml.safe_load((share_dir() / "calibration" / "head_camera.yaml").read_text())
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump({**raw, **change}))
    with pytest.raises(ConfigError, match=field):
        Calibration.load(path)


def test_an_unreadable_calibration_file_is_one_line(tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text("a: [1\nb: 2")
    with pytest.raises(ConfigError) as error:
        Calibration.load(path)
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError):
        Calibration.load(tmp_path / "missing.yaml")
