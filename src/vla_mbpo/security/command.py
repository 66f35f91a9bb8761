"""`vla-mbpo security`: DDS permissions and keystore of the node graph, and keys that sign model bundles."""

import argparse
import os
from datetime import datetime
from pathlib import Path

from vla_mbpo import up
from vla_mbpo.bringup import NodeSpec
from vla_mbpo.core.errors import ConfigError
from vla_mbpo.paths import bundle_dir, domain, ros_environment
from vla_mbpo.policy import signature
from vla_mbpo.policy.bundle import Bundle

EXIT_DIFFERS = 1
EVER = datetime(2026, 1, 1), datetime(2036, 1, 1)  # UTC; of text that nobody has signed: the same at every run
CHECKER = "vla_mbpo_security"  # node that reads the graph; in the enclave of `up`


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands."""
    kinds = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    for name, text in (
        ("permissions", "write governance and permissions of the graph as text, unsigned"),
        ("keystore", "make or renew a keystore for the graph: authority, enclaves, signed permissions"),
        ("check", "compare the running stack with what the graph permits; exit code 1: they differ"),
    ):
        made = kinds.add_parser(name, help=text, description=f"{text}. The other options: the graph, as for `up`.")
        if name != "check":
            made.add_argument("folder", type=Path)
        if name == "keystore":
            made.add_argument("--days", type=int, default=365, help="validity (default %(default)s)")
        up.add_arguments(made)
        made.epilog = None
    key = kinds.add_parser("key", help="make a key that signs bundles, and print its line for the trusted keys")
    key.add_argument("file", type=Path)
    key.add_argument("--name", required=True, help="who signs with it; named in signatures and errors")
    sign = kinds.add_parser("sign", help="sign bundles, or releases with all their parts")
    sign.add_argument("bundles", nargs="+", metavar="BUNDLE")
    sign.add_argument("--key", type=Path, required=True)
    verify = kinds.add_parser("verify", help="check bundles against the trusted keys")
    verify.add_argument("bundles", nargs="+", metavar="BUNDLE")
    verify.add_argument("--keys", type=Path, help="trusted keys (default: those configured)")


def run(args: argparse.Namespace) -> int:
    """Carry out one subcommand. Returns the exit code."""
    return {"key": _key, "sign": _sign, "verify": _verify}.get(args.what, _graph)(args)


def _graph(args: argparse.Namespace) -> int:
    """What needs the graph, and with it the ROS 2 messages."""
    os.environ.update(ros_environment())
    specs = up.plan(args)
    if args.what == "check":
        return _check(specs)
    from vla_mbpo.security import keystore
    from vla_mbpo.security.permissions import governance, permissions
    from vla_mbpo.security.rights import stack_rights

    rights = stack_rights(specs)
    if args.what == "keystore":
        gone = keystore.create(args.folder, rights, args.days)
        print(f"{args.folder}: {len(rights)} enclaves for ROS_DOMAIN_ID {domain()}, valid for {args.days} days")
        print(*(f"removed: {name}" for name in gone), sep="\n", end="\n" if gone else "")
        print(f"keep {args.folder / 'private'} off the robot: who has it may sign other permissions")
        return 0
    args.folder.mkdir(parents=True, exist_ok=True)
    (args.folder / "governance.xml").write_text(governance(domain()))
    for name, right in rights.items():
        (args.folder / f"{name}.xml").write_text(permissions(name, right, domain(), *EVER))
    print(f"{args.folder}: governance and {len(rights)} permissions, unsigned")
    return 0


def _check(specs: list[NodeSpec]) -> int:
    import rclpy

    from vla_mbpo.nodes.client import NAME, quiet_node
    from vla_mbpo.nodes.process import start_ros
    from vla_mbpo.security.live import compare
    from vla_mbpo.security.rights import stack_rights

    start_ros([], NAME)
    node = quiet_node(CHECKER)
    number, lines = compare(node, stack_rights(specs))
    node.destroy_node()
    rclpy.try_shutdown()
    print(*lines, sep="\n", end="\n" if lines else "")
    print(f"{number} nodes on domain {domain()}, {len(lines)} differences")
    return EXIT_DIFFERS if lines else 0


def _key(args: argparse.Namespace) -> int:
    print(signature.make_key(args.file, args.name))
    return 0


def _sign(args: argparse.Namespace) -> int:
    key = signature.SigningKey.load(args.key)
    for name in args.bundles:
        for folder in key.sign_all(bundle_dir(name)):
            print(f"{folder}: signed by {key.name}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    keys = signature.TrustedKeys.load(args.keys) if args.keys else signature.configured()
    if keys is None:
        raise ConfigError(signature.VARIABLE, "", f"a file with trusted keys, here or as {signature.default_file()}")
    for name in args.bundles:
        found = Bundle.load(bundle_dir(name), keys)
        print(f"{found.version}: signed by {keys.check(found.path, found.digest)}; digest {found.digest}")
    return 0
