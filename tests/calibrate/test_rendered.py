"""Calibration of cameras that MuJoCo renders: a small run of benchmarks/calibration.py."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2]))  # benchmarks is no installed package
os.environ.setdefault("MUJOCO_GL", "egl")

from benchmarks.boards import Studio, free_boards, random_lens  # noqa: E402
from benchmarks.calibration import ALOFT, EYES, ROBOTS, setup  # noqa: E402
from vla_mbpo.calibrate.board import Board  # noqa: E402
from vla_mbpo.core.robot import RobotSpec  # noqa: E402
from vla_mbpo.paths import robot_dir  # noqa: E402


@pytest.fixture(scope="module", params=[0, 2])
def found(request):
    """One set-up: 0.3 px of noise, 30 views of the board at most, 12 postures."""
    spec = RobotSpec.load(robot_dir(ROBOTS[request.param]))
    return setup(request.param, spec, Board(), noise=0.3, postures=12, most=30)


def test_the_intrinsics_are_right(found):
    assert found["intrinsics"]["focal_percent"] < 0.5 and found["intrinsics"]["centre_percent_of_width"] < 0.5


@pytest.mark.parametrize("eye", EYES)
def test_the_camera_is_where_it_is(found, eye):
    assert found[eye]["rotation_deg"] < 0.3 and found[eye]["translation_mm"] < 2.0
    assert found[f"{eye}_true_lens"]["rotation_deg"] < 0.05


def test_corners_are_rendered_where_the_lens_has_them(spec):
    rng = np.random.default_rng(1)
    lens, board = random_lens(rng), Board()
    studio = Studio(spec, board, lens)
    at = free_boards(rng, board, lens, 1)[0]
    view = board.detect(studio.picture(ALOFT, ALOFT @ at))
    studio.close()
    seen = (at @ np.c_[board.corners[view.ids], np.ones(len(view.ids))].T).T[:, :3]
    error = lens.undistorted(view.pixels) - (seen / seen[:, 2:] @ lens.matrix.T)[:, :2]
    assert np.linalg.norm(error.mean(axis=0)) < 0.05 and np.sqrt(np.mean(error**2)) < 0.15
