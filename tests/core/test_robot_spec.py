"""A robot description that cannot be used is refused with the field named."""

import numpy as np
import pytest
from core_samples import ROBOT, spoiled

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.core.robot import RobotSpec

FINGERS = ["panda_finger_joint1", "panda_finger_joint2"]


def test_limits_come_from_the_urdf():
    spec = RobotSpec.load(ROBOT)
    assert len(spec.joints) == 7 and spec.row_period == 50_000_000
    assert (spec.lower < spec.home).all() and (spec.home < spec.upper).all()
    np.testing.assert_allclose(spec.upper[1], 1.7628)
    with pytest.raises(ValueError, match="read-only"):
        spec.home[0] = 1.0


@pytest.mark.parametrize("missing", ["joints", "home", "acceleration", "workspace", "table", "gripper"])
def test_a_missing_field_is_named(tmp_path, missing):
    with pytest.raises(ConfigError, match=missing):
        RobotSpec.load(spoiled(tmp_path, **{missing: None}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("home", [0.0] * 6),
        ("home", [0.0, 0.0, 0.0, 3.0, 0.0, 1.0, 0.0]),
        ("home", ["x"] * 7),
        ("acceleration", [float("nan")] + [1.0] * 6),
        ("acceleration", [0.0] + [1.0] * 6),
        ("jerk", [1.0, float("inf"), 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("upper", [9.0] * 7),
        ("velocity", [9.0] * 7),
        ("joints", ["panda_joint1", "nobody"]),
        ("gripper", {"joints": FINGERS, "range": [0.0, 1.0], "speed": 0.2}),
        ("gripper", {"joints": FINGERS, "range": [0.08, 0.0], "speed": 0.2}),
        ("gripper", {"joints": FINGERS, "range": [0.0, 0.08], "speed": 50.0}),
    ],
)
def test_a_wrong_value_is_named(tmp_path, field, value):
    with pytest.raises(ConfigError, match=field):
        RobotSpec.load(spoiled(tmp_path, **{field: value}))


BOX = {"lower": [0.0, 0.0, 0.0], "upper": [0.1, 0.1, 0.1]}


@pytest.mark.parametrize(
    ("field", "value", "where", "key"),
    [
        ("velocities", [0.5] * 7, "robot.yaml", "velocities"),
        (
            "gripper",
            {"joints": FINGERS, "range": [0.0, 0.08], "speed": 0.2, "drive": {}},
            "robot.yaml.gripper",
            "drive",
        ),
        ("workspace", {**BOX, "uper": [0.1] * 3}, "robot.yaml.workspace", "uper"),
        ("links", {**BOX, "margin": 0.1}, "robot.yaml.links", "margin"),
        ("table", {"height": 0.0, "margin": 0.0, "heigth": 0.1}, "robot.yaml.table", "heigth"),
        ("obstacles", {"margin": 0.02, "boxes": {}, "box": {"post": BOX}}, "robot.yaml.obstacles", "box"),
        (
            "obstacles",
            {"margin": 0.02, "boxes": {"post": {**BOX, "margin": 0.3}}},
            "robot.yaml.obstacles.boxes.post",
            "margin",
        ),
    ],
)
def test_a_mistyped_key_is_refused_by_name(tmp_path, field, value, where, key):
    """Incident: `velocities` in place of `velocity` was passed over, and the URDF's looser limit held."""
    with pytest.raises(ConfigError, match=f"^{where}: '{key}' is not valid; keys that are not known here"):
        RobotSpec.load(spoiled(tmp_path, **{field: value}))


@pytest.mark.parametrize(
    ("line", "where"),
    [
        ("velocity:", "robot.yaml.velocity: None"),
        ("gripper: [a]", "robot.yaml.gripper: "),
        ("gripper: {joints: panda_finger_joint1, range: [0.0, 0.04], speed: 0.1}", "robot.yaml.gripper.joints: "),
        (
            "gripper: {joints: [panda_finger_joint1], range: [0.0, 0.04], speed: 0.1, driver: }",
            "robot.yaml.gripper.driver: None",
        ),
        ("obstacles: {margin: 0.02, boxes: }", "robot.yaml.obstacles.boxes: None"),
        ("obstacles: {margin: 0.02, boxes: {post: }}", "robot.yaml.obstacles.boxes.post: None"),
        ("obstacles: {margin: 0.02, boxes: {post: {lower: [0, 0, 0]}}}", "robot.yaml.obstacles.boxes.post.upper: None"),
        ("links: {lower: [0, 0, 0]}", "robot.yaml.links.upper: None"),
        ("table: {height: low, margin: 0.0}", "robot.yaml.table.height: 'low'"),
        ("horizon: many", "robot.yaml.horizon: 'many'"),
        ("joints: [[panda_joint1]]", "robot.yaml.joints: "),
    ],
)
def test_an_emptied_or_wrong_part_is_refused_by_its_path(tmp_path, line, where):
    """Incident: these ended in AttributeError, KeyError and ValueError, which no command says in one line."""
    path = spoiled(tmp_path, **{line.split(":")[0]: None}) / "robot.yaml"
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(ConfigError) as error:
        RobotSpec.load(path.parent)
    assert str(error.value).startswith(where)


def test_an_obstacle_is_read(tmp_path):
    (post,) = RobotSpec.load(spoiled(tmp_path, obstacles={"margin": 0.02, "boxes": {"post": BOX}})).obstacles
    assert post.name == "post" and post.upper.tolist() == [0.1, 0.1, 0.1]


def test_a_tighter_limit_is_taken(tmp_path):
    spec = RobotSpec.load(spoiled(tmp_path, velocity=[0.5] * 7))
    np.testing.assert_array_equal(spec.velocity, 0.5)


@pytest.mark.parametrize("text", ["", "[", "- a", "joints: {"])
def test_a_file_that_is_no_description_is_refused(tmp_path, text):
    folder = spoiled(tmp_path)
    (folder / "robot.yaml").write_text(text)
    with pytest.raises(ConfigError):
        RobotSpec.load(folder)


def test_a_folder_without_a_description_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="robot.yaml"):
        RobotSpec.load(tmp_path)
