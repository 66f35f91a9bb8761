"""Scenes: reproducible, distinct, well laid out; the model agrees with the robot's URDF."""

import itertools
import xml.etree.ElementTree as ET

import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.sim.layout import sample_layout
from vla_mbpo.sim.scene import Scene
from vla_mbpo.sim.tasks import (
    CALIBRATION_SEEDS,
    HELD_OUT_TASKS,
    TASKS,
    TEST_SEED_BASE,
    TRAIN_SEEDS,
    TRAINING_TASKS,
)


def model_bytes(scene: Scene) -> bytes:
    buffer = np.zeros(mujoco.mj_sizeModel(scene.model), np.uint8)
    mujoco.mj_saveModel(scene.model, None, buffer)
    return buffer.tobytes()


@pytest.mark.parametrize("task", TASKS)
def test_a_task_and_a_seed_always_give_the_same_scene(spec, task):
    one, two = Scene.build(spec, task, 7), Scene.build(spec, task, 7)
    assert model_bytes(one) == model_bytes(two)
    np.testing.assert_array_equal(one.qpos0, two.qpos0)


@pytest.mark.parametrize("task", TASKS)
def test_scenes_of_different_seeds_differ(spec, task):
    scenes = [Scene.build(spec, task, seed) for seed in range(10)]
    assert len({scene.qpos0.tobytes() for scene in scenes}) == 10
    assert len({model_bytes(scene) for scene in scenes}) == 10


def test_scenes_of_different_tasks_differ_at_one_seed(spec):
    assert len({model_bytes(Scene.build(spec, task, 3)) for task in TASKS}) == len(TASKS)


def test_an_unknown_task_is_refused_with_the_known_ones(spec):
    with pytest.raises(ConfigError) as error:
        Scene.build(spec, "juggle", 0)
    assert "'juggle'" in str(error.value)
    assert all(task in str(error.value) for task in TASKS)


@given(st.integers(0, 10**12))
def test_a_test_seed_is_never_a_training_or_calibration_seed(seed):
    assert TEST_SEED_BASE + seed not in TRAIN_SEEDS
    assert TEST_SEED_BASE + seed not in CALIBRATION_SEEDS


def test_training_and_calibration_seeds_are_disjoint_and_as_published():
    assert not set(TRAIN_SEEDS) & set(CALIBRATION_SEEDS)
    assert (TRAIN_SEEDS[0], TRAIN_SEEDS[-1]) == (0, 999_999)
    assert (CALIBRATION_SEEDS[0], CALIBRATION_SEEDS[-1]) == (1_000_000, 1_999_999)


def test_two_of_ten_tasks_are_held_out_and_every_word_of_theirs_is_trained():
    assert len(TASKS) == 10
    assert len(HELD_OUT_TASKS) == 2
    assert not set(HELD_OUT_TASKS) & set(TRAINING_TASKS)
    words = {word for name in TRAINING_TASKS for word in TASKS[name].instruction.split()}
    assert {word for name in HELD_OUT_TASKS for word in TASKS[name].instruction.split()} <= words


def test_instructions_are_distinct():
    assert len({task.instruction for task in TASKS.values()}) == len(TASKS)


def test_the_models_joints_have_the_urdfs_limits(spec):
    model = Scene.build(spec, "stack", 0).model
    urdf = {joint.get("name"): joint for joint in ET.parse(spec.urdf).getroot().findall("joint")}
    for name in (*spec.joints, *spec.gripper_joints):
        limit = urdf[name].find("limit")
        assert model.joint(name).range.tolist() == [float(limit.get("lower")), float(limit.get("upper"))]
        assert model.joint(name).limited[0]


def test_the_models_joint_axes_and_origins_are_the_urdfs(spec):
    model = Scene.build(spec, "stack", 0).model
    urdf = {joint.get("name"): joint for joint in ET.parse(spec.urdf).getroot().findall("joint")}
    for name in (*spec.joints, *spec.gripper_joints):
        axis = [float(x) for x in urdf[name].find("axis").get("xyz").split()]
        origin = [float(x) for x in urdf[name].find("origin").get("xyz").split()]
        np.testing.assert_allclose(model.joint(name).axis, axis, atol=1e-9)
        np.testing.assert_allclose(model.body(model.joint(name).bodyid[0]).pos, origin, atol=1e-9)


def test_every_arm_joint_has_a_servo_of_its_name(spec):
    model = Scene.build(spec, "stack", 0).model
    for name in (*spec.joints, *spec.gripper_joints):
        assert model.actuator(name).trnid[0] == model.joint(name).id


@pytest.mark.parametrize("task", TASKS)
def test_the_arm_starts_near_home_and_inside_its_workspace_and_limits(spec, task):
    for seed in range(20):
        scene = Scene.build(spec, task, seed)
        data = mujoco.MjData(scene.model)
        data.qpos[:] = scene.qpos0
        mujoco.mj_kinematics(scene.model, data)
        q = np.array([data.joint(name).qpos[0] for name in spec.joints])
        assert np.abs(q - spec.home).max() <= 0.06
        assert np.all((q >= spec.lower) & (q <= spec.upper))
        tool = data.body(spec.tool_link).xpos
        assert np.all((tool > spec.workspace_lower) & (tool < spec.workspace_upper))


def deepest_contact(spec, task, seed) -> tuple[float, str]:
    scene = Scene.build(spec, task, seed)
    data = mujoco.MjData(scene.model)
    data.qpos[:] = scene.qpos0
    mujoco.mj_forward(scene.model, data)
    found = (0.0, "")
    for contact in data.contact[: data.ncon]:
        found = min(found, (contact.dist, " ".join(scene.model.geom(g).name for g in contact.geom)))
    return found


@pytest.mark.parametrize("task", TASKS)
def test_nothing_starts_inside_another_thing(spec, task):
    for seed in range(30):
        depth, pair = deepest_contact(spec, task, seed)
        assert depth > -0.001, (seed, pair)


def test_no_distractor_stands_in_the_button():
    for task, seed in itertools.product(TASKS.values(), range(300)):
        layout = sample_layout(task, seed)
        for x, y in layout.distractors:
            assert np.hypot(x - layout.button[0], y - layout.button[1]) > 0.042 + 0.014, (task.name, seed)


@pytest.mark.slow
def test_nothing_starts_inside_another_thing_over_many_seeds(spec):
    for task, seed in itertools.product(TASKS, range(300)):
        depth, pair = deepest_contact(spec, task, seed)
        assert depth > -0.001, (task, seed, pair)
