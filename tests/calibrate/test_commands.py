"""`vla-mbpo calibrate board|camera|hand-eye|check`, with files."""

import json
import sys

import numpy as np
import pytest
import yaml
from PIL import Image
from projected import BOARD, CAMERA, PINHOLE, arm, facing, picture

from vla_mbpo.calibrate import captured
from vla_mbpo.calibrate.placed import Placed
from vla_mbpo.calibrate.poses import apart
from vla_mbpo.cameras.calibration import Calibration
from vla_mbpo.cli import main


def command(*arguments):
    return main(["calibrate", *map(str, arguments)])


def fill(folder, boards, tools=None):
    kept = captured.Folder(folder)
    names = [kept.add(picture(at), None) for at in boards]
    if tools is not None:
        views = {name: {"tool_in_base": tool.tolist()} for name, tool in zip(names, tools, strict=True)}
        (folder / "poses.json").write_text(json.dumps({"views": views}))
    return folder


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A camera that was calibrated, and its place on the robot, by the commands."""
    folder, rng = tmp_path_factory.mktemp("lab"), np.random.default_rng(0)
    boards = [facing(rng, near=0.22) for _ in range(26)]
    camera = ("--camera", "wrist_camera", "--serial", "0815", "--robot", "sim_panda")
    intrinsics, place = folder / "wrist_camera.yaml", folder / "wrist_camera_hand_eye.yaml"
    seen = fill(folder / "views", boards)
    assert command("camera", *camera, "--pictures", seen, "--out", intrinsics, "--anyway") == 0
    tools, boards = arm(rng, 14)
    moved = fill(folder / "poses", boards, tools)
    options = ("--eye", "in-hand", "--intrinsics", intrinsics, "--pictures", moved, "--out", place)
    assert command("hand-eye", *camera, *options) == 0
    return folder


def test_pictures_become_a_camera_info_file(lab):
    found = Calibration.load(lab / "wrist_camera.yaml")
    assert np.allclose(np.array(found.k)[[0, 4]], PINHOLE.matrix[[0, 1], [0, 1]], rtol=0.005)
    made = found.provenance
    assert (made.serial, made.robot, made.views, made.source) == ("0815", "sim_panda", 26, "pictures in views")
    assert 0 < made.error_px < 0.2 and made.tool.startswith("vla-mbpo calibrate camera --anyway, OpenCV 4.")


def test_pictures_with_poses_become_a_place(lab):
    found = Placed.load(lab / "wrist_camera_hand_eye.yaml")
    turn, distance = apart(found.camera, CAMERA)
    assert turn < 0.3 and distance < 0.002
    assert (found.eye, found.parent, found.child) == ("in_hand", "panda_tool", "wrist_camera_optical_frame")
    assert found.intrinsics == Calibration.load(lab / "wrist_camera.yaml").provenance.sha256


def test_what_was_made_may_be_used_by_this_camera_and_robot(lab, capsys):
    files = (lab / "wrist_camera.yaml", lab / "wrist_camera_hand_eye.yaml")
    mine = ("--robot", "sim_panda", "--camera", "wrist_camera", "--serial", "0815", "--size", "640x480")
    assert command("check", *files, *mine) == 0
    assert "wrist_camera 640x480" in (said := capsys.readouterr().out) and "in panda_tool +-" in said
    assert "robot.urdf has it" in said  # where the nominal camera is, not this one


@pytest.mark.parametrize(
    "options, text",
    [(("--robot", "ur5e"), "robot"), (("--serial", "1"), "serial"), (("--size", "96x96"), "image size"),
     (("--camera", "head_camera"), "head_camera")],
    ids=["robot", "serial", "size", "camera"],
)  # fmt: skip
def test_it_is_refused_for_another(lab, capsys, options, text):
    assert command("check", lab / "wrist_camera.yaml", *options) == 1
    assert text in capsys.readouterr().err
    if text != "image size":
        assert command("check", lab / "wrist_camera_hand_eye.yaml", *options) == 1


def test_an_old_one_a_changed_one_and_one_of_another_program_are_refused(lab, tmp_path, capsys):
    raw = yaml.safe_load((lab / "wrist_camera.yaml").read_text())
    raw["camera_matrix"]["data"][0] += 1
    (tmp_path / "changed.yaml").write_text(yaml.safe_dump(raw))
    del raw["provenance"]
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(raw))
    assert command("check", tmp_path / "changed.yaml", tmp_path / "other.yaml") == 1
    said = capsys.readouterr().err
    assert "was changed after" in said and "a file with date, serial and hash" in said
    assert command("check", lab / "wrist_camera.yaml", "--max-age", "0.0000001") == 1
    assert "age" in capsys.readouterr().err


def test_a_place_is_refused_beside_intrinsics_that_were_made_anew(lab, tmp_path, capsys):
    for name in ("wrist_camera.yaml", "wrist_camera_hand_eye.yaml"):
        (tmp_path / name).write_bytes((lab / name).read_bytes())
    known = Calibration.load(tmp_path / "wrist_camera.yaml")
    known.write(tmp_path / "wrist_camera.yaml")
    assert command("check", tmp_path / "wrist_camera_hand_eye.yaml") == 0
    again = Calibration(**{**vars(known), "k": (500.0, *known.k[1:])})
    again.write(tmp_path / "wrist_camera.yaml")
    assert command("check", tmp_path / "wrist_camera_hand_eye.yaml") == 1
    assert "make it anew" in capsys.readouterr().err


def test_too_few_views_are_refused_with_what_is_missing_and_nothing_is_written(tmp_path, capsys):
    rng = np.random.default_rng(1)
    views, out = fill(tmp_path / "views", [facing(rng) for _ in range(7)]), tmp_path / "camera.yaml"
    options = ("--camera", "cam", "--serial", "1", "--pictures", views, "--out", out)
    assert command("camera", *options) == 64
    assert "views: 7" in (said := capsys.readouterr().err) and "--anyway" in said and not out.exists()


def test_intrinsics_of_another_camera_are_refused(lab, capsys):
    options = ("--eye", "in-hand", "--intrinsics", lab / "wrist_camera.yaml", "--pictures", lab / "poses")
    assert command("hand-eye", "--camera", "wrist_camera", "--serial", "4711", "--robot", "sim_panda", *options) == 64
    assert "the camera is '4711'" in capsys.readouterr().err


def test_without_a_robot_the_result_needs_a_place(lab, capsys):
    assert command("camera", "--camera", "wrist_camera", "--serial", "1", "--pictures", lab / "views") == 64
    assert "--out" in capsys.readouterr().err


def test_the_printed_board_is_found_and_has_its_true_size(tmp_path):
    assert command("board", "--out", tmp_path / "board.png", "--dpi", "254", "--square", "0.024") == 0
    with Image.open(tmp_path / "board.png") as image:
        grey, dpi = np.asarray(image.convert("L")), image.info["dpi"][0]
    found = BOARD.detect(grey)
    assert len(found.ids) == len(BOARD.corners)
    across = np.linalg.norm(found.pixels[1] - found.pixels[0]) / dpi * 0.0254
    assert across == pytest.approx(0.024, rel=0.005)


def test_without_opencv_the_extra_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "cv2", None)
    for name in [name for name in sys.modules if name.startswith("vla_mbpo.calibrate.")]:
        monkeypatch.delitem(sys.modules, name)
    assert command("board", "--out", tmp_path / "board.pdf") == 64
    assert "'.[calibrate]'" in capsys.readouterr().err
