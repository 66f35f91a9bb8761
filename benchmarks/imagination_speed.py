"""Fast mode of the world model: 8 candidates x 2 chunk steps, encoding included, against candidate by candidate.

``sampled``: the same model and the same candidates, one after the other, each chunk step by four flow steps; no pixels.
"""

import numpy as np

from benchmarks.common import interleaved, parser, write
from vla_mbpo.core.observation import Observation
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.imagination.session import WorldModelSession
from vla_mbpo.paths import bundle_dir, robot_dir

FLOW_STEPS = 4
WORDS = "put the red cube in the bin"


def main() -> None:
    """Measure and write."""
    cli = parser(__doc__ or "")
    cli.add_argument("--world-model", default="world_model")
    cli.add_argument("--repeats", type=int, default=200)
    cli.add_argument("--k", type=int, default=8)
    args = cli.parse_args()
    spec = RobotSpec.load(robot_dir("sim_panda"))
    rng = np.random.default_rng(0)
    speed = rng.uniform(-0.5, 0.5, (args.k, 1, len(spec.joints)))
    positions = spec.home + speed * 0.05 * np.arange(1, spec.horizon + 1)[None, :, None]
    gripper = rng.uniform(0.0, 0.08, (args.k, spec.horizon))

    def observation(session: WorldModelSession) -> Observation:
        size = session.image_size
        head, wrist = rng.integers(0, 256, (2, size, size, 3), dtype=np.uint8)
        return Observation(0, head, wrist, spec.home.copy(), np.zeros(len(spec.joints)), 0.04)

    def fast(session: WorldModelSession) -> None:
        session.vet(observation(session), WORDS, positions, gripper, session.tool_ways(positions))

    def sampled(session: WorldModelSession) -> None:
        seen = observation(session)
        context = session.observe(seen, WORDS)
        bins = session.bins(positions, gripper, session.tool_ways(positions), seen.joints)
        for k in range(args.k):
            for _ in range(session.steps):
                x = rng.standard_normal((1, 2, *context["latents"].shape[2:])).astype(np.float32)
                for step in range(FLOW_STEPS):
                    before, after = 1 - step / FLOW_STEPS, 1 - (step + 1) / FLOW_STEPS
                    images = session.step(context, bins[k : k + 1], x, np.full((1, 2), before, np.float32))["images"]
                    x = (after / before) * x + (1 - after / before) * images[:, 0]

    metrics: dict = {"k": args.k, "chunk_steps": 2, "repeats": args.repeats}
    for threads in (1, 2):
        session = WorldModelSession.load(bundle_dir(args.world_model), spec, threads)
        metrics[f"threads_{threads}_ms"] = {
            **interleaved({"fast": lambda s=session: fast(s)}, args.repeats),
            **interleaved({"encoding": lambda s=session: s.observe(observation(s), WORDS)}, args.repeats),
        }
        both = interleaved({"fast": lambda s=session: fast(s), "sampled": lambda s=session: sampled(s)}, 20)
        metrics[f"threads_{threads}_ratio_of_medians"] = round(both["sampled"]["p50"] / both["fast"]["p50"], 2)
    write("imagination_speed", metrics, args.json)


if __name__ == "__main__":
    main()
