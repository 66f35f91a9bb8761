"""controllers.yaml of every real arm fits its robot.yaml, and one that does not is refused before anything starts."""

import numpy as np
import pytest
import yaml

from vla_mbpo.bringup import Options, graph
from vla_mbpo.core.controllers import FILE, check_controllers
from vla_mbpo.core.errors import ConfigError
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.paths import robot_dir, robots

REAL = [name for name in robots() if not name.startswith("sim_")]


@pytest.fixture
def changed(tmp_path):
    """The UR5e's folder with other controllers: a function that takes what changes them and returns the folder."""

    def make(change):
        folder = tmp_path / "ur5e"
        folder.mkdir()
        for file in robot_dir("ur5e").iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        raw = yaml.safe_load((folder / FILE).read_text())
        change(raw)
        (folder / FILE).write_text(yaml.safe_dump(raw))
        return folder

    return make


@pytest.mark.parametrize("robot", REAL)
def test_the_controllers_of_every_real_arm_are_of_its_joints(robot):
    folder = robot_dir(robot)
    check_controllers(folder / FILE, RobotSpec.load(folder))


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_wrong_joint_name_is_refused_before_anything_starts(changed, dry_run):
    folder = changed(lambda raw: raw["arm_controller"]["ros__parameters"]["joints"].__setitem__(2, "elbow"))
    with pytest.raises(ConfigError, match=r"arm_controller.joints: .*'elbow'.*robot.yaml says .*'elbow_joint'"):
        graph(str(folder), Options(dry_run=dry_run))


def _set(section, **values):
    return lambda raw: raw[section]["ros__parameters"].update(values)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: raw.pop("arm_controller"), "arm_controller.*ros__parameters"),
        (_set("arm_controller", type="position_controllers/JointGroupPositionController"), "arm_controller.type"),
        (_set("arm_controller", state_interfaces=["position"]), "state_interfaces.*velocity"),
        (_set("arm_controller", allow_partial_joints_goal=True), "allow_partial_joints_goal"),
        (_set("arm_controller", joints=None), "arm_controller.joints"),
        (_set("gripper_controller", joints=["finger"]), "gripper_controller.joints.*robotiq_85_left_knuckle_joint"),
        (_set("gripper_controller", type="x"), "gripper_controller.type"),
    ],
)
def test_other_controllers_are_refused_in_one_line(changed, change, words):
    folder = changed(change)
    with pytest.raises(ConfigError, match=words) as error:
        check_controllers(folder / FILE, RobotSpec.load(folder))
    assert "\n" not in str(error.value)


def test_a_dry_run_needs_controllers_and_a_real_arm(changed):
    folder = changed(lambda raw: None)
    (folder / FILE).unlink()
    with pytest.raises(ConfigError, match=FILE):
        graph(str(folder), Options(dry_run=True))
    assert graph(str(folder))  # an arm that is driven otherwise has none to compare
    with pytest.raises(ConfigError, match="--dry-run.*sim_panda"):
        graph("sim_panda", Options(dry_run=True))


def test_a_dry_run_touches_no_hardware_and_not_the_real_arms_latch():
    dry = {spec.name: spec for spec in graph("ur5e", Options(dry_run=True))}
    real = {spec.name: spec for spec in graph("ur5e")}
    assert set(dry) - set(real) == {"mock_arm"} and dry["mock_arm"].motion_critical
    assert {dry[f"{view}_camera"].parameters["source"] for view in ("head", "wrist")} == {"pattern"}
    assert dry["gate"].parameters["state_file"] == "" and "state_file" not in real["gate"].parameters
    assert (dry["policy"].executable, real["policy"].executable) == ("sway", "policy")
    chosen = {spec.name: spec for spec in graph("ur5e", Options(dry_run=True, bundle="sft_few"))}
    assert chosen["policy"].executable == "policy"


@pytest.mark.parametrize("robot", REAL)
def test_the_drivers_gripper_joint_maps_to_the_opening_and_back(robot):
    spec = RobotSpec.load(robot_dir(robot))
    driver, (low, high) = spec.gripper_driver, spec.gripper_range
    assert driver.position(low) == pytest.approx(driver.closed) and driver.position(high) == pytest.approx(driver.open)
    for opening in np.linspace(low, high, 5):
        assert driver.opening(driver.position(opening)) == pytest.approx(opening)


@pytest.mark.parametrize("raw", [None, {"joint": "j", "closed": 0.0}, {"joint": "j", "closed": 1.0, "open": 1.0}])
def test_a_gripper_mapping_that_maps_nothing_is_refused(changed, raw):
    folder = changed(lambda _: None)
    robot = yaml.safe_load((folder / "robot.yaml").read_text())
    robot["gripper"]["driver"] = raw
    (folder / "robot.yaml").write_text(yaml.safe_dump(robot))
    with pytest.raises(ConfigError, match="gripper.driver"):
        RobotSpec.load(folder)


def test_scaled_limits_are_lower_in_speed_and_acceleration_alone():
    spec = RobotSpec.load(robot_dir("ur5e"))
    slow = spec.scaled(0.25)
    for name in ("velocity", "acceleration", "tool_speed", "gripper_speed"):
        np.testing.assert_allclose(getattr(slow, name), 0.25 * np.asarray(getattr(spec, name)))
    for name in ("lower", "upper", "jerk", "home", "workspace_lower"):
        np.testing.assert_array_equal(getattr(slow, name), getattr(spec, name))


@pytest.mark.parametrize("share", [1.0001, 2.0, 0.0, -0.5, float("nan"), float("inf")])
def test_a_scale_that_lowers_nothing_is_refused(share):
    with pytest.raises(ConfigError, match="limits_scale"):
        RobotSpec.load(robot_dir("ur5e")).scaled(share)
    with pytest.raises(ConfigError, match="--limits-scale"):
        graph("ur5e", Options(limits_scale=share))


def test_every_node_that_reads_limits_gets_the_scale():
    specs = graph("ur5e", Options(limits_scale=0.2, dry_run=True))
    assert all(spec.parameters["limits_scale"] == 0.2 for spec in specs[:-1])
    assert not any("limits_scale" in spec.parameters for spec in graph("ur5e"))
