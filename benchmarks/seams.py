"""Seams: the velocity step at each chunk switch, as a share of what the joint's acceleration limit allows per tick.

Runs policy attempts in lockstep until enough switches have been seen (Commitment.worst_seam_ratio of each attempt).
"""

import numpy as np

from benchmarks.common import parser, write
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.eval.lockstep import Attempt, Settings
from vla_mbpo.paths import bundle_dir, robot_dir
from vla_mbpo.policy.runtime import PolicySession
from vla_mbpo.sim.tasks import TEST_SEED_BASE, TRAINING_TASKS


def main() -> None:
    """Measure and write."""
    cli = parser(__doc__ or "")
    cli.add_argument("--bundle", default="sft_full")
    cli.add_argument("--switches", type=int, default=1000)
    args = cli.parse_args()
    spec = RobotSpec.load(robot_dir("sim_panda"))
    session = PolicySession.load(bundle_dir(args.bundle))
    switches, worst, late, seed = 0, [], 0, TEST_SEED_BASE + 910_000
    while switches < args.switches:
        task = TRAINING_TASKS[seed % len(TRAINING_TASKS)]
        outcome = Attempt(spec, session, task, seed, Settings()).run()
        switches += outcome.seams or 0
        late += outcome.rows_late
        worst.append(outcome.worst_seam or 0.0)
        seed += 1
    metrics = {
        "bundle": session.version,
        "switches": switches,
        "attempts": len(worst),
        "worst_ratio_to_limit": round(max(worst), 4),
        "median_of_attempts": round(float(np.median(worst)), 4),
        "rows_executed_late": late,
    }
    write("seams", metrics, args.json)


if __name__ == "__main__":
    main()
