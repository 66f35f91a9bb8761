"""``vla-mbpo calibrate check``: whether calibrations may be used here."""

import argparse
import sys
from pathlib import Path

from vla_mbpo.calibrate.options import CAMERAS, camera_file, hand_eye_file, optical_frame
from vla_mbpo.calibrate.placed import KIND, Placed
from vla_mbpo.calibrate.poses import ToolPoses, apart
from vla_mbpo.calibrate.sealed import MAX_AGE, Provenance, read
from vla_mbpo.cameras.calibration import Calibration
from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.paths import robot_dir


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("files", type=Path, nargs="*", metavar="FILE", help="default: what there is of the robot's --camera")
    add("--robot", default="", help="a folder in config/robots; empty: not asked")
    add("--camera", default="", help=f"{', '.join(CAMERAS)}, or another; empty: not asked")
    add("--serial", default="", help="of the camera; empty: not asked")
    add("--size", default="", metavar="WxH", help="of its pictures, px; empty: not asked")
    add("--max-age", type=float, default=MAX_AGE, metavar="DAYS", help="0: any (default %(default)g)")
    parser.epilog = "exit code: 0 all may be used, 1 one may not, 64 usage"


def run(args: argparse.Namespace) -> int:
    """Check. Returns 1 where a file may not be used."""
    require(args.max_age >= 0, "--max-age", args.max_age, "0 days or more")
    spec = RobotSpec.load(robot_dir(args.robot)) if args.robot else None
    bad = 0
    for file in args.files or _files(args, spec):
        try:
            print(f"{file}: {_checked(file, args, spec)}")
        except ConfigError as error:
            print(f"vla-mbpo: error: {error}", file=sys.stderr)
            bad += 1
    return int(bad > 0)


def _files(args: argparse.Namespace, spec: RobotSpec | None) -> list[Path]:
    require(spec is not None and bool(args.camera), "FILE", None, "files, or --robot and --camera")
    assert spec is not None
    place = hand_eye_file(spec.name, args.camera)
    return [camera_file(spec.name, args.camera), *([place] if place.exists() else [])]


def _checked(file: Path, args: argparse.Namespace, spec: RobotSpec | None) -> str:
    """What the file holds. ConfigError: it may not be used."""
    content, provenance = read(file)
    is_place = content.get("kind") == KIND
    text = _place(file, args, spec) if is_place else _intrinsics(file, args)
    if provenance is None:
        raise ConfigError(str(file), None, "a file with date, serial and hash: calibrate with `vla-mbpo calibrate`")
    provenance.require_for(str(file), args.serial or None, spec.name if spec else "", args.max_age)
    return f"{text}; {_facts(provenance)}"


def _intrinsics(file: Path, args: argparse.Namespace) -> str:
    found = Calibration.load(file)
    if args.camera:
        require(found.name == args.camera, f"{file}: camera_name", found.name, args.camera)
    size = f"{found.width}x{found.height}"
    require(args.size in ("", size), f"{file}: image size", size, f"{args.size}, that of the pictures: calibrate anew")
    return f"{found.name} {size}, f {found.k[0]:.1f} px"


def _place(file: Path, args: argparse.Namespace, spec: RobotSpec | None) -> str:
    found = Placed.load(file)
    if args.camera:
        require(found.child == optical_frame(args.camera), f"{file}: child_frame", found.child, args.camera)
    if spec is not None:
        parent = spec.tool_link if found.eye == "in_hand" else spec.base_frame
        require(found.parent == parent, f"{file}: parent_frame", found.parent, f"{parent}, of {spec.name}")
    urdf = None if spec is None else ToolPoses(spec).fixed(found.parent, found.child)
    beside = file.with_name(file.name.removesuffix("_hand_eye.yaml") + ".yaml")
    if beside != file and beside.exists():
        found.require_intrinsics(file, Calibration.load(beside).provenance)
    text = f"{found.child} in {found.parent} +- {found.sigma[0]:.2f} deg, {1e3 * found.sigma[1]:.2f} mm"
    if urdf is None:
        return text
    turn, distance = apart(urdf, found.camera)
    return f"{text}; robot.urdf has it {turn:.2f} deg and {1e3 * distance:.1f} mm away"


def _facts(of: Provenance) -> str:
    days = of.age.total_seconds() / 86400
    robot = f", {of.robot}" if of.robot else ""
    return f"camera {of.serial}{robot}, {of.views} views, {of.error_px:.2f} px, {days:.0f} days old"
