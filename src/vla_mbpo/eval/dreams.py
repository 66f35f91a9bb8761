"""``vla-mbpo dream``: a recorded rollout beside what the world model makes of the same actions, as a PNG strip.

Or the dreams that a run of dream RL has kept.
"""

import argparse
from itertools import takewhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from vla_mbpo.core.errors import require
from vla_mbpo.core.observation import Observation
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.imagination.dream import Dream, dream
from vla_mbpo.imagination.session import WorldModelSession
from vla_mbpo.paths import bundle_dir, robot_dir
from vla_mbpo.sim.instructions import instruction_of
from vla_mbpo.training.dream_log import strips

LABEL = 12  # px


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--episode", type=Path, help="a rollout (.npz of `vla-mbpo train rollouts`)")
    what.add_argument("--dreams", type=Path, help="dreams of a run of dream RL (RUN/dreams/STEP.npz)")
    add("--world-model", default="world_model", help="bundle name or folder")
    add("--out", type=Path, default=Path("dream.png"))
    add("--start", type=int, default=0, help="look to begin at")
    add("--chunks", type=int, default=4, help="chunks to dream")
    add("--flow-steps", type=int, default=4, help="Euler steps per view")
    add("--seed", type=int, default=0)
    add("--robot", default="sim_panda")


def run(args: argparse.Namespace) -> int:
    """Write the strip: real pictures above imagined ones."""
    if args.dreams:
        strips(args.dreams).save(args.out)
        print(f"{args.out}: seen, and imagined at the end of each chunk; rows left to do and probability of cost")
        return 0
    require(args.episode.is_file(), "--episode", str(args.episode), "a file")
    require(args.chunks > 0, "--chunks", args.chunks, "a number above 0")
    require(args.flow_steps > 0, "--flow-steps", args.flow_steps, "a number above 0")
    spec = RobotSpec.load(robot_dir(args.robot))
    session = WorldModelSession.load(bundle_dir(args.world_model), spec, threads=2, pixels=True)
    with np.load(args.episode) as episode:
        looks = list(episode["at"])
        last = len(looks) - 2
        require(0 <= args.start <= last, "--start", args.start, f"0 to {last}, a look with another after it")
        wanted = looks[args.start] + spec.horizon * np.arange(args.chunks + 1)
        ends = [looks.index(a) for a in takewhile(looks.__contains__, wanted)]  # recordings may miss one
        require(len(ends) > 1, "--start", args.start, f"a look with another {spec.horizon} rows later")
        real = {view: episode[view][ends] for view in ("head", "wrist")}
        found = redream(session, episode, ends, args.flow_steps, np.random.default_rng(args.seed))
        done = int(episode["success_row"])
        rows = [int(looks[i]) for i in ends]
    strip(real, found, rows, done).save(args.out)
    for i, row in enumerate(rows[1:]):
        print(
            f"row {row}: done {found.done[i]:.2f}{' (it is)' if 0 <= done < row else ''}, in the end "
            f"{found.success[i]:.2f}, cost {found.cost[i]:.2f}"
        )
    print(f"{args.out}: real above imagined, {'it succeeds' if done >= 0 else 'it fails'}")
    return 0


def redream(session: WorldModelSession, episode, ends: list[int], flow_steps: int, rng: np.random.Generator) -> Dream:
    """Dream from look ``ends[0]`` of a rollout to each following one, with the actions that were executed."""
    first, at = ends[0], episode["at"]
    begin = Observation(
        int(at[first]) * session.row_period, episode["head"][first], episode["wrist"][first],
        episode["joints"][first].astype(np.float64), episode["velocities"][first].astype(np.float64),
        float(episode["gripper"][first]),
    )  # fmt: skip
    index = np.arange(session.horizon)
    chunks = [
        (episode["set_point"][at[i] + index].astype(np.float64), episode["opening"][at[i] + index].astype(np.float64))
        for i in ends[:-1]
    ]
    return dream(session, begin, instruction_of(episode), chunks, rng, flow_steps)


def strip(real: dict[str, NDArray[np.uint8]], found: Dream, rows: list[int], done: int) -> Image.Image:
    """Columns: looks; above what was seen (head, wrist), below what was imagined, with the probabilities."""
    size, n = real["head"].shape[1], len(rows)
    picture = Image.new("RGB", (size * n, 4 * size + 2 * LABEL), "white")
    draw = ImageDraw.Draw(picture)
    for column in range(n):
        x, imagined = column * size, column > 0
        for line, view in enumerate(("head", "wrist")):
            picture.paste(Image.fromarray(real[view][column]), (x, LABEL + line * size))
            below = getattr(found, view)[column - 1] if imagined else real[view][0]
            picture.paste(Image.fromarray(below), (x, 2 * LABEL + (2 + line) * size))
        draw.text((x + 2, 0), f"row {rows[column]}{' done' if 0 <= done < rows[column] else ''}", fill="black")
        text = f"done {found.done[column - 1]:.2f} cost {found.cost[column - 1]:.2f}" if imagined else "imagined:"
        draw.text((x + 2, LABEL + 2 * size), text, fill="black")
    return picture
