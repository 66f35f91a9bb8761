"""Where the camera is, from tool poses and views with known truth."""

import numpy as np
import pytest
from projected import BOARD, CAMERA, LENS, arm, seen
from scipy.spatial.transform import Rotation

from vla_mbpo.calibrate.hand_eye import solve
from vla_mbpo.calibrate.intrinsics import Lens
from vla_mbpo.calibrate.poses import apart, inverse, pose
from vla_mbpo.calibrate.session import HandEyeSession
from vla_mbpo.core.errors import ConfigError


@pytest.mark.parametrize("in_hand", [True, False], ids=["in_hand", "to_hand"])
def test_exact_views_give_the_place_exactly(in_hand):
    tools, boards = arm(np.random.default_rng(0), 10, in_hand)
    found = solve(BOARD, LENS, [seen(at) for at in boards], tools, in_hand)
    turn, distance = apart(found.camera, CAMERA)
    assert turn < 1e-3 and distance < 1e-5 and found.rms < 1e-3


def test_the_frames_are_those_that_tf_means():
    """A camera in the room: its pose in the base frame carries a point that it sees to where the tool has it."""
    tools, boards = arm(np.random.default_rng(1), 8, in_hand=False)
    found = solve(BOARD, LENS, [seen(at) for at in boards], tools, in_hand=False)
    corner = np.array([0.0, 0.0, 0.0, 1.0])
    by_camera, by_robot = found.camera @ boards[3] @ corner, tools[3] @ found.target @ corner
    assert np.allclose(by_camera, by_robot, atol=1e-5)


def test_a_picture_with_another_tool_pose_is_left_out():
    tools, boards = arm(np.random.default_rng(2), 14)
    tools[6] = tools[6] @ pose(Rotation.from_rotvec([0, 0.05, 0]), np.array([0.03, 0, 0]))
    found = solve(BOARD, LENS, [seen(at) for at in boards], tools, True)
    assert np.flatnonzero(~found.used).tolist() == [6]
    assert apart(found.camera, CAMERA)[1] < 1e-4


def test_what_the_last_outliers_leave_is_checked_too():
    """Incident: views left out after the third fit were not missed, and three were taken for enough."""
    rng = np.random.default_rng(0)
    tools, boards = arm(rng, 9)
    slips = [pose(Rotation.identity(), slip * rng.standard_normal(3)) for slip in np.geomspace(2e-4, 0.1, 9)]
    with pytest.raises(ConfigError, match="views: 3 .*at least 5"):
        solve(BOARD, LENS, [seen(at) for at in boards], tools @ np.array(slips), True)


def test_the_standard_errors_are_of_the_size_of_the_errors_also_when_tool_poses_err():
    for slip in (0.0, 1e-3):
        ratios = []
        for seed in range(8):
            rng = np.random.default_rng(seed)
            tools, boards = arm(rng, 15)
            wrong = np.array([tool @ pose(Rotation.identity(), slip * rng.standard_normal(3)) for tool in tools])
            found = solve(BOARD, LENS, [seen(at, noise=0.3, rng=rng) for at in boards], wrong, True)
            ratios.append(apart(found.camera, CAMERA)[1] / found.sigma[1])
        assert 0.4 < np.sqrt(np.mean(np.square(ratios))) < 2.5


def test_turning_about_one_axis_alone_is_refused():
    tools, boards = [], []
    target = pose(Rotation.from_euler("xyz", (np.pi, 0, 0)), np.array([0.5, 0.0, 0.0]))
    for angle in np.linspace(-0.5, 0.5, 8):
        tool = pose(Rotation.from_euler("zyx", (angle, 0, np.pi)), np.array([0.4, 0.1, 0.45]))
        tools.append(tool)
        boards.append(inverse(tool @ CAMERA) @ target)
    with pytest.raises(ConfigError, match="one axis only"):
        solve(BOARD, LENS, [seen(at) for at in boards], np.array(tools), True)


def test_a_tool_that_never_turned_and_too_few_views_are_refused():
    tools, boards = arm(np.random.default_rng(0), 8)
    same = np.repeat(tools[:1], 8, axis=0)
    with pytest.raises(ConfigError, match="turned by 0.0 deg"):
        solve(BOARD, LENS, [seen(boards[0])] * 8, same, True)
    with pytest.raises(ConfigError, match="views: 3 .*at least 5"):
        solve(BOARD, LENS, [seen(at) for at in boards[:3]], tools[:3], True)


def test_pictures_of_another_size_than_the_intrinsics_are_refused():
    tools, boards = arm(np.random.default_rng(0), 6)
    with pytest.raises(ConfigError, match="640, 480.*1280x720"):
        solve(BOARD, Lens(LENS.matrix, LENS.distortion, (1280, 720)), [seen(at) for at in boards], tools, True)


def test_a_session_asks_for_turning_and_for_views():
    session = HandEyeSession(BOARD, LENS, True)
    tools, boards = arm(np.random.default_rng(4), 30)
    session.take("first", seen(boards[0]), tools[0])
    session.take("second", seen(boards[0]), tools[0])
    said = "; ".join(session.wanting())
    assert "x (0 of 25 deg)" in said and "10 more poses" in said
    for tool, at in zip(tools[1:], boards[1:], strict=True):
        session.take("next", seen(at), tool)
        if not session.wanting():
            break
    assert 12 <= session.count < 30
