"""From `vla-mbpo up` to an active stack: with config/fastdds.xml, and with a participant's usual announcements."""

import os
import signal
import subprocess
import sys
import time

import numpy as np

from benchmarks.common import parser, write
from vla_mbpo.paths import ros_environment

PROFILES = "FASTDDS_DEFAULT_PROFILES_FILE"


def seconds(environment: dict[str, str]) -> float:
    """Start a stack without a window, end it once it is ready. Returns how long that took, without the end."""
    command = [sys.executable, "-m", "vla_mbpo.cli", "up", "--headless"]
    begin = time.monotonic()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as up:
        assert up.stdout is not None
        lines = []
        for line in up.stdout:
            lines.append(line)
            if line == "[up] ready\n":
                took = time.monotonic() - begin
                up.send_signal(signal.SIGINT)
                up.communicate()
                return took
    raise SystemExit("".join(lines))


def main() -> None:
    """Measure and write."""
    cli = parser(__doc__ or "")
    cli.add_argument("--repeats", type=int, default=10)
    args = cli.parse_args()
    with_file = ros_environment()
    ways = {"announced": with_file, "usual": with_file | {PROFILES: os.devnull}}
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.repeats):
        for name, environment in ways.items():
            took[name].append(seconds(environment))
    median = {name: float(np.median(values)) for name, values in took.items()}
    metrics = {name: {"median_s": round(median[name], 2), "s": np.round(took[name], 2).tolist()} for name in ways}
    write("startup", {"repeats": args.repeats, **metrics, "ratio": median["announced"] / median["usual"]}, args.json)


if __name__ == "__main__":
    main()
