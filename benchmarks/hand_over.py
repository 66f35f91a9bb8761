"""Two simulated arms hand a bar over through one gate: success, refusals, and how near the arms came to each other."""

from collections import Counter

from benchmarks.common import parser, write
from vla_mbpo.eval.hand_over import Attempt, Outcome, load_cell
from vla_mbpo.eval.statistics import wilson
from vla_mbpo.gate.cell import CellGate


def main() -> None:
    """Measure and write."""
    cli = parser(__doc__ or "")
    cli.add_argument("--seeds", type=int, default=50, help="attempts, of seeds 0 and up")
    args = cli.parse_args()
    gate = CellGate(load_cell())
    outcomes = [Attempt(gate.cell, gate, seed).run() for seed in range(args.seeds)]
    write("hand_over", summary(outcomes, gate), args.json)


def summary(outcomes: list[Outcome], gate: CellGate) -> dict[str, object]:
    """Numbers of all attempts. Lengths in m, times in s."""
    won = sum(outcome.success for outcome in outcomes)
    reasons: Counter[str] = Counter()
    for outcome in outcomes:
        reasons.update(outcome.reasons)
    return {
        "n": len(outcomes),
        "successes": won,
        "interval": [round(bound, 3) for bound in wilson(won, len(outcomes))],
        "failed_seeds": [outcome.seed for outcome in outcomes if not outcome.success],
        "approved": sum(outcome.approved for outcome in outcomes),
        "refused": sum(outcome.refused for outcome in outcomes),
        "refusals_by_check": dict(reasons),
        "arms_touched": sum(outcome.touched for outcome in outcomes),
        "nearest_m": round(min(outcome.nearest for outcome in outcomes), 4),
        "margin_m": gate.cell.margin,
        "mean_seconds": round(sum(outcome.seconds for outcome in outcomes) / len(outcomes), 2),
        "pairs_checked": len(gate.kinematics.pairs),
    }


if __name__ == "__main__":
    main()
