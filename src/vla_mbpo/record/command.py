"""`vla-mbpo record`: what recorded episodes are, and the repair of those that were interrupted."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.record.repair import episodes, read_labels, repair


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("what", choices=("info", "repair"), help="list episodes, or mend interrupted ones")
    parser.add_argument("folder", type=Path, help="an episode, or a folder of them (`vla-mbpo up --record`)")
    parser.add_argument("--json", action="store_true", help="print the labels as JSON")


def run(args: argparse.Namespace) -> int:
    """Returns 1 if an episode could not be repaired or is bad."""
    found = episodes(args.folder.expanduser())
    failed = 0
    if args.what == "repair":
        for episode in found:
            try:
                if repair(episode):
                    print(f"{episode.name}: repaired")
            except (ConfigError, OSError) as error:
                print(f"vla-mbpo: error: {error}", file=sys.stderr)
                failed = 1
    labels = {episode.name: read_labels(episode) for episode in found}
    if args.json:
        print(json.dumps(labels, indent=1))
    else:
        for name, content in labels.items():
            print(_line(name, content))
    return failed


def _line(name: str, content: dict[str, Any]) -> str:
    total = sum(int(topic["recorded"]) for topic in content["topics"].values())
    reasons = f": {'; '.join(content['reasons'])}" if content["reasons"] else ""
    return (
        f"{name}  {content['state']}, {content['outcome'] or 'no outcome'}, {content['duration_s']:.1f} s, "
        f"{total} messages, {content['bytes'] / 1e6:.1f} MB{reasons}"
    )
