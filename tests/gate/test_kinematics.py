"""Distances against MuJoCo's own collision engine, and verdicts that follow the pose."""

from dataclasses import replace

import mujoco
import numpy as np
import pytest
from gate_samples import checks, resting_at, spec
from hypothesis import given
from hypothesis import strategies as st

from vla_mbpo.core.chunk import JointRows
from vla_mbpo.core.errors import ConfigError
from vla_mbpo.gate.kinematics import Kinematics

KINEMATICS = Kinematics(spec())
POSES = 2000


def random_poses(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(spec().lower, spec().upper, (count, 7))


@pytest.fixture(scope="module")
def oracle():
    """The same URDF with a table plane, through MuJoCo's broad and narrow phase instead of ours."""
    description = mujoco.MjSpec.from_file(str(spec().urdf))
    description.worldbody.add_geom(
        name="table", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[3, 3, 0.1], pos=[0, 0, spec().table_height]
    )
    return description.compile()


def contacts(model, pose) -> set[frozenset[str]]:
    """Pairs of bodies that overlap by more than 0.1 mm, and a mere touch counts as nothing."""
    data = mujoco.MjData(model)
    for name, value in zip(spec().joints, pose, strict=True):
        data.joint(name).qpos[0] = value
    for name in spec().gripper_joints:
        data.joint(name).qpos[0] = 0.04
    mujoco.mj_forward(model, data)
    bodies = model.geom_bodyid
    return {
        frozenset((model.body(bodies[c.geom1]).name, model.body(bodies[c.geom2]).name))
        for c in data.contact
        if c.dist < -1e-4
    }


def test_self_collisions_are_those_of_the_oracle(oracle):
    poses = random_poses(3, POSES)
    missed = false = hits = 0
    for pose in poses:
        KINEMATICS.place(pose[None])
        distance = KINEMATICS.self_clearance(0.01)[0]
        found = contacts(oracle, pose)
        for pair, gap in zip(KINEMATICS.pairs, distance, strict=True):
            real = frozenset(pair) in found
            hits += real
            missed += real and gap >= 0
            false += not real and gap < -1e-3
    assert hits > 50, "the sample must contain collisions"
    assert (missed, false) == (0, 0)


def test_table_contacts_are_those_of_the_oracle(oracle):
    missed = false = hits = 0
    for pose in random_poses(4, POSES):
        KINEMATICS.place(pose[None])
        found = contacts(oracle, pose)
        for link, gap in zip(KINEMATICS.links, KINEMATICS.table_clearance()[0], strict=True):
            real = frozenset((link, "world")) in found
            hits += real
            missed += real and gap >= 0
            false += not real and gap < -1e-3
    assert hits > 50
    assert (missed, false) == (0, 0)


@given(st.integers(0, 10_000))
def test_rows_do_not_influence_each_other(seed):
    poses = random_poses(seed, 4)
    KINEMATICS.place(poses)
    together = KINEMATICS.tool.copy(), KINEMATICS.table_clearance(), KINEMATICS.self_clearance(0.02)
    for k, pose in enumerate(poses):
        KINEMATICS.place(pose[None])
        np.testing.assert_array_equal(KINEMATICS.tool[0], together[0][k])
        np.testing.assert_array_equal(KINEMATICS.table_clearance()[0], together[1][k])
        np.testing.assert_allclose(KINEMATICS.self_clearance(0.02)[0], together[2][k], atol=1e-9)


def test_the_choice_of_pairs_is_computed_and_repeatable():
    assert Kinematics(spec()).pairs == KINEMATICS.pairs
    pairs = {frozenset(pair) for pair in KINEMATICS.pairs}
    assert frozenset(("panda_link0", "panda_hand")) in pairs
    assert frozenset(("panda_link5", "panda_hand")) in pairs
    for touching in (("panda_link0", "panda_link1"), ("panda_hand", "panda_finger1"), ("panda_link5", "panda_link7")):
        assert frozenset(touching) not in pairs
    assert frozenset(("panda_finger1", "panda_finger2")) not in pairs


def test_straight_passes_bent_passes_folded_is_refused():
    home = spec().home
    bent = home + np.array([0.3, 0.2, 0.0, 0.1, 0.2, 0.1, 0.0])
    folded = np.array([0.0, 0.8, 0.0, -3.0, 0.0, 1.5, 0.785])  # forearm folded back: the hand meets the base
    assert isinstance(resting_at(home), JointRows)
    assert isinstance(resting_at(bent), JointRows)
    assert "self_collision" in checks(resting_at(folded))


def test_a_pose_under_the_table_is_refused_with_the_link_named():
    low = np.array([0.0, 0.9, 0.0, -1.9, 0.0, 2.8, 0.785])
    verdict = resting_at(low)
    assert "table" in checks(verdict)
    assert next(reason for reason in verdict if reason.check == "table").subject in KINEMATICS.links


@pytest.mark.parametrize("origin", ['xyz="0 0 0.8"', 'rpy="0 0 1.57"'])
def test_a_robot_that_stands_elsewhere_than_its_base_frame_is_refused(tmp_path, origin):
    """Table, link box and obstacles are in the base frame; on a pedestal they were looked for 0.8 m below the arm."""
    text = spec().urdf.read_text()
    stand = f'<parent link="world"/><child link="{spec().base_frame}"/><origin {origin}/>'
    base = f'<link name="world"/><joint name="stand" type="fixed">{stand}</joint>'
    raised = tmp_path / "robot.urdf"
    raised.write_text(text.replace("</robot>", f"{base}</robot>"))
    with pytest.raises(ConfigError, match=f"base_frame: '{spec().base_frame}'"):
        Kinematics(replace(spec(), urdf=raised))
