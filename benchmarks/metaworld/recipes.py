"""What the protocols may be told (plans.py). Defaults are those of a full run; docs/benchmark.md."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.metaworld.tasks import DREAM_TASKS


@dataclass(frozen=True)
class Mt50:
    """One text-conditioned policy for all tasks.

    Attributes:
        out: folder of everything that is made.
        tasks: ``all``, or names separated by commas.
        demos: per task; ``bursts``: probability per row that one is perturbed.
        cameras: 1 or 2; a folder of demonstrations serves both.
        data: folder of the demonstrations; empty: in ``out``.
        samples, batch, rate: observations, and how they are learned from.
        episodes: trials per task, from test seed ``test`` on.
    """

    out: Path
    tasks: str = "all"
    demos: int = 50
    bursts: float = 0.0
    cameras: int = 2
    data: str = ""
    samples: int = 1_000_000
    batch: int = 64
    rate: float = 6e-4
    episodes: int = 10
    test: int = 0
    seed: int = 0
    workers: int = 2
    threads: int = 2
    device: str = "cpu"


@dataclass(frozen=True)
class Dream:
    """Behaviour cloning, then dream RL, on a few tasks; everything after the demonstrations once for each of ``seeds``.

    Attributes:
        out, tasks, episodes, workers, threads, device: as for Mt50; ``episodes`` are per seed.
        expert, policy, random: trajectories per task, as in World4RL. The world model and dream RL see nothing else.
        samples: observations of cloning; ``more``: of cloning the policy's own successes, too, which is what dream RL
            is compared with, and gives the world model its eyes; ``pictures`` of the autoencoder, ``looks`` of the
            world model; ``lessons`` and ``dreams``: of both stages of dream RL.
        cloned: run folders of cloned policies, one for each seed, separated by commas: exported instead of cloning.
        lesson, dream: further numbers of their recipes, as of ``vla-mbpo train dream-rl --set``.
    """

    out: Path
    tasks: str = ",".join(DREAM_TASKS)
    expert: int = 50
    policy: int = 150
    random: int = 30
    seeds: int = 3
    samples: int = 200_000
    more: int = 150_000
    pictures: int = 200_000
    looks: int = 100_000
    lessons: int = 50_000
    dreams: int = 5_000
    cloned: str = ""
    lesson: str = "policy_weight=0,learning_rate=3e-4,eyes=5,ema=0.995,seeing=2,locating=2,batch=64"
    dream: str = (
        "states=128,group=8,updates=4,batch=40,kl=0.3,centred=1,seeing=0.5,locating=1,seen=32,eyes=1,learning_rate=1e-4"
    )
    batch: int = 64
    episodes: int = 50
    workers: int = 2
    threads: int = 2
    device: str = "cpu"


@dataclass(frozen=True)
class Vetting:
    """K candidates and the world model's choice among them, against one candidate and against chance.

    Attributes:
        out: folder of everything that is made.
        start: a folder of the dream protocol, whose first seed's cloned policy is vetted.
        branches: attempts per task with all candidates tried at each look: what choosing is learned from. These are
            simulator steps beyond those of the dream protocol; 0: none.
        looks: observations that the world model is trained on.
        k, episodes, test: of the evaluation.
    """

    out: Path
    start: Path
    tasks: str = ",".join(DREAM_TASKS)
    branches: int = 24
    looks: int = 100_000
    k: int = 8
    episodes: int = 50
    test: int = 12_000  # 10,000 has been looked at
    workers: int = 2
    threads: int = 2
    device: str = "cpu"


@dataclass(frozen=True)
class Detector:
    """The failure detector of one policy on the tasks that it learned, and on tasks that it did not learn from.

    Attributes:
        out: folder of everything that is made.
        bundle: the policy.
        train, calibration, episodes: attempts per task to learn from, for bands, to test on.
        unseen: how many of the tasks are left out of training and bands in each of the two splits.
        world_model: bundle whose foresight is one more score; empty: none.
    """

    out: Path
    bundle: str
    tasks: str = ",".join(DREAM_TASKS)
    train: int = 60
    calibration: int = 60
    episodes: int = 50
    samples: int = 16_000
    unseen: int = 2
    world_model: str = ""
    workers: int = 2
