"""Policies that ``vla-mbpo train dream-rl`` made, against the one that they began as: the same scenes in lockstep.

Training tasks, K = 8, gate with default limits, nothing vets. What was attempted is kept beside the result until the
whole is written, so that an interrupted run goes on. With ``--runs`` also the dream-real gap: by how much the success
that a run's world model promises for the policy's chunks, over that of its start, exceeds the true gain.
"""

import json
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from benchmarks.common import parser, write
from vla_mbpo.core.errors import require
from vla_mbpo.paths import bundle_dir
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.releases import evaluation
from vla_mbpo.releases.decision import compare
from vla_mbpo.sim.tasks import TRAINING_TASKS


def main() -> int:
    """Entry point."""
    arguments = parser(__doc__)
    add = arguments.add_argument
    add("--start", default="sft_few", help="bundle that all began as")
    add("--bundles", nargs="+", default=["dream_rl"], help="names or folders")
    add("--runs", nargs="*", default=[], help="run folders of the bundles, in order, for the dream-real gap")
    add("--episodes", type=int, default=50, help="per task and bundle")
    add("--seed", type=int, default=1000)
    add("--scenes", default="test", choices=("test", "calibration"))
    add("--workers", type=int, default=2)
    args = arguments.parse_args()
    require(len(args.runs) in (0, len(args.bundles)), "--runs", len(args.runs), f"{len(args.bundles)}, or none")
    args.tasks, args.k, args.robot = ",".join(TRAINING_TASKS), 8, "sim_panda"
    kept = Path(gettempdir()) / "vla_mbpo_dream_rl"
    kept.mkdir(exist_ok=True)
    sides = [Bundle.load(bundle_dir(name)) for name in (args.start, *args.bundles)]
    outcomes = [evaluation.evaluate(evaluation.options(side, None, kept, args))[0] for side in sides]
    found: dict[str, Any] = {"start": sides[0].version, "episodes_per_task": args.episodes, "seed": args.seed}
    found["scenes"] = args.scenes
    for name, side, results in zip(args.bundles, sides[1:], outcomes[1:], strict=True):
        one = compare(outcomes[0], results)
        found[side.version] = {
            "folder": name,
            "n": one.n,
            "success_of_start": one.success[0],
            "success": one.success[1],
            "gain": one.gain,
            "cost_events_of_start": one.costs[0],
            "cost_events": one.costs[1],
            "cost_ratio": one.cost_ratio,
            "won_and_lost": one.discordant,
            "tasks": one.tasks,
        }
    for side, run in zip(sides[1:], args.runs, strict=False):
        found[side.version] |= dreamt(Path(run), found[side.version])
    write("dream_rl", found, args.json)
    return 0


def dreamt(run: Path, found: dict[str, Any]) -> dict[str, float]:
    """What the run's world model says of success, at fixed observations of its log, beside the true gain."""
    refills = json.loads((run / "state.json").read_text())["refills"]
    last = next(refill for refill in reversed(refills) if "success" in refill)
    gain = last["success"] - last["success_of_start"]
    return {"dreamt_gain": round(gain, 4), "dream_real_gap": round(gain - found["gain"][0], 4)}


if __name__ == "__main__":
    raise SystemExit(main())
