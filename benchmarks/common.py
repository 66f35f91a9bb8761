"""What every benchmark shares: the command line, the result file and timing."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vla_mbpo.eval.report import machine, now, percentiles


def parser(doc: str) -> argparse.ArgumentParser:
    """Command line with --json."""
    made = argparse.ArgumentParser(description=doc)
    made.add_argument("--json", type=Path, help="result file")
    return made


def write(name: str, metrics: dict[str, Any], path: Path | None) -> None:
    """Print the metrics and write the result file."""
    for key, value in metrics.items():
        print(f"{key:32} {value}")
    if path is not None:
        command = f"python -m benchmarks.{name} " + " ".join(sys.argv[1:])
        content = {"name": name, "command": command, "machine": machine(), "date": now(), "metrics": metrics}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n")


def interleaved(runs: dict[str, Callable[[], object]], repeats: int, warm: int = 3) -> dict[str, dict[str, float]]:
    """Time several callables in turn, so that a busy machine slows all of them alike.

    Returns:
        Per name: p50, p95, p99 and max [ms].
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(repeats + warm):
        for name, call in runs.items():
            begin = time.perf_counter()
            call()
            if i >= warm:
                times[name].append(1e3 * (time.perf_counter() - begin))
    return {name: percentiles(values) for name, values in times.items()}
