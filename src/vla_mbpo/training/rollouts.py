"""``vla-mbpo train rollouts``: attempts of experts, policies, disturbed policies and random motion (training/tape.py).

Sources differ in how well they do, so that the world model sees success and failure, careful and careless motion.
"""

import io
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.core.observation import Observation
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.state import Trajectory
from vla_mbpo.eval.lockstep import Attempt, Settings
from vla_mbpo.imagination.session import WorldModelSession
from vla_mbpo.imagination.vetting import Vetting
from vla_mbpo.paths import bundle_dir, robot_dir
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.policy.runtime import Candidates, PolicySession
from vla_mbpo.sim.world import TABLETOP, World
from vla_mbpo.spread import Place, nothing, spread
from vla_mbpo.training.demonstrations import Perturbation, Recipe, claim
from vla_mbpo.training.tape import LOOK_ROWS, Tape

TIMEOUT = 10.0  # s; half of it for random motion
AFTER = 16  # rows kept after success or failure: what a chunk beyond it leads to, and what the failure cost
IMAGE = 96  # px; the policies' own size
SPREAD = 1.3  # of the candidates that are branched: somewhat more than a running stack asks of its policy
CLUMSY = Recipe(burst_probability=0.06, burst_tool=0.07, burst_joint=0.06, gripper_bursts=0.4)

# Bundle and settings of each policy source.
POLICIES = {
    "full": ("sft_full", Settings()),
    "full_wide": ("sft_full", Settings(noise=2.5)),
    "full_warm": ("sft_full", Settings(noise=1.5)),
    "few": ("sft_few", Settings()),
    "few_warm": ("sft_few", Settings(noise=1.4)),
    "few_wide": ("sft_few", Settings(noise=2.0)),
    "unguarded": ("sft_full", Settings(gate=False, corrupt=0.3)),
    "random": ("", Settings(k=1, gate=False)),
}
SOURCES = ("expert", "clumsy", *POLICIES)


def driver(source: str) -> tuple[str, Settings]:
    """Bundle and settings of a source that is not an expert: one of POLICIES, or any policy's bundle."""
    return POLICIES.get(source) or (source, Settings())


@dataclass(frozen=True)
class Branching:
    """How looks are branched (training/branches.py).

    Attributes:
        wander: [m] how far half of the candidates go astray; 0: they are the policy's.
        finished: share of the looks from which the expert goes on after each branch: that takes most of the time.
        until: [s] of an attempt after which it does not: where mistakes are final, late looks tell nothing.
        longest: rows that it goes on for.
    """

    wander: float = 0.0
    finished: float = 0.3
    until: float = math.inf
    longest: int = 140

    def __post_init__(self) -> None:
        require(0.0 <= self.wander <= 0.2, "wander", self.wander, "0 to 0.2 m")
        require(0.0 <= self.finished <= 1.0, "finished", self.finished, "0 to 1")
        require(self.until > 0.0, "until", self.until, "above 0 [s]")
        require(self.longest > 0, "longest", self.longest, "above 0 [rows]")


@dataclass(frozen=True)
class Job:
    """One attempt: who drives, where, and the file it goes to."""

    file: Path
    source: str
    task: str
    seed: int
    robot: str
    branching: Branching | None
    world_model: str
    disturbed: float
    timeout: float
    world: World = TABLETOP


class TapedAttempt(Attempt):
    """A policy's attempt that is recorded and goes on for a while after success or failure."""

    def __init__(
        self,
        spec: RobotSpec,
        session: Any,
        task: str,
        seed: int,
        settings: Settings,
        vetting: Vetting | None = None,
        world: World = TABLETOP,
    ) -> None:
        super().__init__(spec, session, task, seed, settings, vetting, world=world)
        self.tape = Tape(self.robot, world)
        self._after = 0

    def _look(self, noise: float = 1.0) -> None:
        super()._look(noise)
        assert self._pending is not None
        _, observation, found, _ = self._pending
        self.tape.look(observation.head, observation.wrist, found)

    def _tick(self) -> None:
        super()._tick()
        self.tape.told(self._driver.gripper(self.robot.time))
        due = self.tape.length * self.spec.row_period + self.spec.row_period
        if self.robot.time >= due:  # a tick may end after it
            self.tape.row(self._driver.commanded(due))
            self._after += self.robot.referee.success or self.robot.referee.failed()

    def _over(self) -> bool:
        robot = self.robot
        return self._after >= AFTER or robot.time >= self.settings.timeout * 1e9


class RandomSession:
    """In a policy's place: smooth joint motion to random places, fast and slow, and a random gripper."""

    image_size = IMAGE

    def __init__(self, spec: RobotSpec, seed: int) -> None:
        self._spec, self._rng = spec, np.random.default_rng([seed, 5])
        self._velocity = np.zeros(len(spec.joints))

    def infer(self, observation: Observation, *_: Any) -> Candidates:
        """One candidate."""
        spec, rng, n = self._spec, self._rng, len(self._spec.joints)
        wanted = rng.normal(0, 0.35, n) * rng.choice([0.3, 1.0, 2.0])
        share = np.linspace(0, 1, spec.horizon)[:, None]
        speed = self._velocity + share * (wanted - self._velocity)
        self._velocity = speed[LOOK_ROWS - 1]
        rows = observation.joints + np.cumsum(speed, axis=0) * spec.row_period / 1e9
        opening = np.full(spec.horizon, rng.uniform(*spec.gripper_range))
        return Candidates(np.clip(rows, spec.lower, spec.upper)[None], opening[None], np.zeros(0, np.float32))


def roll_expert(
    spec: RobotSpec, task: str, seed: int, clumsy: bool, timeout: float = TIMEOUT, world: World = TABLETOP
) -> dict[str, Any]:
    """The scripted expert; ``clumsy``: pushed off its way so far that it often fails."""
    rng = np.random.default_rng([seed, 77])
    robot = world.robot(spec, task, seed)
    camera, expert, tape = world.camera(robot, IMAGE), world.expert(robot), Tape(robot, world)
    bursts, after, t = Perturbation(CLUMSY, rng, expert, len(spec.joints)), 0, 0
    try:
        while robot.time < timeout * 1e9 and after < AFTER:
            if t % LOOK_ROWS == 0:
                head, wrist = camera.render(robot.qpos, "head", "wrist")
                tape.look(head, wrist)
            if clumsy:
                bursts.maybe_begin()
            target, opening = bursts.apply(*expert.row())
            opening = float(np.clip(opening, *spec.gripper_range))
            inside = np.clip(target, spec.lower, spec.upper)
            robot.accept(Trajectory(0, spec.joints, (spec.row_period,), inside[None], np.zeros((0, len(inside)))))
            robot.command_gripper(opening)
            robot.advance(robot.time + spec.row_period)
            tape.told(opening)
            tape.row(inside)
            after, t = after + (robot.referee.success or robot.referee.failed()), t + 1
    finally:
        camera.close()
    return tape.arrays()


def roll(
    spec: RobotSpec,
    source: str,
    task: str,
    seed: int,
    world_model: str = "",
    branching: Branching | None = None,
    disturbed: float = 0.0,
    timeout: float = TIMEOUT,
    world: World = TABLETOP,
) -> dict[str, Any]:
    """One attempt of ``source`` at (task, seed), as in training/tape.py; with ``branching`` as in training/branches.py.

    ``world_model``: bundle that vets the chunks of a policy; empty: none does. ``disturbed``: probability that
    something goes wrong on the table (sim/disturbances.py), if a policy drives. ``timeout`` [s].
    """
    if source in ("expert", "clumsy"):
        return roll_expert(spec, task, seed, source == "clumsy", timeout, world)
    bundle, settings = driver(source)
    session = _session(bundle) if bundle else RandomSession(spec, seed)
    vetting = _vetting(world_model, spec) if world_model and bundle else None
    kind = "any" if np.random.default_rng([seed, 19]).random() < disturbed else ""
    timeout = timeout if bundle else timeout / 2
    rows = world.replan_rows if bundle and branching is None else LOOK_ROWS  # each branched look is many attempts
    settings = replace(
        settings, imagination="on" if vetting else "off", disturbance=kind, timeout=timeout, replan_rows=rows
    )
    attempt: Any
    if branching is not None:
        from vla_mbpo.training.branches import BranchedAttempt

        settings = replace(settings, spread=SPREAD)
        attempt = BranchedAttempt(spec, session, task, seed, settings, vetting, branching, world)
        attempt.drive()
        return attempt.arrays()
    attempt = TapedAttempt(spec, session, task, seed, settings, vetting, world)
    attempt.drive()
    if not disturbed:
        return attempt.tape.arrays()
    happened = attempt.disturbance.happened if attempt.disturbance else None
    return attempt.tape.arrays() | {
        "disturbance": attempt.outcome.disturbance,
        "disturbed_at": -1.0 if happened is None else happened,
        "told": attempt.instruction,
    }


_sessions: dict[str, PolicySession] = {}  # of this worker process
_vettings: dict[str, Vetting] = {}


def _session(bundle: str) -> PolicySession:
    if bundle not in _sessions:
        _sessions[bundle] = PolicySession.load(bundle_dir(bundle))
    return _sessions[bundle]


def _vetting(bundle: str, spec: RobotSpec) -> Vetting:
    if bundle not in _vettings:
        _vettings[bundle] = Vetting(WorldModelSession.load(bundle_dir(bundle), spec))
    return _vettings[bundle]


def _is_policy(name: str) -> bool:
    """Whether a bundle of that name or folder is a policy's."""
    try:
        return str(Bundle.load(bundle_dir(name)).manifest["kind"]) == "policy"
    except ConfigError:
        return False


def version_of(source: str) -> str:
    """Version of the policy that ``source`` drives with; empty: none drives."""
    bundle = "" if source in ("expert", "clumsy") else driver(source)[0]
    return _session(bundle).version if bundle else ""


def attempted(_state: None, _shared: None, job: Job) -> tuple[Path, bytes]:
    """Drive one attempt. Returns its file and what is to be in it: compressed here, written where the driver is."""
    spec = RobotSpec.load(robot_dir(job.robot))
    arrays = roll(spec, job.source, job.task, job.seed, job.world_model, job.branching, job.disturbed, job.timeout,
                  job.world)  # fmt: skip
    content = io.BytesIO()
    arrays |= {"source": job.source, "task": job.task, "seed": job.seed, "policy": version_of(job.source)}
    np.savez_compressed(content, **arrays)
    return job.file, content.getvalue()


def _keep(file: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    partial = file.with_suffix(".partial.npz")
    partial.write_bytes(content)
    partial.rename(file)


def _ended(job: Job) -> dict[str, Any]:
    with np.load(job.file) as found:
        return {"source": job.source, "success": bool(found["success_row"] >= 0), "events": int(found["cost"].sum())}


def generate(
    out: Path,
    tasks: tuple[str, ...],
    episodes: dict[str, int],
    seed: int,
    robot: str = "sim_panda",
    workers: int = 2,
    branching: Branching | None = None,
    world_model: str = "",
    disturbed: float = 0.0,
    timeout: float = TIMEOUT,
    ray: str | None = None,
    world: World = TABLETOP,
) -> dict[str, dict[str, float]]:
    """Make ``episodes[source]`` attempts per task and source; seeds count up from ``seed`` and are never shared.

    With ``branching`` each look is branched (training/branches.py); the sources are policies then. With
    ``world_model``, a bundle, it vets what policies propose: the states that a vetted policy comes to. ``disturbed``:
    share of the policies' attempts in which something goes wrong on the table. ``timeout`` [s] of an attempt.

    Sources take turns, so that an interrupted run holds some of each. ``workers`` are processes, or Ray's with ``ray``
    (spread.py); this process writes the files.

    Returns:
        Per source: number, share of successes, cost events per attempt. Also in ``out/summary.json``.

    Raises:
        ConfigError: unknown source; Ray is asked for and not there; ``out`` holds rollouts of another recipe.
    """
    _check_sources(episodes, branching is not None)
    require(0.0 <= disturbed <= 1.0, "disturbed", disturbed, "0 to 1")
    require(branching is None or not disturbed, "disturbed", disturbed, "0 with branches, which share the scene")
    require(world == TABLETOP or not disturbed, "disturbed", disturbed, "0 but on the tabletop")
    out.mkdir(parents=True, exist_ok=True)
    how = (robot, branching, world_model, disturbed, timeout, world)
    claim(out, _recipe(episodes, tasks, Job(out, "", "", seed, *how)), "rollouts")
    jobs = [
        Job(out / f"{Path(source).name}_{task}_{number:07d}.npz", source, task, number, *how)
        for number, (source, task) in enumerate(_in_turns(episodes, tasks), seed)
    ]
    left = [job for job in jobs if not job.file.exists()]  # so an interrupted run resumes
    for file, content in track(spread(Place(workers, ray), attempted, left, nothing), "rollouts", total=len(left)):
        _keep(file, content)
    done = [_ended(job) for job in jobs]
    summary = {source: _summary([one for one in done if one["source"] == source]) for source in episodes}
    (out / "summary.json").write_text(json.dumps({"seed": seed, "tasks": tasks, "sources": summary}, indent=1) + "\n")
    return summary


def _recipe(episodes: dict[str, int], tasks: tuple[str, ...], first: Job) -> dict[str, Any]:
    """What the files of a folder depend on; numbers too, since scenes are dealt to all sources and tasks in turns."""
    how = asdict(first.branching) if first.branching else None
    if how and math.isinf(how["until"]):  # JSON has no such number
        how["until"] = None
    drivers = {source: driver(source)[0] for source in episodes if source not in ("expert", "clumsy")}
    return {
        "episodes": episodes,
        "tasks": tasks,
        "seed": first.seed,
        "policies": {source: _version(bundle) for source, bundle in drivers.items() if bundle},
        "robot": first.robot,
        "branching": how,
        "world_model": _version(first.world_model) if first.world_model else "",
        "disturbed": first.disturbed,
        "timeout": first.timeout,
        "world": first.world.name,
    }


def _version(bundle: str) -> str:
    return Bundle.load(bundle_dir(bundle)).version


def _in_turns(episodes: dict[str, int], tasks: tuple[str, ...]) -> list[tuple[str, str]]:
    """Source and task of each attempt."""
    turns = sorted(((i + 0.5) / count, source) for source, count in episodes.items() for i in range(count))
    return [(source, task) for _, source in turns for task in tasks]


def _check_sources(sources: Iterable[str], branched: bool) -> None:
    known = [name for name, (bundle, _) in POLICIES.items() if bundle] if branched else SOURCES
    for source in set(sources) - set(known):
        found = source not in SOURCES and _is_policy(source)
        require(found, "sources", source, f"a policy's bundle, or one of {', '.join(known)}")


def _summary(ended: list[dict[str, Any]]) -> dict[str, float]:
    return {
        "n": len(ended),
        "successes": float(np.mean([one["success"] for one in ended])),
        "cost_events": float(np.mean([one["events"] for one in ended])),
    }
