"""``vla-mbpo calibrate hand-eye``: where a camera is on the robot's tool, or beside the robot."""

import argparse
from pathlib import Path

from vla_mbpo.calibrate.options import add_pictures, board_of, camera_file, hand_eye_file, optical_frame, require_usable
from vla_mbpo.calibrate.sealed import MAX_AGE
from vla_mbpo.core.errors import require
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.paths import robot_dir


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_pictures(parser, max_error=3.0)
    add = parser.add_argument
    add("--robot", required=True, help="a folder in config/robots")
    add(
        "--eye", choices=("in-hand", "to-hand"), required=True,
        help="in-hand: camera on the tool, board in the room; to-hand: camera in the room, board on the tool",
    )  # fmt: skip
    add("--intrinsics", type=Path, help="camera_info file (default calibration/ROBOT/CAMERA.yaml)")


def run(args: argparse.Namespace) -> int:
    """Take or read pictures, calibrate, write."""
    require_usable(args)
    spec = RobotSpec.load(robot_dir(args.robot))
    args.robot = spec.name
    from vla_mbpo.calibrate import outcome
    from vla_mbpo.calibrate.intrinsics import Lens
    from vla_mbpo.calibrate.placed import Placed
    from vla_mbpo.calibrate.session import HandEyeSession
    from vla_mbpo.cameras.calibration import Calibration

    known = Calibration.load(args.intrinsics or camera_file(spec.name, args.camera))
    named = known.provenance is None or known.name == args.camera
    require(named, "--intrinsics", known.name, f"those of {args.camera}")
    known.require_for(args.serial, spec.name, MAX_AGE)
    session = HandEyeSession(board_of(args), Lens.of(known), args.eye == "in-hand")
    source = outcome.collect(args, session, spec)
    solved = session.solve()
    views = outcome.say_views(session.names, solved.used, solved.errors)
    turn, place = solved.sigma_with(known.focal_sigma, known.axis_sigma)
    print(f"rotation +- {turn:.2f} deg, position +- {1e3 * place:.2f} mm, reprojection error {solved.rms:.3f} px")
    outcome.require_good(args, session, solved.rms, "are the tool poses those of the pictures, is the board fixed?")
    placed = Placed(
        eye=args.eye.replace("-", "_"),
        parent=spec.tool_link if args.eye == "in-hand" else spec.base_frame,
        child=optical_frame(args.camera),
        camera=solved.camera,
        sigma=(turn, place),
        intrinsics=known.provenance.sha256 if known.provenance else "",
        provenance=outcome.provenance(args, source, views, solved.rms),
    )
    path = args.out or hand_eye_file(spec.name, args.camera)
    placed.write(path)
    print(f"{path}: {placed.child} in {placed.parent}, {views} views")
    print(outcome.for_tf(spec, placed))
    return 0
