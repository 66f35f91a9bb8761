"""The running stack in real time, every node in its own process: latency by stage, missed cycles, late rows, memory.

Latency runs from the observation's stamp to the first commanded row (see vla_mbpo/eval/probe.py), while attempts at
all training tasks run one after the other.
"""

import os
import time

from benchmarks.common import parser, write
from vla_mbpo.bringup import Options
from vla_mbpo.eval.realtime import cadence, running_stack
from vla_mbpo.sim.tasks import TEST_SEED_BASE, TRAINING_TASKS


def main() -> None:
    """Measure and write."""
    cli = parser(__doc__ or "")
    cli.add_argument("--bundle", default="sft_full")
    cli.add_argument("--k", type=int, default=8)
    cli.add_argument("--seconds", type=float, default=300.0)
    cli.add_argument("--page", action="store_true", help="with the monitor node")
    args = cli.parse_args()
    seed, outcomes = TEST_SEED_BASE + 930_000, []
    with running_stack("sim_panda", Options(args.bundle, TRAINING_TASKS[0], seed, args.k, page=args.page)) as stack:
        from vla_mbpo.eval.probe import memory_mb

        begin = time.monotonic()
        while time.monotonic() - begin < args.seconds:
            task = TRAINING_TASKS[len(outcomes) % len(TRAINING_TASKS)]
            outcomes.append(stack.attempt(task, seed + len(outcomes), 15.0))
        memory = memory_mb(stack.supervisor.pids().values())
        report = cadence(stack.probe)
    metrics = {
        "bundle": args.bundle,
        "k": args.k,
        "page": args.page,
        "cores": os.cpu_count(),
        "seconds": args.seconds,
        **report,
        "attempts": len(outcomes),
        "successes": sum(o.success for o in outcomes),
        "memory_mb": round(sum(memory.values()), 1),
        "processes": len(memory),
    }
    write("pipeline_latency", metrics, args.json)


if __name__ == "__main__":
    main()
