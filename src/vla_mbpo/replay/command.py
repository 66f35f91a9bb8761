"""`vla-mbpo replay`: a recorded episode put back on the topics; models run on it in shadow, and nothing moves."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from vla_mbpo.bringup import DEFAULT_ROBOT
from vla_mbpo.core.errors import require
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.paths import robot_dir, ros_environment
from vla_mbpo.processes import ERROR_PREFIX
from vla_mbpo.replay.comparison import compare, joined
from vla_mbpo.replay.models import NONE, choose
from vla_mbpo.replay.report import text

# Also where the user's own stack reaches farther, or gives nobody the right to say what its cameras say.
ALONE = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "ROS_STATIC_PEERS": "", "ROS_SECURITY_ENABLE": "false"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add = parser.add_argument
    add("bag", type=Path, metavar="BAG", help="a recorded episode (`vla-mbpo up --record`), its folder or MCAP file")
    other = f"bundle, name or folder; {NONE}: what was recorded (default: the one that was recorded, where it is here)"
    add("--bundle", default="", help=f"policy that looks: {other}")
    add("--world-model", default="", help=f"world model that vets: {other}")
    add("--detector", default="", help=f"failure detector that watches: {other}")
    add("--robot", default=DEFAULT_ROBOT, help="a folder in config/robots (default %(default)s)")
    add("--rate", type=float, default=1.0, help="times as fast as it was recorded, 0.05 to 5 (default %(default)s)")
    add("--start", type=float, default=0.0, metavar="S", help="seconds of the recording to leave out")
    add("--end", type=float, default=None, metavar="S", help="second of the recording to end at")
    add("--all-pictures", action="store_true", help="not only those of the recorded looks: the policy chooses its own")
    add("--set", action="append", default=[], metavar="NODE.PARAM=VALUE", dest="overrides", help="any node parameter")
    add("--json", type=Path, metavar="FILE", help="write everything that is compared")
    parser.epilog = "exit code: 0 compared, 1 nothing to compare or a node failed, 64 usage, configuration or recording"


def run(args: argparse.Namespace) -> int:
    """Replay and compare. Returns 1 if there is nothing to compare, or a node did not come up or ended."""
    require(0.05 <= args.rate <= 5.0, "--rate", args.rate, "0.05 to 5")
    require(args.json is None or args.json.parent.is_dir(), "--json", str(args.json), "a file in a folder that exists")
    spec = RobotSpec.load(robot_dir(args.robot))
    os.environ.update(ros_environment() | ALONE)
    from vla_mbpo.replay.recording import Recording
    from vla_mbpo.replay.shadow import plan, shadow

    recording = Recording.read(args.bag.expanduser())
    require(recording.joints in ((), spec.joints), "recording", list(recording.joints), f"the joints of {spec.name}")
    models = choose(recording.said, recording.release, args.bundle, args.world_model, args.detector)
    begin, end = span(recording.begin, recording.end, args.start, args.end)
    specs = plan(args.robot, models, args.overrides)
    print("\n".join([*models.notes, f"{recording.name}: {(end - begin) / 1e9:.1f} s"]), flush=True)
    try:
        now = shadow(specs, recording, begin, end, args.rate, args.all_pictures)
    except RuntimeError as error:
        print(f"{ERROR_PREFIX}{_line(str(error))}", file=sys.stderr)
        return 1
    whole = (begin, end) == (recording.begin, recording.end)
    then = recording.said if whole else recording.said.about(recording.looks(begin, end))
    found: dict[str, Any] = {"episode": recording.name, "robot": spec.name, "rate": args.rate}
    found |= {"start_s": args.start, "seconds": (end - begin) / 1e9} | compare(then, now)
    print(text(found))
    if args.json is not None:
        args.json.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")
    if joined(found):
        return 0
    print(f"{ERROR_PREFIX}nothing to compare: no observation of which something was said then and now", file=sys.stderr)
    return 1


def span(first: int, last: int, start: float, end: float | None) -> tuple[int, int]:
    """Begin and end [ns] of a replay of a recording from ``first`` to ``last`` [ns]. ConfigError: an empty one."""
    seconds = (last - first) / 1e9
    require(0.0 <= start < seconds, "--start", start, f"0 to {seconds:.1f}, where the recording ends")
    require(end is None or end > start, "--end", end, f"after --start {start:g}")
    return first + round(1e9 * start), last if end is None else min(last, first + round(1e9 * end))


def _line(error: str) -> str:
    """Of what the processes printed, the line that says what is wrong."""
    lines = error.splitlines()
    said = [line.partition(ERROR_PREFIX)[2] for line in lines if ERROR_PREFIX in line]
    return said[-1] if said else "; ".join([lines[0], *lines[1:][-1:]])
