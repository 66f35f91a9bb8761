"""Simulated cameras draw the state they are given."""

import numpy as np
import pytest

from vla_mbpo.sim.cameras import SceneCamera
from vla_mbpo.sim.scene import Scene
from vla_mbpo.sim.tasks import TASKS


@pytest.fixture(scope="module")
def scene(spec):
    return Scene.build(spec, "stack", 0)


@pytest.fixture(scope="module")
def camera(scene):
    camera = SceneCamera(scene, 48)
    yield camera
    camera.close()


def moved(scene, joint: str, by: float) -> np.ndarray:
    qpos = scene.qpos0.copy()
    qpos[scene.model.joint(joint).qposadr[0]] += by
    return qpos


def test_images_are_square_rgb_of_the_asked_size(scene, camera):
    for image in camera.render(scene.qpos0, "head", "wrist"):
        assert image.shape == (48, 48, 3)
        assert image.dtype == np.uint8


@pytest.mark.parametrize("name", ["head", "wrist"])
def test_a_moved_arm_changes_the_picture(scene, camera, name):
    still, other = camera.render(scene.qpos0, name)[0], camera.render(moved(scene, "panda_joint2", 0.6), name)[0]
    assert np.abs(still.astype(int) - other).mean() > 2


@pytest.mark.parametrize("name", ["head", "wrist"])
def test_moved_fingers_change_the_picture(scene, camera, name):
    closed = moved(scene, "panda_finger_joint1", -0.03)
    assert (camera.render(scene.qpos0, name)[0] != camera.render(closed, name)[0]).any()


def test_a_moved_cube_changes_the_head_picture(scene, camera):
    other = moved(scene, "red_cube", 0.05)
    assert (camera.render(scene.qpos0, "head")[0] != camera.render(other, "head")[0]).any()


def test_the_same_state_gives_the_same_pixels(scene, camera):
    before = camera.render(scene.qpos0, "head", "wrist")
    camera.render(moved(scene, "panda_joint2", 0.4), "head", "wrist")
    for one, two in zip(before, camera.render(scene.qpos0, "head", "wrist"), strict=True):
        np.testing.assert_array_equal(one, two)


def test_images_come_in_the_order_asked_for(scene, camera):
    head, wrist = camera.render(scene.qpos0, "head", "wrist")
    np.testing.assert_array_equal(camera.render(scene.qpos0, "wrist", "head")[0], wrist)
    assert (head != wrist).any()


def test_a_camera_built_in_another_process_draws_the_same(spec, scene, camera):
    other = SceneCamera.build(spec, "stack", 0, 48)
    try:
        np.testing.assert_array_equal(other.render(scene.qpos0, "head")[0], camera.render(scene.qpos0, "head")[0])
    finally:
        other.close()


@pytest.mark.parametrize("task", ["red_bin", "green_plate", "push"])
def test_the_head_camera_sees_the_cube_of_the_task(spec, task):
    chosen = TASKS[task]
    for seed in range(5):
        camera = SceneCamera(scene := Scene.build(spec, task, seed), 96)
        try:
            seen = camera.render(scene.qpos0, "head")[0].astype(int)
            start = scene.model.joint(f"{chosen.cube}_cube").qposadr[0]
            gone = scene.qpos0.copy()
            gone[start + 2] = -1.0  # below the table
            changed = np.abs(seen - camera.render(gone, "head")[0]).max(axis=2) > 30
        finally:
            camera.close()
        assert changed.sum() >= 12, seed
