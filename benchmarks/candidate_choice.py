"""Does the world model tell the candidates of a set apart? Against what each of them led to in the simulator.

Needs branched rollouts of scenes that the model was not trained on: `vla-mbpo train rollouts --branches --out
data/branches_fresh --episodes few=6,full=2 --seed 900000`.
"""

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import parser, write
from vla_mbpo.core.observation import Observation
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.imagination.planner import PlannerConfig
from vla_mbpo.imagination.session import WorldModelSession
from vla_mbpo.paths import bundle_dir, robot_dir
from vla_mbpo.processes import end_with_parent
from vla_mbpo.sim.tasks import TASKS
from vla_mbpo.training.judge import interval_by_group, roc_auc
from vla_mbpo.training.rollout_data import UNTRIED

HOPELESS = 226  # rows that a task counts as which the expert does not finish: its value is 0.02, training/tried.py

_sessions: dict[str, WorldModelSession] = {}


def looks_of(job: tuple[Path, str]) -> list[dict[str, Any]]:
    """At each look of an attempt what was predicted of the policy's candidates, and what came."""
    file, bundle = job
    if bundle not in _sessions:
        _sessions[bundle] = WorldModelSession.load(bundle_dir(bundle), RobotSpec.load(robot_dir("sim_panda")))
    session, found = _sessions[bundle], []
    with np.load(file) as episode:
        task, done = str(episode["task"]), int(episode["success_row"])
        for i, row in enumerate(episode["at"]):
            if 0 <= done <= row:
                break
            look = Observation(
                0, episode["head"][i], episode["wrist"][i], episode["joints"][i].astype(float),
                episode["velocities"][i].astype(float), float(episode["gripper"][i]),
            )  # fmt: skip
            chunks = episode["chunks"][i][:-1].astype(float)  # without the expert's own
            positions, gripper = chunks[..., :-1], chunks[..., -1]
            ways = session.tool_ways(positions)
            said = session.vet(look, TASKS[task].instruction, positions, gripper, ways)
            if isinstance(said, str):
                found.append({"task": task, "known": False})
                continue
            to_go = episode["to_go"][i][:-1]
            rows = np.where(to_go < 0, HOPELESS, np.minimum(to_go, HOPELESS)) if to_go[0] != UNTRIED else None
            found.append({
                "task": task, "known": True, "cost": said.cost, "value": said.value, "hit": episode["hits"][i][:-1] > 0,
                "rows": rows, "success": float(said.success.mean()), "ends_well": done >= 0,
            })  # fmt: skip
    return found


def judge(looks: list[dict[str, Any]], group: NDArray[np.int64], limit: float) -> dict[str, Any]:
    """Choice among the candidates of these looks; intervals by bootstrap over attempts."""
    cost, hit = (np.array([look[name] for look in looks]) for name in ("cost", "hit"))
    chosen = hit[np.arange(len(hit)), cost.argmin(1)]
    mixed = np.flatnonzero(hit.any(1) & ~hit.all(1))
    timed = [look for look in looks if look["rows"] is not None]
    saved = np.array([look["rows"].mean() - look["rows"][look["value"].argmax()] for look in timed])
    success = np.array([look["success"] for look in looks])
    tasks = np.array([look["task"] for look in looks])
    return {
        "looks": len(looks),
        "cost_random": round(float(hit.mean()), 4),
        "cost_safest_chosen": round(float(chosen.mean()), 4),
        "cost_chosen_interval": interval_by_group(lambda i: chosen[i].mean(), group),
        "cost_safest": round(float(hit.min(1).mean()), 4),
        "mixed_looks": len(mixed),
        "auc_within_mixed_looks": round(float(np.mean([roc_auc(cost[i], hit[i]) for i in mixed])), 4),
        "finished_looks": len(timed),
        "rows_saved": round(float(saved.mean()), 2),
        "rows_saved_at_best": round(float(np.mean([look["rows"].mean() - look["rows"].min() for look in timed])), 2),
        "success_auc": round(roc_auc(success, np.array([look["ends_well"] for look in looks])), 4),
        "refused_and_costly_share": {
            str(task): [round(float(x[tasks == task].mean()), 3) for x in (cost >= limit, hit)]
            for task in np.unique(tasks)
        },
    }


def main() -> None:
    """Predict, judge, write."""
    cli = parser(__doc__ or "")
    cli.add_argument("--world-model", default="world_model")
    cli.add_argument("--data", type=Path, default=Path("data/branches_fresh"))
    args = cli.parse_args()
    files = [file for file in sorted(args.data.glob("*.npz")) if ".partial" not in file.name]
    with multiprocessing.get_context("spawn").Pool(2, end_with_parent) as pool:
        attempts = pool.map(looks_of, [(file, args.world_model) for file in files])
    every = [(look, n) for n, attempt in enumerate(attempts) for look in attempt]
    known = [(look, n) for look, n in every if look["known"]]
    looks, group = [look for look, _ in known], np.array([n for _, n in known])
    metrics = {"attempts": len(files), "unknown_looks": len(every) - len(known)}
    write("candidate_choice", metrics | judge(looks, group, PlannerConfig().unsafe_cost), args.json)


if __name__ == "__main__":
    main()
