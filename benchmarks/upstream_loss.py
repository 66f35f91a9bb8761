"""kill -9 and SIGSTOP of each node upstream of the arm driver, in motion: how soon motion ends, and what comes after.

The gate's silence stops the arm. Without a policy or a camera no further rows come, and those already approved are
executed to their end: there the time counts from the due time of the last one.
"""

import os
import random
import signal
import time
from typing import Any

import numpy as np

from benchmarks.common import parser, write
from benchmarks.live import Live
from vla_mbpo.bringup import Options
from vla_mbpo.eval.realtime import running_stack
from vla_mbpo.eval.report import percentiles

NODES = ("gate", "policy", "head_camera", "wrist_camera", "imagination")
WATCH = 1.8  # s; a chunk, a brake and some more
IN_FLIGHT = 0.2  # s; a chunk that was on its way to the gate may still come
PERIOD = 0.02  # s; of the arm driver


class Losses:
    """What is seen of each loss [ms]."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, list[float]]] = {}
        self.late = self.stale = 0

    def note(self, live: Live, name: str, begin: float) -> None:
        """Measure the loss at ``begin`` [s since the epoch]."""
        live.stack.client.spin(WATCH)
        last_row = begin
        for message in live.commitments:
            stamp = _seconds(message.header.stamp)
            rows = len(message.gripper)
            if rows and stamp <= begin + IN_FLIGHT:
                due = _seconds(message.first_due) + (rows - 1) * message.row_period.nanosec / 1e9
                last_row = max(last_row, due)
        braking = [stamp for stamp, speed in live.commanded if speed > 1e-3 and stamp > begin - PERIOD]
        commanded_end = max(braking, default=begin)
        start = begin if name.startswith("gate") else last_row
        moving = [stamp for stamp, speed in live.measured if speed > 0.01 and stamp > begin - PERIOD]
        found = self.rows.setdefault(name, {"brake_begins": [], "commanded_rest": [], "measured_rest": []})
        found["brake_begins"].append(1e3 * (self._brake_begin(live, begin) - start))
        found["commanded_rest"].append(1e3 * (commanded_end - start))
        found["measured_rest"].append(1e3 * (max(moving, default=begin) - start))
        self.late += live.commitments[-1].rows_executed_late

    def _brake_begin(self, live: Live, begin: float) -> float:
        """First time without committed rows, from which on the arm brakes."""
        empty = [_seconds(m.header.stamp) for m in live.commitments if not len(m.positions)]
        return min((stamp for stamp in empty if stamp > begin), default=float("nan"))

    def resume(self, live: Live, woken: float) -> None:
        """From SIGCONT on all rows that move the arm must be of an observation from about then on."""
        live.move()
        self.stale += any(0 < m.chunk_set_id / 1e9 < woken - 0.4 for m in live.commitments[1:])


def _seconds(stamp: Any) -> float:
    return stamp.sec + stamp.nanosec / 1e9


def summary(found: dict[str, list[float]]) -> dict[str, Any]:
    """Percentiles; those of the brake over the losses after which the arm was still commanded to move."""
    brake, rest = found["brake_begins"], found["commanded_rest"]
    braked = [begin for begin, end in zip(brake, rest, strict=True) if end > 0]
    return {"n": len(rest), "braked": len(braked), **{k: percentiles(v) for k, v in found.items()}} | {
        "brake_begins": percentiles(braked)
    }


def main() -> None:
    """Measure and write."""
    cli = parser(__doc__ or "")
    cli.add_argument("--times", type=int, default=20)
    cli.add_argument("--nodes", nargs="+", default=list(NODES), choices=NODES)
    cli.add_argument("--world-model", default="world_model", help="bundle that vets; with '' there is no imagination")
    args = cli.parse_args()
    losses, draw = Losses(), random.Random(0)
    options = Options(page=False, joy=False, world_model=args.world_model)
    args.nodes = [node for node in args.nodes if args.world_model or node != "imagination"]
    with running_stack("sim_panda", options) as stack:
        live = Live(stack)
        for _ in range(args.times):  # in turn: a process that dies six times a minute stays down
            for node in args.nodes:
                hit(live, node, signal.SIGSTOP, losses, draw)
                if node != "gate":
                    hit(live, node, signal.SIGKILL, losses, draw)
    for _ in range(args.times if "gate" in args.nodes else 0):  # its loss ends the stack
        with running_stack("sim_panda", options) as stack:
            hit(Live(stack), "gate", signal.SIGKILL, losses, draw)
    metrics = {
        "times": args.times,
        "rows_executed_late": losses.late,
        "stale_rows_after_sigcont": losses.stale,
        **{f"{name}_ms": summary(found) for name, found in losses.rows.items()},
        "samples": {name: {k: np.round(v, 1).tolist() for k, v in f.items()} for name, f in losses.rows.items()},
    }
    write("upstream_loss", metrics, args.json)


def hit(live: Live, node: str, number: signal.Signals, losses: Losses, draw: random.Random) -> None:
    """One loss at a random time of motion."""
    live.forget()
    live.move()
    live.stack.client.spin(draw.uniform(0.02, 0.4))
    pid = live.stack.supervisor.pids()[node]
    live.forget()
    begin = time.time()
    os.kill(pid, number)
    losses.note(live, f"{node}_{number.name}", begin)
    if number == signal.SIGSTOP:
        live.forget()
        woken = time.time()
        os.kill(pid, signal.SIGCONT)
        live.stack.client.spin(0.3)
        if node == "gate":
            live.engage()
        losses.resume(live, woken)


if __name__ == "__main__":
    main()
