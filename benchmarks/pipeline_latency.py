"""The running stack in real time, every node in its own process: latency by stage, missed cycles, late rows, memory.

Latency runs from the observation's stamp to the first commanded row (see vla_mbpo/eval/probe.py), while attempts at
all training tasks run one after the other.
"""

import os
import time

from benchmarks.common import parser, write
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
    args = cli.parse_args()
    seed, outcomes = TEST_SEED_BASE + 930_000, []
    options = Options(args.bundle, TRAINING_TASKS[0], seed, args.k, world_model=args.world_model)
    with running_stack("sim_panda", options) as stack:
        from vla_mbpo.eval.probe import memory_mb

        begin = time.monotonic()
        while time.monotonic() - begin < args.seconds:
            task = TRAINING_TASKS[len(outcomes) % len(TRAINING_TASKS)]
            outcomes.append(stack.attempt(task, seed + len(outcomes), 15.0))
        memory = memory_mb(stack.supervisor.pids().values())
        report = cadence(stack.probe)
    metrics = {
        "bundle": Bundle.load(bundle_dir(args.bundle)).version,
        "k": args.k,
        "world_model": args.world_model and Bundle.load(bundle_dir(args.world_model)).version,
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
