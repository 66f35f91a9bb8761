"""Does the world model see what the arm will see? Against the next pictures of rollouts at test seeds, slow mode.

Views: the wrist view imagined given the head view (``--interleaved``) against both at once (``--independent``), models
of one budget, trained from scratch. Actions: an inverse dynamics model, trained on pairs of real pictures, reads from
what ``--world-model`` imagined how the tool moved; also for actions that nobody executed, the mirror image of the real
ones. Growth: its error after 1, 2, 4 and 8 chunks, each from the one before, against copying the first picture.
"""

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from benchmarks.common import parser, write
from benchmarks.inverse_dynamics import explained, learn
from vla_mbpo.core.observation import Observation
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.eval.dreams import redream
from vla_mbpo.imagination.dream import dream
from vla_mbpo.imagination.session import WorldModelSession
from vla_mbpo.paths import bundle_dir, robot_dir
from vla_mbpo.processes import end_with_parent
from vla_mbpo.sim.tasks import TASKS
from vla_mbpo.training.judge import interval_by_group

CHUNKS = (1, 2, 4, 8)
STARTS = 2  # per rollout for single chunks
VIEWS = ("head", "wrist")


def ssim(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Structural similarity of two pictures (s, s, 3): Gaussian window of 1.5 px (Wang 2004), mean of colours."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    blur = [gaussian_filter(v, (1.5, 1.5, 0), truncate=3.5) for v in (x, y, x * x, y * y, x * y)]
    mx, my = blur[0], blur[1]
    vx, vy, cov = blur[2] - mx * mx, blur[3] - my * my, blur[4] - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return float((((2 * mx * my + c1) * (2 * cov + c2)) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean())


def errors(real: NDArray[np.uint8], imagined: NDArray[np.uint8]) -> tuple[float, float]:
    """Mean squared error (of 0..1) and 1 - SSIM."""
    return float(((real / 255.0 - imagined / 255.0) ** 2).mean()), 1.0 - ssim(real, imagined)


_sessions: dict[str, WorldModelSession] = {}


def _session(bundle: str) -> WorldModelSession:
    if bundle not in _sessions:
        spec = RobotSpec.load(robot_dir("sim_panda"))
        _sessions[bundle] = WorldModelSession.load(bundle_dir(bundle), spec, pixels=True)
    return _sessions[bundle]


def long_dream(job: tuple[Path, str, int]) -> dict[str, Any] | None:
    """Errors of the longest dream that a rollout allows, at each of CHUNKS."""
    file, bundle, flow_steps = job
    session = _session(bundle)
    with np.load(file) as episode:
        looks = [int(a) for a in episode["at"]]
        ends = [looks.index(a) for a in range(0, max(CHUNKS) * session.horizon + 1, session.horizon) if a in looks]
        if len(ends) <= max(CHUNKS):
            return None
        found = redream(session, episode, ends, flow_steps, np.random.default_rng(0))
        row: dict[str, Any] = {}
        for view in VIEWS:
            real = episode[view][ends]
            row[view] = [(*errors(real[n], getattr(found, view)[n - 1]), *errors(real[n], real[0])) for n in CHUNKS]
    return row


def one_chunk(job: tuple[Path, str, int]) -> list[dict[str, Any]]:
    """Single chunks of a rollout: errors of both views, and what inverse dynamics needs, with mirrored actions too."""
    file, bundle, flow_steps = job
    session, rows = _session(bundle), []
    with np.load(file) as episode:
        at, index = [int(a) for a in episode["at"]], np.arange(session.horizon)
        usable = [i for i, a in enumerate(at) if a + session.horizon in at]
        draws = np.random.default_rng(int(episode["seed"]))
        for i in draws.permutation(usable)[:STARTS]:
            j, joints = at.index(at[i] + session.horizon), episode["joints"][i].astype(np.float64)
            look = Observation(
                0, episode["head"][i], episode["wrist"][i], joints, episode["velocities"][i].astype(np.float64),
                float(episode["gripper"][i]),
            )  # fmt: skip
            rows_of = episode["set_point"][at[i] + index].astype(np.float64)
            opening = episode["opening"][at[i] + index].astype(np.float64)
            words = TASKS[str(episode["task"])].instruction
            row: dict[str, Any] = {
                "before": (look.head, look.wrist),
                "after": (episode["head"][j], episode["wrist"][j]),
            }
            for name, positions in (("imagined", rows_of), ("mirrored", 2 * joints - rows_of)):
                seen = dream(session, look, words, [(positions, opening)], np.random.default_rng(0), flow_steps)
                row[name] = (seen.head[0], seen.wrist[0])
                way = session.tool_ways(np.stack([joints, positions[-1]])[None])[0]
                row[f"{name}_motion"] = way[1] - way[0]
            row["error"] = [errors(row["after"][v], row["imagined"][v]) for v in (0, 1)]
            rows.append(row)
    return rows


def pairs(file: Path) -> list[tuple[Any, Any, NDArray]]:
    """Real pictures one chunk apart and the motion of the tool [m] between them, for inverse dynamics."""
    session, found = _session(_LEARNED[0]), []
    with np.load(file) as episode:
        at = [int(a) for a in episode["at"]]
        for i, a in enumerate(at):
            if a + session.horizon in at and i % 2 == 0:
                j = at.index(a + session.horizon)
                way = session.tool_ways(
                    np.stack([episode["joints"][i], episode["set_point"][a + session.horizon - 1]])[None].astype(float)
                )[0]
                views = [np.stack([episode[v][x] for v in VIEWS]) for x in (i, j)]
                found.append((views[0], views[1], way[1] - way[0]))
    return found


_LEARNED = ["world_model"]


def _start(bundle: str) -> None:
    end_with_parent()
    _LEARNED[0] = bundle


def compare_views(ours: list[dict], other: list[dict], group: NDArray[np.int64]) -> dict[str, Any]:
    """Errors of both models' views, and the wrist view's ratio with its interval."""
    a, b = (np.array([row["error"] for row in rows]) for rows in (ours, other))
    found: dict[str, Any] = {"n": len(a)}
    for v, view in enumerate(VIEWS):
        for e, name in enumerate(("mse", "one_minus_ssim")):
            found[f"{view}_{name}"] = [round(float(x[:, v, e].mean()), 5) for x in (a, b)]
            found[f"{view}_{name}_ratio"] = round(float(a[:, v, e].mean() / b[:, v, e].mean()), 4)
            found[f"{view}_{name}_ratio_interval"] = interval_by_group(
                lambda i, v=v, e=e: a[i, v, e].mean() / b[i, v, e].mean(), group
            )
        found[f"{view}_psnr_db"] = [round(float(-10 * np.log10(x[:, v, 0].mean())), 2) for x in (a, b)]
    return found


def growth(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean error at each of CHUNKS, imagined and copied."""
    found: dict[str, Any] = {"n": len(rows), "chunks": CHUNKS}
    for view in VIEWS:
        value = np.array([row[view] for row in rows]).mean(0)
        for i, name in enumerate(("mse", "one_minus_ssim", "copy_mse", "copy_one_minus_ssim")):
            found[f"{view}_{name}"] = [round(float(x), 5) for x in value[:, i]]
    return found


def main() -> None:
    """Dream, compare, write."""
    cli = parser(__doc__ or "")
    cli.add_argument("--world-model", default="world_model")
    cli.add_argument("--interleaved", default="", help="bundle of a model with interleaved views ...")
    cli.add_argument("--independent", default="", help="... and of one with independent views; compared if given")
    cli.add_argument("--data", type=Path, default=Path("data/rollouts_test"))
    cli.add_argument("--train", type=Path, default=Path("data/rollouts"), help="pairs for inverse dynamics")
    cli.add_argument("--rollouts", type=int, default=100)
    cli.add_argument("--flow-steps", type=int, default=4)
    args = cli.parse_args()
    files = [f for f in sorted(args.data.glob("*.npz")) if not any(t in f.name for t in TASKS if TASKS[t].held_out)]
    files = [files[i] for i in np.random.default_rng(0).permutation(len(files))[: args.rollouts]]
    learning = sorted(args.train.glob("*.npz"))[::3]
    with multiprocessing.get_context("spawn").Pool(2, _start, (args.world_model,)) as pool:
        long = [r for r in pool.map(long_dream, [(f, args.world_model, args.flow_steps) for f in files]) if r]
        single = pool.map(one_chunk, [(f, args.world_model, args.flow_steps) for f in files])
        pair = (args.interleaved, args.independent) if args.independent else ()
        views = [pool.map(one_chunk, [(f, bundle, args.flow_steps) for f in files]) for bundle in pair]
        real = [pair for part in pool.map(pairs, learning) for pair in part]
    if not long:
        raise SystemExit(f"no rollout in {args.data} is as long as {max(CHUNKS)} chunks")
    group = np.concatenate([np.full(len(rows), i) for i, rows in enumerate(single)])
    ours = [row for rows in single for row in rows]
    metrics: dict[str, Any] = {"flow_steps": args.flow_steps, "growth": growth(long)}
    if views:
        metrics["interleaved_against_independent"] = compare_views(
            *([row for rows in one for row in rows] for one in views), group
        )
    net = learn(real)
    before, moved = [r["before"] for r in ours], [r["imagined_motion"] for r in ours]
    metrics["inverse_dynamics_r2"] = {
        "n": len(ours),
        "trained_on": len(real),
        "real": explained(net, before, [r["after"] for r in ours], moved),
        "imagined": explained(net, before, [r["imagined"] for r in ours], moved),
        "imagined, mirrored actions": explained(
            net, before, [r["mirrored"] for r in ours], [r["mirrored_motion"] for r in ours]
        ),
        "copied": explained(net, before, before, moved),
        "imagined, read as if mirrored": explained(
            net, before, [r["imagined"] for r in ours], [r["mirrored_motion"] for r in ours]
        ),
    }
    write("imagination_quality", metrics, args.json)


if __name__ == "__main__":
    main()
