"""Checks of the way through space: tool speed, link box, declared obstacles, jerk; and the limits they come from."""

from dataclasses import replace

import mujoco
import numpy as np
import pytest
import yaml
from gate_samples import ROBOT, STAMP, checks, chunk, gate, spec, state, still_rows, vet

from vla_mbpo.core.chunk import JointRows
from vla_mbpo.core.errors import ConfigError
from vla_mbpo.core.robot import Obstacle, RobotSpec
from vla_mbpo.gate.config import GateConfig
from vla_mbpo.gate.gate import Gate


def tool_at_home():
    kinematics = gate().kinematics
    kinematics.place(spec().home[None])
    return kinematics.tool[0].copy()


def swing(joint: int, speed: float) -> np.ndarray:
    """Rows that turn one joint from rest at home, up to ``speed`` [rad/s]."""
    rows, t = still_rows(), np.arange(1, 17) * 0.05
    rows[:, joint] += speed * np.clip(t - 0.1, 0.0, None) ** 2 / 1.4
    return rows


def box_beside(distance: float) -> Obstacle:
    """An obstacle in front of the tool at home."""
    near = tool_at_home() + [distance, -0.1, -0.1]
    return Obstacle("post", near, near + [0.05, 0.2, 0.2])


def test_jerk_above_its_limit_is_refused():
    rows = swing(0, 0.8)
    assert isinstance(vet(chunk(rows)), JointRows)
    tight = Gate(replace(spec(), jerk=np.full(7, 5.0)))
    found = next(r for r in vet(chunk(rows), by=tight) if r.check == "joint_jerk")
    assert found.subject == spec().joints[0] and found.value > found.limit == 5.0


@pytest.mark.parametrize(("joint", "limit", "subject"), [(0, [1.0, 25.0], "tool m/s"), (6, [17.0, 2.5], "tool rad/s")])
def test_a_tool_that_moves_or_turns_too_fast_is_refused(joint, limit, subject):
    rows = swing(joint, 0.8)
    assert isinstance(vet(chunk(rows)), JointRows)
    slow = Gate(replace(spec(), tool_speed=np.array(limit)), GateConfig(tool_speed_factor=0.1))
    (found,) = vet(chunk(rows), by=slow)
    assert (found.check, found.subject) == ("tool_speed", subject)


def test_tool_speed_is_that_of_the_way_between_two_points():
    """Joint 1 turns the tool about the base axis: speed = radius x angular speed."""
    rows = still_rows()
    ramp = np.minimum(0.4, 0.1 * np.arange(16))  # the driver catches up with rows that begin at full speed
    rows[:, 0] += 0.05 * np.cumsum(ramp)
    radius = np.hypot(*tool_at_home()[:2])
    for factor, passes in ((1.02, True), (0.98, False)):
        limited = Gate(replace(spec(), tool_speed=np.array([factor * 0.4 * radius, 9.0])))
        found = vet(chunk(rows), state(stamp=STAMP), now=STAMP + 1, by=limited)  # no row is past yet
        assert ("tool_speed" not in checks(found)) == passes


def test_a_link_outside_its_box_is_refused_by_name():
    kinematics = gate().kinematics
    kinematics.place(spec().home[None])
    low = kinematics.bounds()[0][0, :, 1].min()
    boxed = Gate(replace(spec(), links_lower=np.array([-0.6, low - 0.01, -0.02])))
    (found,) = vet(chunk(swing(0, -0.4)), by=boxed)
    assert found.check == "link_box" and found.subject in kinematics.links


def inside(model, geom: int, rng) -> np.ndarray:
    """Points of a geometry in its own frame, (p, 3)."""
    box, kind, size = model.geom_aabb[geom], model.geom_type[geom], model.geom_size[geom]
    points = box[:3] + rng.uniform(-1, 1, (400, 3)) * box[3:]
    radius = np.linalg.norm(points[:, :2], axis=1)
    if kind == mujoco.mjtGeom.mjGEOM_CYLINDER:
        points = points[radius <= size[0]]
    elif kind in (mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_SPHERE):
        half = size[1] if kind == mujoco.mjtGeom.mjGEOM_CAPSULE else 0.0
        axial = np.clip(np.abs(points[:, 2]) - half, 0.0, None)
        points = points[np.hypot(radius, axial) <= size[0]]
    return points


def test_the_bounds_hold_every_point_of_every_link():
    kinematics, rng = gate().kinematics, np.random.default_rng(5)
    kinematics.place(rng.uniform(spec().lower, spec().upper, (50, 7)))
    low, high = kinematics.bounds()
    model = kinematics.model
    for link, name in enumerate(kinematics.links):
        for geom in np.flatnonzero(model.geom_bodyid == model.body(name).id):
            turned = kinematics._xmat[:50, geom].reshape(-1, 3, 3)
            points = kinematics._xpos[:50, geom, None] + inside(model, geom, rng) @ turned.transpose(0, 2, 1)
            assert (points.min(axis=1) >= low[:, link] - 1e-9).all(), name
            assert (points.max(axis=1) <= high[:, link] + 1e-9).all(), name


def test_a_motion_into_an_obstacle_is_refused_and_one_past_it_is_not():
    far, near = (Gate(replace(spec(), obstacles=(box_beside(d),))) for d in (0.30, 0.08))
    rows = still_rows()
    rows[:, 1] += np.linspace(0.0, 0.25, 16) ** 2 / 0.25  # leans forward
    assert isinstance(vet(chunk(rows), by=far), JointRows)
    (found,) = vet(chunk(rows), by=near)
    assert found.check == "obstacles" and found.subject.endswith("and post")
    assert found.value < found.limit == spec().obstacle_margin


def test_an_obstacle_at_the_home_pose_is_refused_at_once():
    with pytest.raises(ConfigError, match=r"obstacle_margin.*and post are closer"):
        Gate(replace(spec(), obstacles=(box_beside(-0.02),)))


@pytest.mark.parametrize("field", ["lower", "upper"])
def test_an_obstacle_that_is_not_a_number_is_refused(field):
    broken = replace(box_beside(0.3), **{field: np.array([np.nan, 0.0, 0.0])})
    with pytest.raises(ConfigError, match=rf"obstacles\.post\.{field}"):
        Gate(replace(spec(), obstacles=(broken,)))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"tool_speed": [1.7]}, "tool_speed"),
        ({"tool_speed": [0.0, 1.0]}, "tool_speed"),
        ({"links": {"lower": [0, 0, 0], "upper": [1, "x", 1]}}, "upper"),
        ({"obstacles": {"margin": 0.02, "boxes": {"post": {"lower": [0, 0, 0], "upper": [1, 1]}}}}, "upper"),
    ],
)
def test_a_wrong_limit_in_the_robot_file_names_its_field(tmp_path, change, field):
    raw = yaml.safe_load((ROBOT / "robot.yaml").read_text())
    (tmp_path / "robot.yaml").write_text(yaml.safe_dump({**raw, **change}))
    (tmp_path / "robot.urdf").write_text((ROBOT / "robot.urdf").read_text())
    with pytest.raises(ConfigError, match=field):
        RobotSpec.load(tmp_path)
