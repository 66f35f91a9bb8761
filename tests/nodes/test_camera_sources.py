"""The camera node with sources other than the simulator."""

import datetime
import shutil
import sys
import time

import numpy as np
import pytest
from PIL import Image
from rclpy.lifecycle import TransitionCallbackReturn

from vla_mbpo.calibrate.sealed import Provenance
from vla_mbpo.cameras.calibration import Calibration
from vla_mbpo.cameras.source import Opened
from vla_mbpo.nodes import camera, convert, qos
from vla_mbpo.nodes.camera import CameraNode
from vla_mbpo.paths import robot_dir


@pytest.fixture
def pictures(tmp_path):
    """Four pictures of 64x48, each of another grey."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, value in enumerate((40, 80, 120, 160)):
        image = np.full((48, 64, 3), value, np.uint8)
        image[:, :8] = 255  # cut off by the square in the middle
        Image.fromarray(image).save(folder / f"{index}.png")
    return folder


def play(graph, pictures, **parameters):
    given = {"source": "file", "file.path": str(pictures), "size": 32, "fps": 20, **parameters}
    return graph.start(lambda: CameraNode("camera"), parameters={f"camera.{k}": v for k, v in given.items()})


def test_pictures_are_published_square_in_their_order_with_rising_stamps(graph, pictures):
    node = play(graph, pictures)
    graph.listen(qos.HEAD_IMAGE, qos.HEAD_INFO)
    graph.spin(0.3)
    graph.activate()
    images, infos = graph.heard[qos.HEAD_IMAGE.name], graph.heard[qos.HEAD_INFO.name]
    graph.until(lambda: len(images) >= 6 and len(infos) >= 6)
    assert {(m.encoding, m.width, m.height, m.header.frame_id) for m in images} == {
        ("rgb8", 32, 32, "head_camera_optical_frame")
    }
    values = [int(convert.from_image(message)[5, 0, 0]) for message in images]
    steps = {(b - a) % 160 for a, b in zip(values, values[1:], strict=False)}
    assert set(values) <= {40, 80, 120, 160} and steps <= {40, 80}  # one may be lost on the way, none repeated
    stamps = [convert.to_ns(message.header.stamp) for message in images]
    assert stamps == sorted(set(stamps)) and 0 <= node.now() - stamps[-1] < 10**9
    assert not np.any(infos[-1].k) and infos[-1].width == 32  # never calibrated
    assert node.report()["calibration"] == "none"


def test_a_calibration_of_the_camera_s_own_pictures_is_published_for_the_square(graph, pictures, tmp_path):
    path = tmp_path / "camera.yaml"
    data = {"camera_matrix": (3, 3, [60, 0, 33, 0, 60, 25, 0, 0, 1])}
    data["rectification_matrix"] = (3, 3, [1, 0, 0, 0, 1, 0, 0, 0, 1])
    data["projection_matrix"] = (3, 4, [60, 0, 33, 0, 0, 60, 25, 0, 0, 0, 1, 0])
    data["distortion_coefficients"] = (1, 5, [0.1, 0, 0, 0, 0])
    lines = ["image_width: 64", "image_height: 48", "camera_name: lab", "distortion_model: plumb_bob"]
    lines += [f"{name}: {{rows: {rows}, cols: {cols}, data: {values}}}" for name, (rows, cols, values) in data.items()]
    path.write_text("\n".join(lines))
    assert Calibration.load(path).k[0] == 60
    play(graph, pictures, calibration=str(path))
    graph.listen(qos.HEAD_INFO)
    graph.activate()
    infos = graph.heard[qos.HEAD_INFO.name]
    graph.until(lambda: bool(infos))
    expected = [60 * 32 / 48, 0, (33.5 - 8) * 32 / 48 - 0.5, 0, 60 * 32 / 48, 25.5 * 32 / 48 - 0.5, 0, 0, 1]
    np.testing.assert_allclose(infos[0].k, expected)
    assert list(infos[0].d) == [0.1, 0, 0, 0, 0] and (infos[0].width, infos[0].height) == (32, 32)


def test_a_calibration_of_another_camera_s_pictures_is_refused(graph, pictures, tmp_path):
    path = tmp_path / "camera.yaml"
    matrix = "{data: [60, 0, 33, 0, 60, 25, 0, 0, 1]}"
    projection, none = "{data: [60, 0, 33, 0, 0, 60, 25, 0, 0, 0, 1, 0]}", "{data: [0, 0, 0, 0, 0]}"
    path.write_text(
        f"image_width: 640\nimage_height: 480\ncamera_matrix: {matrix}\nrectification_matrix: {matrix}\n"
        f"projection_matrix: {projection}\ndistortion_coefficients: {none}\n"
    )
    node = play(graph, pictures, calibration=str(path))
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_activate() == TransitionCallbackReturn.FAILURE
    text = "activate failed: calibration size: '640x480' is not valid; the camera delivers 64x48"
    assert node._fault.startswith(text)


class Still:
    """A device that shows nothing."""

    def __init__(self, opened):
        self.opened = opened

    def open(self):
        return self.opened

    def read(self, timeout):
        time.sleep(0.01)

    def close(self):
        pass

    def report(self):
        return {}


@pytest.mark.parametrize(
    ("days", "serial", "fault"),
    [
        (1, "A1", ""),
        (1, "B2", "activate failed: calibration of lab: serial: 'A1' is not valid; the camera is 'B2': calibrate anew"),
        (1, "", "activate failed: calibration of lab: serial: 'A1' is not valid; a camera that says which one it is"),
        (
            181,
            "A1",
            "activate failed: calibration of lab: age: '181",
        ),
    ],
)
def test_a_device_has_its_robot_s_calibration_if_it_is_its_own_and_not_old(
    graph, tmp_path, monkeypatch, days, serial, fault
):
    made = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")
    provenance = Provenance("/topic", "A1", "sim_panda", 20, 0.3, "test", date=made)
    k, turn, p = (60.0, 0, 33.0, 0, 60.0, 25.0, 0, 0, 1.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0), (60.0,) * 12
    lab = Calibration("lab", 64, 48, "plumb_bob", (0.0,) * 5, k, turn, p, provenance)
    lab.write(tmp_path / "calibration" / "sim_panda" / "head_camera.yaml")
    monkeypatch.setattr(camera, "share_dir", lambda: tmp_path)
    monkeypatch.setitem(camera.SOURCES, "v4l2", lambda node: Still(Opened(64, 48, serial=serial)))
    node = graph.start(lambda: CameraNode("camera"), parameters={"camera.source": "v4l2"})
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS, node._fault
    done = node.trigger_activate()
    assert (done == TransitionCallbackReturn.SUCCESS) == (not fault) and node._fault.startswith(fault)
    if not fault:
        assert node.report()["calibration"].parts[-2:] == ("sim_panda", "head_camera.yaml")
        assert node._info_message.k[0] == 60 * 96 / 48


def test_a_calibration_for_a_copied_robot_is_found_by_the_robot_s_name(graph, tmp_path, monkeypatch):
    """Incident: the node looked for the folder's name, `vla-mbpo calibrate` wrote under that in robot.yaml."""
    shutil.copytree(robot_dir("sim_panda"), tmp_path / "our_cell")
    made = Provenance("/topic", "A1", "sim_panda", 20, 0.3, "test")
    k, turn, p = (60.0, 0, 33.0, 0, 60.0, 25.0, 0, 0, 1.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0), (60.0,) * 12
    lab = Calibration("lab", 64, 48, "plumb_bob", (0.0,) * 5, k, turn, p, made)
    lab.write(tmp_path / "calibration" / "sim_panda" / "head_camera.yaml")
    monkeypatch.setattr(camera, "share_dir", lambda: tmp_path)
    monkeypatch.setitem(camera.SOURCES, "v4l2", lambda node: Still(Opened(64, 48, serial="A1")))
    parameters = {"camera.source": "v4l2", "camera.robot": str(tmp_path / "our_cell")}
    node = graph.start(lambda: CameraNode("camera"), parameters=parameters)
    graph.activate()
    assert node._info_message.k[0] == 60 * 96 / 48


@pytest.mark.parametrize("source", ["realsense", "v4l2"])
def test_a_real_camera_is_not_stamped_in_simulated_time(graph, source):
    parameters = {"camera.source": source, "camera.use_sim_time": True}
    node = graph.start(lambda: CameraNode("camera"), parameters=parameters)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    text = f"use_sim_time: True is not valid; false: source {source} has stamps of the real time"
    assert node._fault == f"configure failed: {text}"


def test_the_end_of_a_file_is_no_frame_again(graph, pictures):
    node = play(graph, pictures, loop=False)
    graph.activate()
    graph.until(lambda: node.report()["frames"] == 4)
    graph.until(lambda: node.warning().startswith("no frame for"))
    assert node.report()["frames"] == 4 and node.report()["ended"]


@pytest.mark.parametrize(
    ("source", "module", "needed"), [("realsense", "pyrealsense2", "realsense"), ("v4l2", "av", "cameras")]
)
def test_a_source_whose_library_is_missing_says_what_to_install(graph, monkeypatch, source, module, needed):
    monkeypatch.setitem(sys.modules, module, None)
    node = graph.start(lambda: CameraNode("camera"), parameters={"camera.source": source})
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_activate() == TransitionCallbackReturn.FAILURE
    assert node._fault.startswith(f"activate failed: source: '{source}' is not valid;")
    assert f"pip install -e '.[{needed}]'" in node._fault
