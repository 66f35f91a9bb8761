"""``vla-mbpo calibrate``: cameras, their place on the robot, and a failure detector's bands."""

import argparse

from vla_mbpo.calibrate import board_command, camera_command, check_command, hand_eye_command
from vla_mbpo.failure import command as detector_command

WHAT = {
    "board": (board_command, "a ChArUco board to print"),
    "camera": (camera_command, "intrinsics, from pictures of the board (needs the extra `calibrate`)"),
    "hand-eye": (hand_eye_command, "where a camera is on the robot (needs the extra `calibrate`)"),
    "check": (check_command, "whether calibrations are of this camera and robot, unchanged and recent"),
    "detector": (detector_command, "conformal bands of a failure detector"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what can be calibrated, each with its options."""
    chosen = parser.add_subparsers(dest="what", required=True, metavar="|".join(WHAT))
    for name, (module, what) in WHAT.items():
        one = chosen.add_parser(name, help=what, description=what)
        module.add_arguments(one)
        one.set_defaults(calibrate=module.run)


def run(args: argparse.Namespace) -> int:
    """Calibrate. Returns the exit code."""
    return int(args.calibrate(args))
