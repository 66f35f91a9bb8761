"""Scripted demonstrations for supervised finetuning, with perturbations so that the policy learns to recover.

An episode is a folder-free npz of arrays over T rows (20 Hz) and the M <= T rows that were looked at:
    target (T, n) joint targets [rad]; gripper_target (T,) [m]; clean (T,) row executed without perturbation
    (rows within a perturbation are not looked at and label nothing);
    at (M,) row index of each observation; head, wrist (M, s, s, 3) uint8; joints, velocities (M, n); gripper (M,);
    points (M, 9): object, goal and tool position [m], ground truth for the auxiliary loss; cubes, or things (M, 2 T):
    places (x, y) of T things [m], where the world says them and not the tabletop's layout;
    task, seed; instruction: what the task is called.
"""

import json
import multiprocessing
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from vla_mbpo.core.errors import require
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.state import Trajectory
from vla_mbpo.paths import bundle_dir, robot_dir
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.processes import end_with_parent
from vla_mbpo.sim.experts import Expert
from vla_mbpo.sim.world import TABLETOP, World
from vla_mbpo.training.pilot import Pilot

MAX_ROWS = 320
RECIPE = "recipe.json"  # beside the episodes
SEEN = "at head wrist joints velocities gripper".split()
TRUTH = ("points", "things")  # of what the world knows
AFTER_SUCCESS = 8  # rows kept after success, so that the policy learns to stay


@dataclass(frozen=True)
class Recipe:
    """How demonstrations are made. ``seed`` is the first scene seed; episode i of a task uses seed + i."""

    robot: str = "sim_panda"
    image_size: int = 96
    look_every: int = 2
    burst_probability: float = 0.025
    burst_rows: tuple[int, int] = (3, 9)
    burst_tool: float = 0.03  # m, standard deviation per axis of the tool's offset at the end of a burst
    burst_joint: float = 0.025  # rad, the same for the joints
    gripper_bursts: float = 0.2  # share of bursts that move the gripper instead, ...
    openings: tuple[float, float] = (0.0, 0.08)  # ... to an opening in between [m]
    pilot: str = ""  # bundle that drives between the expert's stretches, instead of the bursts
    max_rows: int = MAX_ROWS
    seed: int = 0


class Perturbation:
    """Bursts of offsets on the executed targets; the recorded target stays the expert's."""

    def __init__(self, recipe: Recipe, rng: np.random.Generator, expert: Expert, joints: int) -> None:
        self._recipe, self._rng, self._expert, self._n = recipe, rng, expert, joints
        self._left = self._length = 0
        self._tool, self._joint = np.zeros(3), np.zeros(joints)
        self._gripper: float | None = None

    @property
    def active(self) -> bool:
        """A burst is running."""
        return self._left > 0

    def maybe_begin(self) -> None:
        """Begin a burst with the recipe's probability. Call once per row, before it is looked at."""
        recipe, rng = self._recipe, self._rng
        if self._left or rng.random() >= recipe.burst_probability:
            return
        self._left = self._length = int(rng.integers(*recipe.burst_rows))
        grip = rng.random() < recipe.gripper_bursts
        self._gripper = float(rng.uniform(*recipe.openings)) if grip else None
        self._tool = rng.normal(0, 0.0 if grip else recipe.burst_tool, 3)
        self._joint = rng.normal(0, 0.0 if grip else recipe.burst_joint, self._n)

    def apply(self, target: NDArray, opening: float) -> tuple[NDArray, float]:
        """Targets to execute for this row instead of the expert's. At the end of a burst the expert starts anew."""
        if not self._left:
            return target, opening
        self._left -= 1
        share = (self._length - self._left) / self._length
        opening = opening if self._gripper is None else self._gripper
        return self._expert.displaced(share * self._tool) + share * self._joint, opening


def demonstrate(
    spec: RobotSpec, task: str, seed: int, recipe: Recipe, perturb: bool = True, world: World = TABLETOP
) -> dict | None:
    """One demonstration of (task, seed), or None if the expert failed under the perturbations."""
    rng = np.random.default_rng([seed, 77])
    robot = world.robot(spec, task, seed)
    camera, expert = world.camera(robot, recipe.image_size), world.expert(robot)
    noise: Pilot | Perturbation = Perturbation(recipe, rng, expert, len(spec.joints))
    if recipe.pilot:
        noise = Pilot(bundle_dir(recipe.pilot), robot, camera, rng)
    perturb = perturb and (bool(recipe.pilot) or rng.random() < 0.75)
    rows, looks = [], []
    phase, after = int(rng.integers(recipe.look_every)), 0
    try:
        for t in range(recipe.max_rows):
            if perturb and not robot.referee.success:
                noise.maybe_begin()
            disturbed = noise.active
            if t % recipe.look_every == phase and not disturbed:
                state = robot.state()
                images = camera.render(robot.qpos, "head", "wrist")
                known = world.truth(robot)
                body = np.float32(state.positions), np.float32(state.velocities), np.float32(state.gripper)
                now = dict(zip(SEEN, (np.int32(t), *images, *body), strict=True))
                looks.append(now | {name: known[name].astype(np.float32) for name in TRUTH if name in known})
            target, opening = expert.row()
            rows.append((target, opening, not disturbed))
            target, opening = noise.apply(target, opening)
            inside = np.clip(target, spec.lower, spec.upper)
            robot.accept(Trajectory(0, spec.joints, (spec.row_period,), inside[None], np.zeros((0, len(inside)))))
            robot.command_gripper(float(np.clip(opening, *spec.gripper_range)))
            robot.advance(robot.time + spec.row_period)
            if disturbed and not noise.active:
                expert.resync()
            after += robot.referee.success
            if after > AFTER_SUCCESS:
                return _pack(rows, looks) | {"instruction": robot.scene.instruction} if looks else None
        return None
    finally:
        camera.close()


def _pack(rows: list, looks: list) -> dict:
    target, gripper, clean = zip(*rows, strict=True)
    return {name: np.stack([look[name] for look in looks]) for name in looks[0]} | {
        "target": np.array(target, np.float32),
        "gripper_target": np.array(gripper, np.float32),
        "clean": np.array(clean),
    }


def _job(args: tuple[Path, str, int, Recipe, World]) -> bool:
    """Make one episode file; an existing one is kept, so an interrupted run resumes."""
    path, task, seed, recipe, world = args
    if path.exists():
        return True
    episode = demonstrate(RobotSpec.load(robot_dir(recipe.robot)), task, seed, recipe, world=world)
    if episode is None:
        return False
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, task=task, seed=seed, **episode)
    partial.rename(path)
    return True


def generate(
    out: Path, tasks: tuple[str, ...], episodes: int, recipe: Recipe, workers: int = 2, world: World = TABLETOP
) -> int:
    """Make ``episodes`` demonstrations per task under ``out``; returns how many are there.

    Processes are spawned: fork after a GL call hangs.

    Raises:
        ConfigError: ``out`` holds demonstrations of another recipe.
    """
    out.mkdir(parents=True, exist_ok=True)
    _claim(out, recipe)
    jobs = [
        (out / f"{task}_{recipe.seed + i:06d}.npz", task, recipe.seed + i, recipe, world)
        for i in range(episodes)
        for task in tasks
    ]
    with multiprocessing.get_context("spawn").Pool(workers, end_with_parent) as pool:
        done = list(track(pool.imap_unordered(_job, jobs, chunksize=4), "demonstrations", total=len(jobs)))
    return sum(done)


def _claim(out: Path, recipe: Recipe) -> None:
    """Write the recipe beside the episodes, without the seeds: they are in the file names."""
    mine = {**asdict(recipe), "pilot_sha256": ""}
    if recipe.pilot:
        mine["pilot_sha256"] = Bundle.load(bundle_dir(recipe.pilot)).digest
    del mine["seed"]
    claim(out, mine, "demonstrations")


def claim(out: Path, recipe: Mapping[str, Any], what: str) -> None:
    """Write what a folder's files depend on beside them. ConfigError: it holds ``what`` of another recipe."""
    mine, file = json.loads(json.dumps(recipe)), out / RECIPE
    if not file.exists():
        file.write_text(json.dumps(mine, indent=1) + "\n")
    for name, value in json.loads(file.read_text()).items():
        text = f"{out} holds {what} made with {value!r}; choose another folder"
        require(mine.get(name) == value, f"recipe.{name}", mine.get(name), text)
