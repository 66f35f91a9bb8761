"""``vla-mbpo wrap``: a folder with a description of somebody else's policy becomes a bundle."""

import argparse
from pathlib import Path

from vla_mbpo.core.errors import require
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.paths import robot_dir
from vla_mbpo.policy.bundle import Bundle, write_manifest
from vla_mbpo.policy.foreign.actions import Decoder
from vla_mbpo.policy.foreign.description import FILE
from vla_mbpo.policy.foreign.reading import read_description
from vla_mbpo.policy.sessions import open_policy


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("folder", type=Path, help=f"holds {FILE} and, for graphs that run here, the ONNX files")
    parser.add_argument("--robot", default="sim_panda", help="robot that the policy is for (default %(default)s)")
    parser.add_argument("--ask", action="store_true", help="also ask the policy once, from black pictures")


def run(args: argparse.Namespace) -> int:
    """Check the description, write manifest.json, and say what to do with it."""
    require((args.folder / FILE).is_file(), "folder", str(args.folder), f"a folder with a {FILE}")
    spec = RobotSpec.load(robot_dir(args.robot))
    bundle = wrap(args.folder, spec)
    if args.ask:
        policy = open_policy(bundle, spec, patient=True)
        policy.try_out(len(spec.joints), spec.horizon)
        print(f"answers with {policy.horizon} rows for {len(spec.joints)} joints")
    horizon = Decoder(read_description(args.folder, spec).actions, spec).horizon
    if horizon < spec.horizon:
        print(f"{horizon} rows, not {spec.horizon} as {spec.name} has: recordings of it cannot be trained on")
    print(f"{bundle.version}: use it with --bundle {args.folder}")
    return 0


def wrap(folder: Path, spec: RobotSpec) -> Bundle:
    """Write the manifest of the description in ``folder`` and return the bundle. ConfigError: what is wrong in it."""
    found = read_description(folder, spec)
    content = {
        "name": found.name,
        "kind": "policy",
        "adapter": found.adapter,
        "robot": spec.name,
        "instructions": list(found.instructions),
    }
    return write_manifest(folder, content)
