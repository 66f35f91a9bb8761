"""Does a second worker double the speed? Dreams (chunks tried and judged) and attempts per second, one and two workers.

By spawned processes and by Ray (spread.py), each worker with one thread. Dreams: refills of dream RL
(training/collector.py) from logged observations, the driver's part included. Attempts: of the policy, as `vla-mbpo
train rollouts` makes them; no files. Crews of one and of two stay up side by side and take turns, so that a busy
machine slows both alike. Ratios are of the times of all turns, intervals by bootstrap over turns. The serial share is
the one that a ratio implies by Amdahl's law for two workers: 2 / ratio - 1.
"""

import importlib.util
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import parser, write
from vla_mbpo.core.errors import require
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.eval.statistics import paired_ratio
from vla_mbpo.paths import bundle_dir, robot_dir
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.sim.tasks import TRAINING_TASKS
from vla_mbpo.spread import LOCAL, Crew, Place, cluster, crew, nothing
from vla_mbpo.training.calibration import constants
from vla_mbpo.training.collector import PART, Collector, Part, by_crew, prepare
from vla_mbpo.training.dream_rl import DreamRlRecipe
from vla_mbpo.training.dream_world import DreamWorld
from vla_mbpo.training.rollouts import Job, attempted
from vla_mbpo.training.sft import load_policy

WORKERS = (1, 2)
SEED = 940_000  # of the scenes


def dreaming(recipe: DreamRlRecipe, files: list[Path]) -> tuple[Collector, list[Part]]:
    """A collector, and the parts of one refill: ``recipe.states`` observations of the files, drawn at random."""
    policy, spec = Bundle.load(bundle_dir(recipe.policy)), RobotSpec.load(robot_dir(recipe.robot))
    start = load_policy(policy.path).requires_grad_(False)
    world = DreamWorld(Path(recipe.world_model), constants(recipe.vetting), policy, start, spec)
    states, data = world.read(files)
    views = [torch.from_numpy(view) for view in data.pictures]
    drawn = torch.randint(0, len(states), (recipe.states,), generator=torch.Generator().manual_seed(0))
    found = []
    for number, index in enumerate(drawn.split(PART)):
        some = states.at(index)
        found.append(Part(some, tuple(view[some.row] for view in views), 2, number))
    return Collector(recipe, start, world), found


def turns(run: Callable[[Crew], object], crews: dict[int, Crew], repeats: int, amount: int) -> dict[str, Any]:
    """``amount`` per second of each crew in ``repeats`` turns after one more, and how much faster two workers are."""
    times: dict[int, list[float]] = {workers: [] for workers in crews}
    for turn in range(repeats + 1):
        for workers, hands in crews.items():
            began = time.perf_counter()
            run(hands)
            if turn:
                times[workers].append(time.perf_counter() - began)
    ratio = paired_ratio(times[2], times[1]) or (0.0, 0.0, 0.0)
    rates = {f"per_s_{workers}": round(amount * repeats / sum(spent), 3) for workers, spent in times.items()}
    serial = round(2.0 / ratio[0] - 1.0, 3)
    return {**rates, "ratio": ratio[0], "ratio_interval": ratio[1:], "serial_share": serial}


def compared(ray: bool, made: tuple[Collector, list[Part]], jobs: list[Job], args: Any) -> dict[str, Any]:
    """Both kinds of work by one kind of workers."""
    (collector, parts), kind = made, LOCAL if ray else None
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        if ray:  # with a processor for each worker of both crews; they wait for each other, not for Ray
            stack.enter_context(cluster(Place(sum(WORKERS), LOCAL)))
        with ExitStack() as inner:
            crews = {n: inner.enter_context(crew(Place(n, kind), prepare, collector)) for n in WORKERS}
            dreams = sum(len(part.states) for part in parts) * collector.recipe.group

            def dream(hands: Crew) -> object:
                return by_crew(hands, collector.start, parts)

            found["dreams"] = turns(dream, crews, args.repeats, dreams)
        with ExitStack() as inner:
            crews = {n: inner.enter_context(crew(Place(n, kind), nothing)) for n in WORKERS}

            def attempt(hands: Crew) -> object:
                return list(hands.each(attempted, jobs))

            found["attempts"] = turns(attempt, crews, args.repeats, len(jobs))
    return found


def main() -> None:
    """Measure and write."""
    cli = parser(__doc__ or "")
    cli.add_argument("--data", type=Path, default=Path("data/logged"), help="rollouts of the policy")
    cli.add_argument("--files", type=int, default=24, help="of them")
    cli.add_argument("--policy", default="sft_few")
    cli.add_argument("--states", type=int, default=192, help="observations of a refill")
    cli.add_argument("--attempts", type=int, default=16)
    cli.add_argument("--repeats", type=int, default=6, help="turns of each crew")
    args = cli.parse_args()
    torch.set_num_threads(1)
    files = sorted(args.data.glob("*.npz"))[:: max(1, len(list(args.data.glob("*.npz"))) // args.files)][: args.files]
    hint = f"a folder of `vla-mbpo train rollouts --episodes {args.policy}=3 --out FOLDER`"
    require(bool(files), "--data", str(args.data), hint)
    made = dreaming(DreamRlRecipe((str(args.data),), policy=args.policy, states=args.states), files)
    jobs = [
        Job(
            Path(),
            args.policy,
            TRAINING_TASKS[i % len(TRAINING_TASKS)],
            SEED + i,
            "sim_panda",
            False,
            "",
            0.0,
            10.0,
            0.0,
        )
        for i in range(args.attempts)
    ]
    metrics: dict[str, Any] = {name: getattr(args, name) for name in ("policy", "states", "attempts", "repeats")}
    metrics["processes"] = compared(False, made, jobs, args)
    if importlib.util.find_spec("ray"):
        metrics["ray"] = compared(True, made, jobs, args)
    else:
        print("without Ray: `pip install -e '.[ray]'`")
    write("scaling", metrics, args.json)


if __name__ == "__main__":
    main()
