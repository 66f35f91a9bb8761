"""What the commands for cameras say of a result, and when they refuse it."""

import argparse
import os
import xml.etree.ElementTree as ET
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from vla_mbpo.calibrate import capture
from vla_mbpo.calibrate.placed import Placed
from vla_mbpo.calibrate.poses import FloatArray, ToolPoses
from vla_mbpo.calibrate.sealed import Provenance
from vla_mbpo.calibrate.session import Session
from vla_mbpo.core.errors import require
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.paths import ros_environment


def collect(args: argparse.Namespace, session: Session, spec: RobotSpec | None) -> str:
    """Fill the session as the options say. Returns where the pictures are from. ConfigError: see ``capture``."""
    if not args.live:
        capture.read(args.pictures, session, spec)
        return f"pictures in {args.pictures.resolve().name}"
    os.environ.update(ros_environment())
    topic = args.topic or f"/{args.camera}/color/image_raw"
    capture.live(args.pictures, session, spec, topic, args.most)
    return f"topic {topic}"


def say_views(names: Sequence[str], used: NDArray[np.bool_], errors: FloatArray) -> int:
    """Name the view that fits worst, and those that are outliers. Returns how many are none."""
    worst = int(np.argmax(np.where(used, errors, 0.0)))
    print(f"largest error of a view: {errors[worst]:.2f} px ({names[worst]})")
    odd = [name for name, use in zip(names, used, strict=True) if not use]
    if odd:
        print(f"left out, as they do not fit the others: {', '.join(odd)}")
    return len(names) - len(odd)


def require_good(args: argparse.Namespace, session: Session, rms: float, ask: str) -> None:
    """Raise ConfigError where views are missing or the error is too large, unless told to go on anyway."""
    missing = session.wanting()
    enough = not missing or args.anyway
    require(enough, "views", session.count, f"more of them, {'; '.join(missing)} (--anyway: write it all the same)")
    fits = rms <= args.max_error or args.anyway
    require(fits, "reprojection error", round(rms, 3), f"at most {args.max_error:g} px; {ask}")


def provenance(args: argparse.Namespace, source: str, views: int, rms: float) -> Provenance:
    """Of what a command has made."""
    words = [args.what, *(["--anyway"] if args.anyway else [])]
    tool = f"vla-mbpo calibrate {' '.join(words)}, OpenCV {cv2.__version__}"
    return Provenance(source, args.serial, args.robot, views, round(rms, 4), tool)


def for_tf(spec: RobotSpec, placed: Placed) -> str:
    """How to tell the rest of the robot: the URDF's joint of the camera, or else a static transform."""
    joint = next((j for j in ET.parse(spec.urdf).iter("joint") if _child(j) == placed.child), None)
    if joint is not None:
        kinematics, link = ToolPoses(spec), joint.find("parent").get("link", "")  # type: ignore[union-attr]
        fixed = kinematics.fixed(link, placed.parent)
        if fixed is not None:
            return f"{spec.urdf.name}, joint {joint.get('name')} (parent {link}): {_origin(fixed @ placed.camera)}"
    x, y, z = placed.camera[:3, 3]
    a, b, c, w = Rotation.from_matrix(placed.camera[:3, :3]).as_quat(canonical=True)
    return (
        f"ros2 run tf2_ros static_transform_publisher --x {x:.6f} --y {y:.6f} --z {z:.6f} --qx {a:.6f} --qy {b:.6f} "
        f"--qz {c:.6f} --qw {w:.6f} --frame-id {placed.parent} --child-frame-id {placed.child}"
    )


def _child(joint: ET.Element) -> str:
    child = joint.find("child")
    return "" if child is None else child.get("link", "")


def _origin(matrix: FloatArray) -> str:
    turn = Rotation.from_matrix(matrix[:3, :3]).as_euler("xyz")  # about fixed axes, as in a URDF
    return '<origin xyz="{:.6f} {:.6f} {:.6f}" rpy="{:.6f} {:.6f} {:.6f}"/>'.format(*matrix[:3, 3], *turn)
