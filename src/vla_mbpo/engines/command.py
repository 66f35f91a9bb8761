"""``vla-mbpo compile``: float graphs and engines of model bundles, verified where there is a GPU."""

import argparse
import json
from pathlib import Path

from vla_mbpo.core.errors import require
from vla_mbpo.engines import cuda, libraries
from vla_mbpo.engines.cache import PRECISIONS, Cache
from vla_mbpo.engines.pipeline import Plan, compile_bundle
from vla_mbpo.paths import bundle_dir
from vla_mbpo.policy.bundle import Bundle

BUNDLES = ("sft_full", "world_model", "detector_full")
AHEAD = "SM86,SM89"  # without a GPU, and without a word about it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("bundles", nargs="*", metavar="BUNDLE", help=f"names or folders; default {' '.join(BUNDLES)}")
    parser.add_argument("--library", choices=libraries.LIBRARIES, help="default: one that is installed")
    known = ", ".join(libraries.ARCHITECTURES)
    parser.add_argument(
        "--architectures", help=f"to build for, of {known}; default: this machine's GPU, without one {AHEAD}"
    )
    parser.add_argument("--precisions", default=",".join(PRECISIONS), help="default %(default)s")
    parser.add_argument("--run", type=Path, help="run folder of the world model; default models/training/NAME")
    parser.add_argument("--cache", type=Path, help="folder of the engines; default engines/ below VLA_MBPO_HOME")
    parser.add_argument("--anew", action="store_true", help="export and build what is in the cache, too")
    parser.add_argument("--repeats", type=int, default=50, help="of each timing; 0: none (default %(default)s)")
    parser.add_argument("--json", type=Path, help="file for all that was found")
    parser.epilog = "exit code: 0 done, 1 what was verified is not the same, 64 usage, configuration or a refused graph"


def run(args: argparse.Namespace) -> int:
    """Compile each bundle. Returns the exit code; ConfigError names the operator of a graph that is refused."""
    options = {key: value for key, value in vars(args).items() if key not in ("bundles", "json")}
    wanted = plan(**options)
    found = [compile_bundle(Bundle.load(bundle_dir(name)), wanted) for name in args.bundles or BUNDLES]
    if wanted.device is None and wanted.library:
        print("verify     engines: not here, there is no GPU. No node uses them until `vla-mbpo compile` has verified")
        print("           them on the robot: copy the cache there and run it again")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0 if all(one["ok"] for one in found) else 1


def plan(
    library: str | None,
    architectures: str | None,
    precisions: str,
    run: Path | None,
    cache: Path | None,
    anew: bool,
    repeats: int,
) -> Plan:
    """What the options ask for, on this machine. ConfigError."""
    try:
        device: cuda.Device | None = cuda.driver().device()
    except cuda.NoGpu:
        device = None
    if library is None:
        installed = [name for name in libraries.LIBRARIES if libraries.version(name)]
        # TensorRT builds for the GPU that is there, and for no other.
        library = next((name for name in installed if device or name == "tensorrt_rtx"), "")
        if not library:
            print("build      no engines: pip install -e '.[engines]', or TensorRT where there is a GPU")
    chosen = (architectures or (device.architecture if device else AHEAD)).split(",")
    wanted = tuple(part.strip() for part in precisions.split(","))
    unknown = set(wanted) - set(PRECISIONS)
    require(not unknown, "--precisions", ", ".join(sorted(unknown)), f"some of {', '.join(PRECISIONS)}")
    require(0 <= repeats <= 10_000, "--repeats", repeats, "0 to 10000")
    targets = tuple(part.strip() for part in chosen)
    return Plan(library, targets, wanted, device, Cache(cache), run, anew, repeats)
