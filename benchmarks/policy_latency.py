"""Policy inference: ONNX Runtime int8 against torch eager, same network, same run, K candidates from one observation.

Also reports how far int8 moves the actions, beside the spread of the sampler itself. Needs the `train` extra.
"""

import numpy as np
import torch
from safetensors.torch import load_file

from benchmarks.common import interleaved, parser, write
from vla_mbpo.core.observation import Observation
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.paths import bundle_dir, robot_dir
from vla_mbpo.policy.network import FlowPolicy, PolicyConfig
from vla_mbpo.policy.runtime import PolicySession
from vla_mbpo.sim.cameras import SceneCamera
from vla_mbpo.sim.robot import SimRobot
from vla_mbpo.sim.scene import Scene
from vla_mbpo.sim.tasks import TASKS, TEST_SEED_BASE, TRAINING_TASKS


class Eager:
    """The bundle's network in torch, sampled exactly as PolicySession does."""

    def __init__(self, session: PolicySession, steps: int) -> None:
        self._session, self._steps = session, steps
        self.net = FlowPolicy(PolicyConfig.from_dict(session.bundle.manifest["policy"])).eval()
        tensors = load_file(session.bundle.path / "policy.safetensors")
        self.net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()})

    @torch.inference_mode()
    def sample(self, observation: Observation, instruction: str, noise: np.ndarray) -> np.ndarray:
        """Normalised rows (K, H, A) from the flow noise of the same shape, without a prefix."""
        s = self._session
        body = np.concatenate([observation.joints, observation.velocities, [observation.gripper]]).astype(np.float32)
        cache, mask, _ = self.net.encode(
            torch.from_numpy(observation.head[None]).permute(0, 3, 1, 2).float(),
            torch.from_numpy(observation.wrist[None]).permute(0, 3, 1, 2).float(),
            torch.from_numpy(s.vocabulary.encode(instruction)[None]),
            torch.from_numpy((body - s._proprio_mean) / s._proprio_std)[None],
        )
        rows = torch.from_numpy(noise.copy())
        for step in range(self._steps):
            time = torch.full(rows.shape[:2], step / self._steps)
            rows += self.net.velocity(cache, mask, rows, time) / self._steps
        return rows.numpy()


class _Fixed:
    """A generator that returns given noise: both runtimes start from the same sample."""

    def __init__(self, noise: np.ndarray) -> None:
        self._noise = noise

    def standard_normal(self, *_: object) -> np.ndarray:
        """The noise."""
        return self._noise.copy()


def observe(spec: RobotSpec, task: str, seed: int, size: int) -> Observation:
    """First observation of a test scene."""
    robot = SimRobot(spec, Scene.build(spec, task, seed))
    camera = SceneCamera(robot.scene, size)
    head, wrist = (image.copy() for image in camera.render(robot.qpos, "head", "wrist"))
    camera.close()
    state = robot.state()
    return Observation(0, head, wrist, state.positions, state.velocities, state.gripper)


def main() -> None:
    """Measure and write."""
    cli = parser(__doc__ or "")
    cli.add_argument("--bundle", default="sft_full")
    cli.add_argument("--k", type=int, default=8)
    cli.add_argument("--repeats", type=int, default=100)
    cli.add_argument("--threads", type=int, default=1)
    args = cli.parse_args()
    torch.set_num_threads(args.threads)
    spec = RobotSpec.load(robot_dir("sim_panda"))
    session = PolicySession.load(bundle_dir(args.bundle), threads=args.threads)
    eager = Eager(session, 5)
    none = np.zeros((0, len(spec.joints))), np.zeros(0)
    rng = np.random.default_rng(0)
    errors, spreads = [], []
    for i, task in enumerate(TRAINING_TASKS):
        observation = observe(spec, task, TEST_SEED_BASE + 900_000 + i, session.image_size)
        instruction = TASKS[task].instruction
        noise = rng.standard_normal((args.k, spec.horizon, 8), np.float32)
        quantised = session.infer(observation, instruction, *none, args.k, _Fixed(noise)).positions
        exact = eager.sample(observation, instruction, noise) * session._std + session._mean
        exact = exact[:, :, :-1] + observation.joints
        errors.append(np.abs(quantised - exact).max(-1))
        spreads.append(exact.std(0))
    calls = {
        "onnx_int8": lambda: session.infer(observation, instruction, *none, args.k, rng),
        "torch_eager": lambda: eager.sample(observation, instruction, noise),
    }
    latency = interleaved(calls, args.repeats)
    error = np.concatenate(errors).ravel()
    metrics = {
        "bundle": session.version,
        "k": args.k,
        "threads": args.threads,
        "latency_ms": latency,
        "speed_up_p50": round(latency["torch_eager"]["p50"] / latency["onnx_int8"]["p50"], 2),
        "speed_up_p95": round(latency["torch_eager"]["p95"] / latency["onnx_int8"]["p95"], 2),
        "action_error_mrad": {"mean": round(1e3 * error.mean(), 3), "p99": round(1e3 * np.percentile(error, 99), 3)},
        "sampler_std_mrad": round(1e3 * float(np.mean(spreads)), 3),
        "n": args.repeats,
    }
    write("policy_latency", metrics, args.json)


if __name__ == "__main__":
    main()
