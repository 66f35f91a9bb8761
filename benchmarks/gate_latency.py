"""Gate: time to vet one 16-row chunk with every check, on swings from home among obstacles that it accepts.

Beside it, interleaved in the same run, what running the arm driver ahead takes of that.
"""

from itertools import cycle

import numpy as np

from benchmarks.common import interleaved, parser, write
from benchmarks.gate_motions import make_chunk, obstructed, speeds, swings
from vla_mbpo.core.chunk import JointRows
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.state import RobotState
from vla_mbpo.gate.config import GateConfig
from vla_mbpo.gate.drive import Drive
from vla_mbpo.gate.gate import Gate
from vla_mbpo.paths import robot_dir


def main() -> None:
    """Measure and write."""
    cli = parser(__doc__ or "")
    cli.add_argument("--repeats", type=int, default=500)
    args = cli.parse_args()
    spec = obstructed(RobotSpec.load(robot_dir("sim_panda")))
    gate, drive = Gate(spec, GateConfig()), Drive(spec)
    n = len(spec.joints)
    rows = swings(spec, gate, np.random.default_rng(0), 64)
    chunks = [make_chunk(spec, one, spec.home) for one in rows]
    state = RobotState(0, spec.home.copy(), np.zeros(n), 0.08)
    turn, ahead = cycle(chunks), cycle(chunks)

    def run_ahead() -> None:
        chunk = next(ahead)
        drive.path(chunk, chunk.positions, spec.home, np.zeros(n), 0)

    both = {"vet": lambda: gate.vet(next(turn), state, spec.home, 0), "run_ahead": run_ahead}
    latency = interleaved(both, args.repeats)
    share = {"run_ahead_share_of_p50": round(latency["run_ahead"]["p50"] / latency["vet"]["p50"], 3)}
    accepted = sum(isinstance(gate.vet(chunk, state, spec.home, 0), JointRows) for chunk in chunks)
    write(
        "gate_latency",
        {"latency_ms": latency, **share, "accepted_of_64": accepted, "n": args.repeats, **speeds(spec, rows)},
        args.json,
    )


if __name__ == "__main__":
    main()
