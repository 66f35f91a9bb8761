"""Every robot description in config/robots: complete, consistent, with the published kinematics, fit for the gate."""

import xml.etree.ElementTree as ET
from functools import cache

import numpy as np
import pytest
import yaml

from vla_mbpo.core.chunk import ActionChunk, ActionType, JointRows
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.state import RobotState
from vla_mbpo.gate.gate import Gate
from vla_mbpo.paths import robot_dir, robots

ROBOTS = robots()
STAMP = 1_000_000_000_000
NOW = STAMP + 120_000_000

JOINTS = {
    "sim_panda": tuple(f"panda_joint{i}" for i in range(1, 8)),
    "franka_fr3": tuple(f"fr3_joint{i}" for i in range(1, 8)),
    "ur5e": tuple(f"{name}_joint" for name in "shoulder_pan shoulder_lift elbow wrist_1 wrist_2 wrist_3".split()),
    "xarm7": tuple(f"joint{i}" for i in range(1, 8)),
}

# Tool in the base frame with all joints at zero [m], by hand from the makers' numbers.
AT_ZERO = {
    # Franka Control Interface, Denavit-Hartenberg parameters: up d1 + d3 + d5, forward a7 (a4 and a5 cancel), then down
    # from joint 7: flange 0.107 and tool 0.1034.
    "sim_panda": (0.088, 0.0, 0.333 + 0.316 + 0.384 - 0.107 - 0.1034),
    "franka_fr3": (0.088, 0.0, 0.333 + 0.316 + 0.384 - 0.107 - 0.1034),
    # Universal Robots, DH parameters of the UR5e, turned by pi about z (base_link instead of base): forward a2 + a3,
    # sideways d4 + d6 and the tool (0.155), up d1 - d5.
    "ur5e": (0.425 + 0.3922, 0.1333 + 0.0996 + 0.155, 0.1625 - 0.0997),
    # UFACTORY, modified DH parameters of the xArm7: forward a4 + a5 + a7, up d1 + d3 - d5 - d7, then down 0.172 to the
    # tool. The flange is at (206, 0, 120.5) mm.
    "xarm7": (0.0525 + 0.0775 + 0.076, 0.0, 0.267 + 0.293 - 0.3425 - 0.097 - 0.172),
}


@cache
def load(robot: str) -> RobotSpec:
    return RobotSpec.load(robot_dir(robot))


@cache
def gate(robot: str) -> Gate:
    return Gate(load(robot))


def urdf(robot: str, kind: str) -> dict[str, dict[str, float]]:
    """Limits of the URDF's joints of this kind, in the file's order."""
    joints = ET.parse(load(robot).urdf).getroot().iter("joint")
    return {j.get("name"): {k: float(v) for k, v in j.find("limit").items()} for j in joints if j.get("type") == kind}


def swing(robot: str) -> np.ndarray:
    """Rows in which every joint moves away from home by 0.05 rad, from rest to rest."""
    spec = load(robot)
    share = 0.5 - 0.5 * np.cos(np.linspace(0.0, np.pi, spec.horizon))
    return spec.home + 0.05 * share[:, None]


def vet(robot: str, rows: np.ndarray):
    """The gate's verdict on rows, with the arm at rest at home."""
    spec = load(robot)
    opening = spec.gripper_range[1] / 2
    chunk = ActionChunk(
        chunk_set_id=1,
        candidate=0,
        observation_stamp=STAMP,
        expiry=STAMP + 800_000_000,
        action_type=ActionType.JOINT_POSITION,
        joint_names=spec.joints,
        reference=spec.home.copy(),
        row_period=spec.row_period,
        positions=rows,
        gripper=np.full(len(rows), opening),
        committed_rows=0,
    )
    return gate(robot).vet(chunk, RobotState(NOW, spec.home.copy(), np.zeros(len(spec.joints)), opening), None, NOW)


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_description_loads_under_its_folders_name(robot):
    assert load(robot).name == robot


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_gate_takes_the_home_pose(robot):
    assert gate(robot).spec is load(robot)


@pytest.mark.parametrize("robot", ROBOTS)
def test_joints_have_the_makers_names_in_the_order_of_the_chain(robot):
    assert load(robot).joints == JOINTS[robot] == tuple(urdf(robot, "revolute"))


@pytest.mark.parametrize("robot", ROBOTS)
def test_limits_do_not_exceed_those_of_the_urdf(robot):
    spec, own = load(robot), urdf(robot, "revolute")
    for i, limit in enumerate(own[name] for name in spec.joints):
        assert limit["lower"] <= spec.lower[i] < spec.upper[i] <= limit["upper"]
        assert 0 < spec.velocity[i] <= limit["velocity"]


@pytest.mark.parametrize("robot", ROBOTS)
def test_fingers_can_follow_the_grippers_range_and_speed(robot):
    spec, fingers = load(robot), urdf(robot, "prismatic")
    low, high, speed = (
        sum(fingers[name][key] for name in spec.gripper_joints) for key in ("lower", "upper", "velocity")
    )
    assert low <= spec.gripper_range[0] and spec.gripper_range[1] <= high + 1e-9
    assert spec.gripper_speed <= speed + 1e-9


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_tool_is_where_the_makers_numbers_put_it(robot):
    kinematics = gate(robot).kinematics
    kinematics.place(np.zeros((1, len(load(robot).joints))))
    np.testing.assert_allclose(kinematics.tool[0], AT_ZERO[robot], atol=0.002)


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_tool_points_down_at_home(robot):
    spec, kinematics = load(robot), gate(robot).kinematics
    kinematics.place(spec.home[None])
    np.testing.assert_allclose(kinematics.data.body(spec.tool_link).xmat[6:], [0.0, 0.0, -1.0], atol=0.01)


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_short_motion_around_home_passes(robot):
    assert isinstance(vet(robot, swing(robot)), JointRows)


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_jump_of_any_joint_is_refused(robot):
    for joint in range(len(load(robot).joints)):
        rows = swing(robot)
        rows[8:, joint] += 2.0
        verdict = vet(robot, rows)
        assert not isinstance(verdict, JointRows) and "joint_velocity" in {reason.check for reason in verdict}


@pytest.mark.parametrize("robot", ROBOTS)
def test_only_a_simulated_arm_engages_by_itself(robot):
    parameters = yaml.safe_load((robot_dir(robot) / "params.yaml").read_text())
    assert parameters["gate"]["ros__parameters"]["start_engaged"] is robot.startswith("sim_")
