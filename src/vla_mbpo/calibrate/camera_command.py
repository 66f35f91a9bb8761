"""``vla-mbpo calibrate camera``: intrinsics from pictures of a board, as a camera_info file."""

import argparse
from typing import TYPE_CHECKING

from vla_mbpo.calibrate.options import add_pictures, board_of, camera_file, optical_frame, require_usable
from vla_mbpo.core.errors import require
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.paths import robot_dir

if TYPE_CHECKING:
    from vla_mbpo.calibrate.intrinsics import Solved
    from vla_mbpo.calibrate.sealed import Provenance
    from vla_mbpo.cameras.calibration import Calibration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_pictures(parser, max_error=1.0)
    parser.add_argument(
        "--robot", default="", help="a folder in config/robots; without: good with any, and needs --out"
    )
    parser.add_argument("--wide", action="store_true", help="a lens of 90 degrees and more: find k3, too")


def run(args: argparse.Namespace) -> int:
    """Take or read pictures, calibrate, write."""
    require_usable(args)
    require(bool(args.robot or args.out), "--robot", args.robot, "a robot; or --out, for a camera of no robot")
    args.robot = RobotSpec.load(robot_dir(args.robot)).name if args.robot else ""
    from vla_mbpo.calibrate import outcome
    from vla_mbpo.calibrate.session import LensSession

    session = LensSession(board_of(args), args.wide)
    source = outcome.collect(args, session, None)
    solved = session.solve()
    views = outcome.say_views(session.names, solved.used, solved.errors)
    (fx, _, cx), (_, fy, cy), _ = solved.lens.matrix
    print(f"fx {fx:.2f}, fy {fy:.2f} px +- {solved.focal_sigma:.2%}, centre {cx:.2f} {cy:.2f} px")
    print(f"optical axis +- {solved.axis_sigma:.2f} deg, reprojection error {solved.rms:.3f} px")
    outcome.require_good(args, session, solved.rms, "is the board flat, are the pictures sharp?")
    path = args.out or camera_file(args.robot, args.camera)
    calibration_of(solved, args.camera, outcome.provenance(args, source, views, solved.rms)).write(path)
    print(f"{path}: {views} views, frame {optical_frame(args.camera)}")
    return 0


def calibration_of(solved: "Solved", camera: str, provenance: "Provenance") -> "Calibration":
    """As a camera_info file has it. Its projection shows what is valid in a rectified picture, as ROS's own tool's."""
    import cv2
    import numpy as np

    from vla_mbpo.cameras.calibration import Calibration

    lens = solved.lens
    projection, _ = cv2.getOptimalNewCameraMatrix(lens.matrix, lens.distortion, lens.size, 0.0)
    return Calibration(
        name=camera,
        width=lens.size[0],
        height=lens.size[1],
        model="plumb_bob",
        d=tuple(lens.distortion.tolist()),
        k=tuple(lens.matrix.ravel().tolist()),
        r=tuple(np.eye(3).ravel().tolist()),
        p=tuple(np.c_[np.asarray(projection), np.zeros(3)].ravel().tolist()),
        provenance=provenance,
        focal_sigma=solved.focal_sigma,
        axis_sigma=solved.axis_sigma,
    )
