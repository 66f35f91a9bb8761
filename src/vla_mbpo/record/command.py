"""`vla-mbpo record`: what recorded episodes are, the repair of interrupted ones, their report, datasets of them."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.record.repair import episodes, read_labels, repair

WHAT = {
    "info": "list episodes",
    "repair": "mend interrupted ones",
    "report": "HTML page of numbers, plots and the worst vetoes, in --out or FOLDER/report.html",
    "export": "complete attempts as a LeRobotDataset v3 in --out",
    "import": "such a dataset as rollouts in --out",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add = parser.add_argument
    add("what", choices=tuple(WHAT), help="; ".join(f"{name}: {text}" for name, text in WHAT.items()))
    add(
        "folders", type=Path, nargs="+", metavar="FOLDER",
        help="an episode, a folder of them (`vla-mbpo up --record`), report: or several; import: a dataset",
    )  # fmt: skip
    add("--json", action="store_true", help="print the result as JSON")
    add("--out", type=Path, help="export, import: a folder that is empty or not there yet; report: the file")
    add("--robot", default="sim_panda", help="export, report: whose recordings these are (default %(default)s)")
    add("--world-model", default="", help="report: bundle that imagines; default: the one that vetted, if it is here")
    add("--video", default="lossless", help="export: lossless (default) or lossy, which every player shows")


def run(args: argparse.Namespace) -> int:
    """Returns 1 if an episode could not be read or repaired, or a dataset could not be written."""
    folders = [folder.expanduser() for folder in args.folders]
    if args.what == "report":
        return _report(args, folders)
    require(len(folders) == 1, "FOLDER", [str(folder) for folder in folders], "one folder, several for a report only")
    if args.what in ("export", "import"):
        return _convert(args, folders[0])
    labels: dict[str, dict[str, Any]] = {}
    failed = 0
    for episode in episodes(folders[0]):
        try:
            if args.what == "repair" and repair(episode):
                print(f"{episode.name}: repaired")
        except (ConfigError, OSError) as error:
            failed = _say(error)
        try:
            labels[episode.name] = read_labels(episode)
        except ConfigError as error:  # the others are told of all the same
            failed = failed or _say(error)
    if args.json:
        print(json.dumps(labels, indent=1))
    else:
        for name, content in labels.items():
            print(_line(name, content))
    return failed


def _say(error: Exception) -> int:
    print(f"vla-mbpo: error: {error}", file=sys.stderr)
    return 1


def _report(args: argparse.Namespace, folders: list[Path]) -> int:
    """The page of episodes."""
    from vla_mbpo.core.robot import RobotSpec
    from vla_mbpo.paths import robot_dir
    from vla_mbpo.reports.recording import write  # needs ROS's messages, info does not

    out = (args.out or folders[0] / "report.html").expanduser()
    try:
        count = write(folders, out, RobotSpec.load(robot_dir(args.robot)), args.world_model)
    except OSError as error:
        return _say(error)
    print(json.dumps({"report": str(out), "episodes": count}) if args.json else f"{out}: {count} episodes")
    return 0


def _convert(args: argparse.Namespace, folder: Path) -> int:
    """Recordings to a dataset, or a dataset to rollouts."""
    require(args.out is not None, "--out", None, "expected a folder that is empty or not there yet")
    try:
        report = _export(args, folder) if args.what == "export" else _import(args, folder)
    except OSError as error:  # a full disk; nothing of it is left
        return _say(error)
    if args.json:
        print(json.dumps(report, indent=1))
        return 0
    for name, reason in report.get("passed_over", {}).items():
        print(f"{name}: passed over: {reason}")
    frames = f", {report['frames']} frames, {report['seconds']:.1f} s" if "frames" in report else ""
    print(f"{args.out}: {len(report['episodes'])} episodes{frames}")
    return 0


def _export(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    from vla_mbpo.core.robot import RobotSpec
    from vla_mbpo.paths import robot_dir
    from vla_mbpo.record.lerobot.export import export  # needs ROS's messages and the extra `export`, info does not
    from vla_mbpo.sim.instructions import tasks_of

    spec, tasks = RobotSpec.load(robot_dir(args.robot)), tasks_of(args.robot)
    return asdict(export(folder, args.out, spec, args.video, tasks))


def _import(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    from vla_mbpo.record.lerobot.imported import import_rollouts

    return {"episodes": import_rollouts(folder, args.out)}


def _line(name: str, content: dict[str, Any]) -> str:
    total = sum(int(topic["recorded"]) for topic in content["topics"].values())
    reasons = f": {'; '.join(content['reasons'])}" if content["reasons"] else ""
    return (
        f"{name}  {content['state']}, {content['outcome'] or 'no outcome'}, {content['duration_s']:.1f} s, "
        f"{total} messages, {content['bytes'] / 1e6:.1f} MB{reasons}"
    )
