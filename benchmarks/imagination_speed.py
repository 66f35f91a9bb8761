"""Fast mode of the world model: 8 candidates x 2 chunk steps, encoding included, against candidate by candidate.

``sampled``: the same model and the same candidates, one after the other, both chunk steps at once by four flow steps;
no pixels. Pictures are of a simulated scene.
"""

import numpy as np

from benchmarks.common import interleaved, parser, write
from vla_mbpo.core.observation import Observation
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.imagination.session import WorldModelSession
from vla_mbpo.paths import bundle_dir, robot_dir
from vla_mbpo.sim.cameras import SceneCamera
from vla_mbpo.sim.scene import Scene
from vla_mbpo.sim.tasks import TEST_SEED_BASE

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

    scene = Scene.build(spec, "red_bin", TEST_SEED_BASE + 940_000)
    camera = SceneCamera(scene, 96)
    head, wrist = camera.render(scene.qpos0, "head", "wrist")
    camera.close()
    seen = Observation(0, head, wrist, spec.home.copy(), np.zeros(len(spec.joints)), 0.04)

    def fast(session: WorldModelSession) -> None:
        found = session.vet(seen, WORDS, positions, gripper, session.tool_ways(positions))
        assert not isinstance(found, str), found

    def sampled(session: WorldModelSession) -> None:
        context = session.observe(seen, WORDS)
        bins, _ = session.bins(positions, gripper, session.tool_ways(positions), seen.joints)
        for k in range(args.k):
            x = rng.standard_normal((1, session.steps, 2, *context["latents"].shape[2:])).astype(np.float32)
            for step in range(FLOW_STEPS):
                before, after = 1 - step / FLOW_STEPS, 1 - (step + 1) / FLOW_STEPS
                level = np.full((1, session.steps, 2), before, np.float32)
                images = session.evaluate(context, bins[k : k + 1], x, level)["images"]
                x = (after / before) * x + (1 - after / before) * images

    metrics: dict = {"k": args.k, "chunk_steps": 2, "repeats": args.repeats}
    for threads in (1, 2):
        session = WorldModelSession.load(bundle_dir(args.world_model), spec, threads)
        metrics[f"threads_{threads}_ms"] = {
            **interleaved({"fast": lambda s=session: fast(s)}, args.repeats),
            **interleaved({"encoding": lambda s=session: s.observe(seen, WORDS)}, args.repeats),
        }
        both = interleaved({"fast": lambda s=session: fast(s), "sampled": lambda s=session: sampled(s)}, 20)
        metrics[f"threads_{threads}_ratio_of_medians"] = round(both["sampled"]["p50"] / both["fast"]["p50"], 2)
    write("imagination_speed", metrics, args.json)


if __name__ == "__main__":
    main()
