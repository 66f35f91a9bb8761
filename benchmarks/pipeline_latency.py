"""The running stack in real time, every node in its own process: latency by stage, missed cycles, late rows, memory.

Latency runs from the observation's stamp to the first commanded row (see vla_mbpo/eval/probe.py), while attempts at
all training tasks run one after the other. With ``--watched`` every attempt is recorded, a viewer reads the page's
events and pictures, and what RViz would show is drawn and subscribed to.
"""

import json
import os
import tempfile
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from benchmarks.common import parser, write
from benchmarks.watching import watched
from vla_mbpo.bringup import Options
from vla_mbpo.eval.realtime import cadence, running_stack
from vla_mbpo.paths import bundle_dir
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.sim.tasks import TEST_SEED_BASE, TRAINING_TASKS


def main() -> None:
    """Measure and write."""
    cli = parser(__doc__ or "")
    cli.add_argument("--bundle", default="sft_full")
    cli.add_argument("--k", type=int, default=8)
    cli.add_argument("--seconds", type=float, default=300.0)
    cli.add_argument("--world-model", default="", help="bundle that vets every chunk set; none by default")
    cli.add_argument("--watched", action="store_true", help="with page and viewer, recorder, and RViz's topics")
    cli.add_argument("--port", type=int, default=8080, help="the page's")
    args = cli.parse_args()
    seed, outcomes = TEST_SEED_BASE + 930_000, []
    options = Options(
        args.bundle, TRAINING_TASKS[0], seed, args.k, world_model=args.world_model, markers=args.watched,
        overrides={"monitor": {"port": args.port}},
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        if args.watched:
            options = replace(options, record=folder)
        with running_stack("sim_panda", options) as stack:
            from vla_mbpo.eval.probe import memory_mb

            begin = time.monotonic()
            with watched(args.port) if args.watched else nullcontext({}) as seen:
                while time.monotonic() - begin < args.seconds:
                    task = TRAINING_TASKS[len(outcomes) % len(TRAINING_TASKS)]
                    outcomes.append(stack.attempt(task, seed + len(outcomes), 15.0))
            memory = memory_mb(stack.supervisor.pids().values())
            report = cadence(stack.probe)
        episodes = [json.loads(file.read_text()) for file in Path(folder).glob("*/episode.json")]
    metrics = {
        "bundle": Bundle.load(bundle_dir(args.bundle)).version,
        "k": args.k,
        "world_model": args.world_model and Bundle.load(bundle_dir(args.world_model)).version,
        "cores": os.cpu_count(),
        "seconds": args.seconds,
        "watched": {**seen, "episodes": len(episodes), "complete": sum(e["state"] == "complete" for e in episodes)}
        if args.watched
        else None,
        **report,
        "attempts": len(outcomes),
        "successes": sum(o.success for o in outcomes),
        "memory_mb": round(sum(memory.values()), 1),
        "processes": len(memory),
    }
    write("pipeline_latency", metrics, args.json)


if __name__ == "__main__":
    main()
