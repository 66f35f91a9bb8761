"""The bundle in models/: pictures of the simulated cameras are known to it, others are not."""

import numpy as np
import pytest

from vla_mbpo.core.observation import Observation
from vla_mbpo.imagination.session import WorldModelSession
from vla_mbpo.paths import bundle_dir
from vla_mbpo.sim.cameras import SceneCamera
from vla_mbpo.sim.scene import Scene
from vla_mbpo.sim.tasks import CALIBRATION_SEEDS, TASKS, TRAINING_TASKS


@pytest.fixture(scope="module")
def session(spec):
    return WorldModelSession.load(bundle_dir("world_model"), spec)


@pytest.fixture(scope="module")
def views(spec):
    """Head and wrist pictures of the start of one scene of each task."""
    found = []
    for task in TRAINING_TASKS:
        scene = Scene.build(spec, task, CALIBRATION_SEEDS.start + 5)
        camera = SceneCamera(scene, 96)
        found.append((task, *camera.render(scene.qpos0, "head", "wrist")))
        camera.close()
    return found


def complaint(session, spec, task, head, wrist):
    pictures = (np.ascontiguousarray(picture) for picture in (head, wrist))
    seen = Observation(0, *pictures, spec.home.copy(), np.zeros(7), 0.08)
    return session.unfamiliar(session.observe(seen, TASKS[task].instruction))


def test_its_own_cameras_are_familiar(session, spec, views):
    assert [complaint(session, spec, *view) for view in views] == [""] * len(views)


@pytest.mark.parametrize(
    "change",
    [
        lambda head, wrist: (wrist, head),
        lambda head, wrist: (head[::-1], wrist[::-1]),
        lambda head, wrist: (head[:, ::-1], wrist),
        lambda head, wrist: (np.random.default_rng(0).integers(0, 256, head.shape, dtype=np.uint8), wrist),
    ],
    ids=["swapped", "upside down", "mirrored head", "noise in the head view"],
)
def test_other_pictures_are_not(session, spec, views, change):
    found = [complaint(session, spec, task, *change(head, wrist)) for task, head, wrist in views]
    assert all("unlike training" in text for text in found)


def test_a_chunk_that_jumps_is_beyond_what_it_was_shown(session, spec, views):
    task, head, wrist = views[0]
    seen = Observation(0, head, wrist, spec.home.copy(), np.zeros(7), 0.08)
    positions, gripper = np.tile(spec.home, (2, session.horizon, 1)), np.full((2, session.horizon), 0.08)
    positions[1, -1, 0] += 1.5
    found = session.vet(seen, TASKS[task].instruction, positions, gripper, session.tool_ways(positions))
    assert found.beyond.tolist() == [False, True]
