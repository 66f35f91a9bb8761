"""Guided capture, and folders of pictures with poses."""

import json

import numpy as np
import pytest
from projected import BOARD, LENS, PINHOLE, arm, facing, picture, seen

from vla_mbpo.calibrate import capture, captured
from vla_mbpo.calibrate.coverage import LensCoverage
from vla_mbpo.calibrate.guide import LOST, MOVING, OLD, STILL_PICTURES, Guide
from vla_mbpo.calibrate.poses import ToolPoses
from vla_mbpo.calibrate.session import HandEyeSession, LensSession
from vla_mbpo.core.errors import ConfigError


class Kept(list):
    """Pictures in memory."""

    def next_name(self):
        return f"{len(self):03d}.png"

    def add(self, image, joints):
        self.append((image, joints))
        return f"{len(self) - 1:03d}.png"


@pytest.fixture
def guide():
    made = Guide(LensSession(BOARD), keeper := Kept())
    made.kept = keeper
    return made


def test_a_view_is_taken_once_when_it_is_still(guide):
    image = picture(facing(np.random.default_rng(0)))
    answers = [guide.offer(image) for _ in range(STILL_PICTURES + 3)]
    assert [taken for taken, _ in answers] == [False] * (STILL_PICTURES - 1) + [True] + [False] * 3
    assert answers[0][1] == MOVING and answers[STILL_PICTURES - 1][1].startswith("000.png: ") and answers[-1][1] == OLD
    assert len(guide.kept) == 1 and np.array_equal(guide.kept[0][0], image)


def test_a_board_that_moves_is_never_taken_and_one_out_of_sight_is_said(guide):
    at = facing(np.random.default_rng(0))
    for _ in range(6):
        at = at.copy()
        at[0, 3] += 0.002
        assert guide.offer(picture(at)) == (False, MOVING)
    assert guide.offer(np.zeros((480, 640), np.uint8)) == (False, LOST)


def test_joints_that_move_are_not_still(guide):
    image, joints = picture(facing(np.random.default_rng(0))), np.zeros(7)
    for step in range(6):
        assert guide.offer(image, joints + 0.01 * step) == (False, MOVING)
    assert any(guide.offer(image, joints)[0] for _ in range(STILL_PICTURES))
    assert np.array_equal(guide.kept[0][1], joints)


def test_coverage_names_the_side_that_has_to_come_nearer():
    coverage, flat = LensCoverage(), np.eye(4)
    flat[:3, 3] = (-0.13, -0.09, 0.5)
    view = seen(flat)
    for angle in (0.5, 0.5):
        turned = flat.copy()
        turned[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
        far_left = (turned @ [0, 0, 0, 1])[2], (turned @ [0.2, 0, 0, 1])[2]
        assert far_left[1] < far_left[0]  # the right side is nearer
        coverage.add(view, turned)
    sides = next(text for text in coverage.missing() if "tilted" in text)
    assert "left, top, bottom" in sides and "right" not in sides


def test_pictures_and_joints_that_were_kept_are_read_again(spec, tmp_path):
    folder, image = captured.Folder(tmp_path / "views"), picture(facing(np.random.default_rng(0)))
    assert folder.add(image, spec.home) == "000.png" and not folder.used
    again = captured.Folder(tmp_path / "views")
    assert again.used and again.add(image, spec.home + 0.1) == "001.png"
    kinematics = ToolPoses(spec)
    tools = captured.tool_poses(tmp_path / "views", kinematics)
    assert np.allclose(tools["001.png"], kinematics.at(spec.home + 0.1)) and list(tools) == ["000.png", "001.png"]
    assert np.array_equal(dict(captured.pictures(tmp_path / "views"))["000.png"], image)


def test_all_forms_of_a_pose_say_the_same(spec, tmp_path):
    from scipy.spatial.transform import Rotation

    kinematics = ToolPoses(spec)
    tool = kinematics.at(spec.home)
    turn = Rotation.from_matrix(tool[:3, :3]).as_quat()
    forms = {
        "a.png": {"joints": spec.home.tolist()},
        "b.png": {"tool_in_base": tool.tolist()},
        "c.png": {"position": tool[:3, 3].tolist(), "quaternion": turn.tolist()},
    }
    (tmp_path / "poses.json").write_text(json.dumps({"views": forms}))
    for found in captured.tool_poses(tmp_path, kinematics).values():
        assert np.allclose(found, tool, atol=1e-9)
    np.savez(tmp_path / "poses.npz", names=np.array(["a.png"]), tool_in_base=tool[None])
    assert np.allclose(captured.tool_poses(tmp_path, kinematics)["a.png"], tool)


@pytest.mark.parametrize(
    "entry, text",
    [({"joints": [0.0, 1.0]}, "joints.*expected 7"), ({"tool_in_base": np.diag([2.0, 1, 1, 1]).tolist()}, "rigid"),
     ({"position": [0, 0, 0], "quaternion": [0, 0, 0, 2]}, "length 1"), ({}, "joints, tool_in_base, or position")],
    ids=["joints", "scaled", "quaternion", "empty"],
)  # fmt: skip
def test_a_pose_that_is_none_is_refused_with_its_picture(spec, tmp_path, entry, text):
    (tmp_path / "poses.json").write_text(json.dumps({"views": {"a.png": entry}}))
    with pytest.raises(ConfigError, match=f"a.png.*{text}"):
        captured.tool_poses(tmp_path, ToolPoses(spec))


def test_an_archive_with_objects_is_refused(spec, tmp_path):
    np.savez(tmp_path / "poses.npz", names=np.array([{"x": 1}], dtype=object), joints=np.zeros((1, 7)))
    with pytest.raises(ConfigError, match="poses.npz"):
        captured.tool_poses(tmp_path, ToolPoses(spec))


def test_a_picture_without_a_pose_or_a_board_is_left_out(spec, tmp_path, capsys):
    tools, boards = arm(np.random.default_rng(0), 2)
    folder = captured.Folder(tmp_path)
    folder.add(picture(boards[0]), None)
    folder.add(picture(boards[1]), None)
    folder.add(np.zeros((480, 640), np.uint8), None)
    (tmp_path / "poses.json").write_text(json.dumps({"views": {"001.png": {"tool_in_base": tools[1].tolist()}}}))
    session = HandEyeSession(BOARD, PINHOLE, True)
    capture.read(tmp_path, session, spec)
    assert session.names == ["001.png"]
    said = capsys.readouterr().out
    assert "000.png: no robot pose" in said and "002.png: no board" in said


def test_a_folder_without_the_board_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="a folder with pictures"):
        capture.read(tmp_path, LensSession(BOARD), None)
    captured.Folder(tmp_path).add(np.zeros((480, 640), np.uint8), None)
    with pytest.raises(ConfigError, match="is it the board declared"):
        capture.read(tmp_path, LensSession(BOARD), None)


def test_the_guess_of_a_lens_tells_how_a_board_is_turned():
    at = facing(np.random.default_rng(2))
    found = LensSession(BOARD)
    assert found.take("a", seen(at, LENS), None).endswith("corners")
    assert found.count == 1
