"""Draw docs/images/robot.png: a policy at work in the simulator, four moments of one attempt."""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.eval.lockstep import Attempt, Settings
from vla_mbpo.paths import bundle_dir, robot_dir
from vla_mbpo.policy.runtime import PolicySession
from vla_mbpo.sim.cameras import SceneCamera
from vla_mbpo.sim.scene import Scene
from vla_mbpo.sim.tasks import TEST_SEED_BASE


def main() -> None:
    """Run one attempt and write the strip."""
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument("--bundle", default="sft_full")
    cli.add_argument("--task", default="red_bin")
    cli.add_argument("--seed", type=int, default=920_000)
    cli.add_argument("--out", type=Path, default=Path("docs/images/robot.png"))
    args = cli.parse_args()
    spec = RobotSpec.load(robot_dir("sim_panda"))
    seed = TEST_SEED_BASE + args.seed
    attempt = Attempt(spec, PolicySession.load(bundle_dir(args.bundle)), args.task, seed, Settings())
    poses: list[np.ndarray] = []
    advance = attempt.robot.advance

    def watch(until: int) -> None:
        poses.append(attempt.robot.qpos)
        advance(until)

    attempt.robot.advance = watch  # type: ignore[method-assign]
    outcome = attempt.run()
    camera = SceneCamera(Scene.build(spec, args.task, seed), 360)
    frames = [camera.render(poses[int(share * (len(poses) - 1))], "head")[0].copy() for share in (0.0, 0.38, 0.7, 1.0)]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.hstack(frames)).quantize(128).save(args.out, optimize=True)
    print(f"{args.out}: {args.task}, test seed {args.seed}, success {outcome.success}")


if __name__ == "__main__":
    main()
