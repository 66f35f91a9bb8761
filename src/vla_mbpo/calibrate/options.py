"""Options that the commands share. Imports neither OpenCV nor ROS: that is for when they run."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vla_mbpo.core.errors import require
from vla_mbpo.paths import share_dir

if TYPE_CHECKING:
    from vla_mbpo.calibrate.board import Board

CAMERAS = ("head_camera", "wrist_camera")


def add_board(parser: argparse.ArgumentParser) -> None:
    """The printed board."""
    add = parser.add_argument_group("board", "as printed, measured with a caliper").add_argument
    add("--columns", type=int, default=11, help="squares (default %(default)s)")
    add("--rows", type=int, default=7, help="squares (default %(default)s)")
    add("--square", type=float, default=0.025, metavar="M", help="edge of a square, m (default %(default)s)")
    add("--marker", type=float, default=0.015, metavar="M", help="edge of a marker, m (default %(default)s)")
    add("--dictionary", default="DICT_4X4_50", help="OpenCV's marker dictionary (default %(default)s)")


def board_of(args: argparse.Namespace) -> "Board":
    """The board. ConfigError naming the option that is wrong."""
    from vla_mbpo.calibrate.board import Board

    return Board(args.columns, args.rows, args.square, args.marker, args.dictionary)


def add_pictures(parser: argparse.ArgumentParser, max_error: float) -> None:
    """Camera, and where its pictures come from."""
    add = parser.add_argument
    add("--camera", required=True, help=f"name of the camera: {', '.join(CAMERAS)}, or another")
    add(
        "--serial",
        required=True,
        help="number on the camera, so that another one's calibration is refused; of V4L2 "
        "what its node's /diagnostics say",
    )
    add(
        "--pictures",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="pictures of the board; with --live they go there",
    )
    add("--live", action="store_true", help="take pictures from a running camera node, with advice")
    add("--topic", default="", help="of the pictures, for --live (default /CAMERA/color/image_raw)")
    add("--most", type=int, default=120, metavar="N", help="pictures after which --live gives up (default %(default)s)")
    add("--max-error", type=float, default=max_error, metavar="PX", help="reprojection error (default %(default)s)")
    add("--anyway", action="store_true", help="write a result for which there are not enough views, or too bad ones")
    add("--out", type=Path, help="file of the result (default in calibration/ROBOT/)")
    add_board(parser)


def require_usable(args: argparse.Namespace) -> None:
    """ConfigError unless the camera's name can be a part of a frame's and a file's, and the others can be used."""
    usable = args.camera.replace("_", "").isalnum() and args.camera.isascii()
    require(usable, "--camera", args.camera, "letters, digits and underscores")
    require(bool(args.serial.strip()), "--serial", args.serial, "what stands on the camera")
    require(args.max_error > 0, "--max-error", args.max_error, "above 0 px")


def camera_file(robot: str, camera: str) -> Path:
    """Where the intrinsics of a robot's camera are."""
    return share_dir() / "calibration" / robot / f"{camera}.yaml"


def hand_eye_file(robot: str, camera: str) -> Path:
    """Where the place of a robot's camera is."""
    return share_dir() / "calibration" / robot / f"{camera}_hand_eye.yaml"


def optical_frame(camera: str) -> str:
    """The frame of the camera's pictures."""
    return f"{camera}_optical_frame"
