"""What a run of dream RL does (training/dream_rl.py). No torch here."""

import math
from dataclasses import dataclass, fields

from vla_mbpo.core.errors import require

PPO, RECAP = "ppo", "recap"  # methods


@dataclass(frozen=True)
class DreamRlRecipe:
    """``samples``, ``batch``: observations. ``policy``: the bundle to start from; ``world_model``: a run folder."""

    data: tuple[str, ...]
    policy: str = "sft_few"
    world_model: str = "models/training/world_model"
    robot: str = "sim_panda"
    vetting: str = "world_model"  # bundle or folder of that run, for its calibration
    group: int = 8  # chunks tried per observation
    states: int = 192  # observations per refill
    chunks: int = 1  # of a branch: the first is tried, what follows is the policy's plain answer to imagined pictures
    flow_steps: int = 2  # of the world model, per imagined view
    interleaved: int = 1  # whether the wrist view is imagined given the head view
    updates: int = 8  # per refill
    samples: int = 16_000
    batch: int = 48
    learning_rate: float = 1e-4
    eyes: float = 1.0  # learning rate of the eyes, as a multiple; 0: they stay as they are
    init: str = ""  # run folder, or bundle, whose network dreaming begins as, where that is not the policy
    demos: tuple[str, ...] = ()  # folders of the demonstrations that the start was trained on
    per_task: int = 0  # of them per task, 0: all
    demonstrated: float = 1.0  # weight of the supervised loss on those
    brightness: float = 0.25  # of the pictures that cloning and locating see, changed at random by up to so much
    warmup: int = 16
    ema: float = 0.98
    weight_decay: float = 0.0
    steps: int = 5  # of the flow
    branchings: int = (
        5  # the first steps, one of which is random; with white noise 3: what comes later, nothing smooths
    )
    noise: float = 0.7  # of the random step
    modes: int = 1  # smooth curves that the noise is made of; 0: white noise
    clip: float = 0.2
    executed: int = 8  # rows of a chunk that are driven before the next one takes over
    policy_weight: float = 1.0  # of the policy gradient
    imitation: float = 0.0  # weight of cloning the best chunk of each group; with neither of both nothing is dreamed
    centred: float = 1.0  # share that is taken off an advantage of what the noise explains in all observations alike
    kl: float = 0.3  # weight of the divergence from where dreaming began, as if the first step were the random one
    budget: float = 20.0  # of it; above, only the anchors count
    cloning: float = 0.5  # weight of behaviour cloning
    corrected: float = 1.0  # weight of cloning what people steered (training/corrections.py)
    preferred: float = 0.5  # weight of telling it from what was undesirable (training/desirable.py)
    gap: float = 0.1  # largest one between what the world model promises for logged attempts and their success
    before: float = 1.0  # s before a takeover or an alarm in which what was driven is undesirable
    method: str = PPO  # or "recap", without a policy gradient (training/recap.py), of weight ``policy_weight``:
    positive: float = 0.3  # ... share of the chunks of each task that are the better ones
    dropped: float = 0.1  # ... share of the chunks of which it is not said which they are
    locating: float = 1.0  # weight of seeing object and goal where the world model sees them
    seeing: float = 0.5  # weight of finding the keypoints that the world model's eyes find (training/seeing.py), ...
    seen: int = 96  # ... of so many observations
    anchored: int = 0  # first updates, of the anchors alone; the divergence is from what comes of them
    value: int = 3  # outcome that says what a chunk is worth (DreamWorld); 1: to who drove in the log
    doubt: float = 1.0  # what a standard deviation of the ensemble takes off what a chunk saves
    cost_limit: float = 0.6  # mean cost per chunk, as a share of the start's at the same observations
    multiplier: float = 0.2  # first Lagrange multiplier, ...
    multiplier_rate: float = 0.1  # ... its step per refill and unit of that share, ...
    multiplier_most: float = 1.0  # ... and its largest value
    least_rows: float = 0.3  # standard deviation of what a group's chunks save; below, it says nothing
    least_cost: float = 0.01  # the same for cost
    seed: int = 0
    threads: int = 2
    device: str = "cpu"

    def __post_init__(self) -> None:
        """ConfigError for numbers with which a run would end in the middle, or learn nothing and not say so."""
        for field in fields(self):
            value = getattr(self, field.name)
            require(not isinstance(value, float) or math.isfinite(value), field.name, value, "a finite number")
        for name in ("states", "updates", "batch", "warmup", "steps", "executed"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        # A later step than the last one would have a negative level of noise.
        within = 1 <= self.branchings <= self.steps
        require(within, "branchings", self.branchings, f"1 to {self.steps}, the steps of the flow")
        # The only chunk of a group is no better than its group.
        least = 2 if self.method == PPO and (self.policy_weight or self.imitation) else 1
        require(self.group >= least, "group", self.group, f"{least} or more chunks per observation")

    @property
    def looks(self) -> bool:
        """Whether the policy's eyes look anew: they learn, or are others than those which have seen the log."""
        return bool(self.eyes or self.init)
