"""What calibrations are on disk, and which of them are refused."""

import dataclasses
import datetime

import numpy as np
import pytest
import yaml
from projected import BOARD, CAMERA, facing, seen

from vla_mbpo.calibrate import sealed
from vla_mbpo.calibrate.camera_command import calibration_of
from vla_mbpo.calibrate.intrinsics import Lens, solve
from vla_mbpo.calibrate.placed import Placed
from vla_mbpo.calibrate.sealed import Provenance
from vla_mbpo.cameras.calibration import Calibration
from vla_mbpo.core.errors import ConfigError

MADE = Provenance("pictures in a", "0815", "sim_panda", 20, 0.31, "test")
PLACED = Placed("in_hand", "panda_tool", "wrist_camera_optical_frame", CAMERA, (0.1, 0.001), "", MADE)


@pytest.fixture(scope="module")
def calibration():
    rng = np.random.default_rng(0)
    return calibration_of(solve(BOARD, [seen(facing(rng)) for _ in range(10)]), "wrist_camera", MADE)


def edited(path, change):
    raw = yaml.safe_load(path.read_text())
    change(raw)
    path.write_text(yaml.safe_dump(raw))


def days_ago(days):
    return (datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_intrinsics_come_back_as_they_were_written(calibration, tmp_path):
    made = calibration.write(tmp_path / "deep" / "wrist_camera.yaml")
    found = Calibration.load(tmp_path / "deep" / "wrist_camera.yaml")
    assert found == dataclasses.replace(calibration, provenance=made) and len(made.sha256) == 64
    assert np.allclose(Lens.of(found).matrix, np.reshape(calibration.k, (3, 3)))
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["wrist_camera.yaml"]


def test_the_file_has_what_camera_info_manager_reads(calibration, tmp_path):
    """Keys and shapes of camera_calibration_parsers' parse_yml.cpp, which passes over other keys."""
    calibration.write(tmp_path / "camera.yaml")
    raw = yaml.safe_load((tmp_path / "camera.yaml").read_text())
    assert (raw["image_width"], raw["image_height"], raw["camera_name"]) == (640, 480, "wrist_camera")
    assert raw["distortion_model"] == "plumb_bob"
    shapes = {"camera_matrix": (3, 3), "rectification_matrix": (3, 3), "projection_matrix": (3, 4)}
    for key, (rows, columns) in {**shapes, "distortion_coefficients": (1, 5)}.items():
        assert (raw[key]["rows"], raw[key]["cols"]) == (rows, columns) and len(raw[key]["data"]) == rows * columns
        assert all(isinstance(value, float) for value in raw[key]["data"])


def test_a_place_comes_back_as_it_was_written(tmp_path):
    made = PLACED.write(tmp_path / "place.yaml")
    found = Placed.load(tmp_path / "place.yaml")
    assert np.allclose(found.camera, CAMERA, atol=1e-12) and found.provenance == made
    assert (found.eye, found.parent, found.child, found.sigma) == (
        "in_hand", "panda_tool", "wrist_camera_optical_frame", (0.1, 0.001)
    )  # fmt: skip


def test_a_number_that_was_changed_is_noticed_and_a_comment_is_not(calibration, tmp_path):
    path = tmp_path / "camera.yaml"
    calibration.write(path)
    path.write_text("# ours\n" + path.read_text())
    Calibration.load(path)
    edited(path, lambda raw: raw["camera_matrix"]["data"].__setitem__(0, 500.0))
    with pytest.raises(ConfigError, match="sha256.*changed after it was made"):
        Calibration.load(path)


@pytest.mark.parametrize("field, value", [("date", "2999-01-01T00:00:00Z"), ("serial", "x"), ("robot", "ur5e")])
def test_a_changed_provenance_is_noticed(tmp_path, field, value):
    PLACED.write(tmp_path / "place.yaml")
    edited(tmp_path / "place.yaml", lambda raw: raw["provenance"].__setitem__(field, value))
    with pytest.raises(ConfigError, match="sha256"):
        Placed.load(tmp_path / "place.yaml")


@pytest.mark.parametrize(
    "change, text",
    [(lambda raw: raw.pop("rotation"), "rotation"), (lambda raw: raw.__setitem__("kind", "x"), "kind"),
     (lambda raw: raw["translation"].__setitem__("x", float("nan")), "translation"),
     (lambda raw: raw["provenance"].pop("serial"), "provenance.serial"),
     (lambda raw: raw["rotation"].__setitem__("w", 9.0), "length 1")],
    ids=["missing", "kind", "nan", "serial", "quaternion"],
)  # fmt: skip
def test_a_broken_place_is_refused_by_name(tmp_path, change, text):
    PLACED.write(tmp_path / "place.yaml")

    def break_it(raw):
        change(raw)
        if "serial" in raw["provenance"]:  # as if it had been made so
            raw["provenance"].pop("sha256")
            raw["provenance"]["sha256"] = sealed._hash(raw)

    edited(tmp_path / "place.yaml", break_it)
    with pytest.raises(ConfigError, match=text):
        Placed.load(tmp_path / "place.yaml")


def test_one_of_another_camera_or_robot_or_an_old_one_is_refused():
    MADE.require_for("it", "0815", "sim_panda", 1.0)
    MADE.require_for("it")
    dataclasses.replace(MADE, robot="").require_for("it", robot="ur5e")
    with pytest.raises(ConfigError, match="it: serial: '0815'.*the camera is '4711'"):
        MADE.require_for("it", serial="4711")
    with pytest.raises(ConfigError, match="it: serial: '0815'.*says which one it is"):
        MADE.require_for("it", serial="")
    with pytest.raises(ConfigError, match="it: robot: 'sim_panda'.*'ur5e'"):
        MADE.require_for("it", robot="ur5e")
    old = dataclasses.replace(MADE, date=days_ago(200))
    with pytest.raises(ConfigError, match="it: age: '200.0 days'.*at most 180 days"):
        old.require_for("it", max_age=180)
    old.require_for("it", max_age=0)
    with pytest.raises(ConfigError, match="clock"):
        dataclasses.replace(MADE, date=days_ago(-3)).require_for("it")


def test_a_file_of_another_program_is_read_and_vouches_for_nothing(calibration, tmp_path):
    path = tmp_path / "camera.yaml"
    calibration.write(path)
    edited(path, lambda raw: raw.pop("provenance"))
    found = Calibration.load(path)
    assert found.provenance is None
    found.require_for("4711", "ur5e", 1.0)


def test_a_place_belongs_to_the_intrinsics_it_was_found_with(tmp_path):
    placed = dataclasses.replace(PLACED, intrinsics="a" * 64)
    placed.require_intrinsics(tmp_path, dataclasses.replace(MADE, sha256="a" * 64))
    for other in (None, dataclasses.replace(MADE, sha256="b" * 64)):
        with pytest.raises(ConfigError, match="made with"):
            placed.require_intrinsics(tmp_path, other)


def test_a_folder_that_cannot_be_written_to_is_an_error_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="--out"):
        PLACED.write(tmp_path / "file" / "place.yaml")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
