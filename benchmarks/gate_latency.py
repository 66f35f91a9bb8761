"""Gate: time to vet one 16-row chunk with every check, on chunks along expert motions."""

import numpy as np

from benchmarks.common import interleaved, parser, write
from vla_mbpo.core.chunk import ActionChunk, ActionType, JointRows
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.state import RobotState
from vla_mbpo.gate.config import GateConfig
from vla_mbpo.gate.gate import Gate
from vla_mbpo.paths import robot_dir


def main() -> None:
    """Measure and write."""
    cli = parser(__doc__ or "")
    cli.add_argument("--repeats", type=int, default=500)
    args = cli.parse_args()
    spec = RobotSpec.load(robot_dir("sim_panda"))
    gate = Gate(spec, GateConfig())
    rng = np.random.default_rng(0)
    n = len(spec.joints)
    share = (np.arange(1, spec.horizon + 1) / spec.horizon)[:, None] ** 2
    chunks = [
        ActionChunk(
            1, 0, 0, 10**9, ActionType.JOINT_POSITION, spec.joints, spec.home, spec.row_period,
            spec.home + share * rng.normal(0, 0.05, n), np.full(spec.horizon, 0.08),
        )
        for _ in range(64)
    ]  # fmt: skip
    state = RobotState(0, spec.home.copy(), np.zeros(n), 0.08)
    turn = iter(range(10**9))
    latency = interleaved({"vet": lambda: gate.vet(chunks[next(turn) % 64], state, spec.home, 0)}, args.repeats)
    accepted = sum(isinstance(gate.vet(chunk, state, spec.home, 0), JointRows) for chunk in chunks)
    write("gate_latency", {"latency_ms": latency["vet"], "accepted_of_64": accepted, "n": args.repeats}, args.json)


if __name__ == "__main__":
    main()
