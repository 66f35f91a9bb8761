"""Does the world model know how attempts end? Success and cost, on rollouts of the policies at test seeds.

The rollouts are made first (``--data``, kept). The world model has seen none of their scenes, nor the unseen tasks.
"""

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import parser, write
from vla_mbpo.core.observation import Observation
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.imagination.session import WorldModelSession
from vla_mbpo.paths import bundle_dir, robot_dir
from vla_mbpo.processes import end_with_parent
from vla_mbpo.sim.tasks import TASKS, TEST_SEED_BASE
from vla_mbpo.training.judge import Reliability, average_precision, interval_by_group, recall_at, roc_auc
from vla_mbpo.training.rollouts import generate

FIRST = TEST_SEED_BASE + 500_000  # test scenes that no other benchmark uses


def look_by_look(job: tuple[Path, str]) -> dict[str, Any]:
    """What was predicted at each look of a rollout for the rows that were then executed, and what came."""
    file, bundle = job
    spec = RobotSpec.load(robot_dir("sim_panda"))
    session = _session(bundle, spec)
    with np.load(file) as episode:
        at, n = episode["at"], len(episode["set_point"])
        task, source = str(episode["task"]), str(episode["source"])
        done, cost = int(episode["success_row"]), episode["cost"]
        unknown = 0
        found: dict[str, list] = {"success": [], "cost": [], "uncertainty": [], "hit": [], "complete": [], "share": []}
        for i, row in enumerate(at):
            if 0 <= done <= row:  # nothing left to predict
                break
            index = np.minimum(row + np.arange(spec.horizon), n - 1)
            look = Observation(
                int(row) * spec.row_period, episode["head"][i], episode["wrist"][i], episode["joints"][i].astype(float),
                episode["velocities"][i].astype(float), float(episode["gripper"][i]),
            )  # fmt: skip
            positions, gripper = episode["set_point"][index][None].astype(float), episode["opening"][index][None]
            ways = session.tool_ways(positions)
            said = session.vet(look, TASKS[task].instruction, positions, gripper.astype(float), ways)
            if isinstance(said, str):  # UNKNOWN
                unknown += 1
                continue
            end = row + spec.horizon
            values = (said.success[0], said.cost[0], said.uncertainty[0], cost[row:end].any(), end <= n, row / n)
            for key, value in zip(found, values, strict=True):
                found[key].append(value)
    arrays = {k: np.array(v) for k, v in found.items()}
    return {"task": task, "source": source, "ends_well": done >= 0, "unknown": unknown, **arrays}


_sessions: dict[str, WorldModelSession] = {}


def _session(bundle: str, spec: RobotSpec) -> WorldModelSession:
    if bundle not in _sessions:
        _sessions[bundle] = WorldModelSession.load(bundle_dir(bundle), spec)
    return _sessions[bundle]


def judge(episodes: list[dict[str, Any]]) -> dict[str, Any]:
    """Metrics over all looks of these rollouts; intervals by bootstrap over rollouts."""
    group = np.concatenate([np.full(len(e["success"]), i) for i, e in enumerate(episodes)])
    success = np.concatenate([e["success"] for e in episodes])
    label = np.concatenate([np.full(len(e["success"]), e["ends_well"]) for e in episodes]).astype(bool)
    share = np.concatenate([e["share"] for e in episodes])
    cost, hit = (np.concatenate([e[key] for e in episodes]) for key in ("cost", "hit"))
    seen = np.concatenate([e["complete"] for e in episodes]).astype(bool)
    fails = ~label
    row: dict[str, Any] = {
        "rollouts": len(episodes),
        "looks": len(label),
        "unknown_looks": sum(e["unknown"] for e in episodes),
        "success_prevalence": round(float(label.mean()), 4),
        "success_auc": round(roc_auc(success, label), 4),
        "success_auc_interval": interval_by_group(lambda i: roc_auc(success[i], label[i]), group),
        "success_ap": round(average_precision(success, label), 4),
        "calibration": Reliability.of(success, label).__dict__,
        "auc_by_third": [
            round(roc_auc(success[m], label[m]), 4)
            for m in (share < 1 / 3, (share >= 1 / 3) & (share < 2 / 3), share >= 2 / 3)
        ],
        "cost_prevalence": round(float(hit[seen].mean()), 4),
        "cost_auc": round(roc_auc(cost[seen], hit[seen].astype(bool)), 4),
        "cost_ap": round(average_precision(cost[seen], hit[seen].astype(bool)), 4),
    }
    if label.any() and fails.any():
        row["failure_recall_at_5_percent"] = round(recall_at(-success, fails, 0.05)[0], 4)
        row["failure_recall_interval"] = interval_by_group(
            lambda i: recall_at(-success[i], fails[i], 0.05)[0] if label[i].any() and fails[i].any() else np.nan, group
        )
    return row


def main() -> None:
    """Make the rollouts, predict, judge."""
    cli = parser(__doc__ or "")
    cli.add_argument("--world-model", default="world_model")
    cli.add_argument("--data", type=Path, default=Path("data/rollouts_test"))
    cli.add_argument("--full", type=int, default=15, help="rollouts of sft_full per task")
    cli.add_argument("--few", type=int, default=25, help="rollouts of sft_few per task")
    args = cli.parse_args()
    generate(args.data, tuple(TASKS), {"full": args.full, "few": args.few}, FIRST)
    files = sorted(args.data.glob("*.npz"))
    with multiprocessing.get_context("spawn").Pool(2, end_with_parent) as pool:
        episodes = pool.map(look_by_look, [(file, args.world_model) for file in files], chunksize=8)
    seen = [e for e in episodes if not TASKS[e["task"]].held_out]
    unseen = [e for e in episodes if TASKS[e["task"]].held_out]
    groups = {"training tasks": seen, "unseen tasks": unseen}
    groups |= {f"training tasks, {s}": [e for e in seen if e["source"] == s] for s in ("full", "few")}
    write("imagination_outcomes", {name: judge(group) for name, group in groups.items()}, args.json)


if __name__ == "__main__":
    main()
