"""The policy on the robot: ONNX Runtime sessions, candidates from one prefix, decoding to joint rows. No torch."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.errors import require
from vla_mbpo.core.observation import Observation
from vla_mbpo.engines.sessions import CPU, Place, describe
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.policy.vocabulary import UnknownInstruction

__all__ = ["REPLAN_ROWS", "Candidates", "PolicySession", "UnknownInstruction"]

REPLAN_ROWS = 8  # rows from one look at the scene to the next

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Candidates:
    """K chunks of one inference.

    Attributes:
        positions: (K, H, n) absolute joint positions [rad].
        gripper: (K, H) opening [m].
        features: (F,) float32 pooled prefix features, for the failure detector; (0,): the policy has none.
    """

    positions: FloatArray
    gripper: FloatArray
    features: NDArray[np.float32]


class PolicySession:
    """Runs one bundle's encoder and flow step. One thread at a time."""

    def __init__(
        self, bundle: Bundle, threads: int = 1, steps: int = 5, place: Place = CPU, gripper_speed: float = math.inf
    ) -> None:
        """``steps``: Euler steps of the flow; ``place``: where the graphs run; ``gripper_speed``: at most [m/s]."""
        require(1 <= steps <= 32, "steps", steps, "1 to 32")
        self.bundle, self.version = bundle, bundle.version
        manifest = bundle.manifest
        kind = f"{bundle.path.name}, a {manifest['kind']}"
        require(manifest["kind"] == "policy", "bundle", kind, "a policy's bundle")
        require(bundle.adapter is None, "bundle", f"{bundle.path.name}, run by {bundle.adapter}", "a policy made here")
        self.vocabulary = bundle.vocabulary
        self.image_size: int = manifest["policy"]["image_size"]
        self.horizon: int = manifest["policy"]["horizon"]
        self._joints: int = manifest["policy"]["action"] - 1
        self._steps = steps
        norm = {k: np.array(v, np.float32) for k, v in manifest["normalisation"].items()}
        self._mean, self._std = norm["action_mean"], norm["action_std"]
        self._proprio_mean, self._proprio_std = norm["proprio_mean"], norm["proprio_std"]
        self._range = tuple(manifest["gripper"]["range"])
        self._reach = min(manifest["gripper"]["speed"], gripper_speed) * manifest["row_period"]
        for graph in ("encoder.int8.onnx", "step.int8.onnx"):
            require(graph in manifest["files"], "bundle", bundle.path.name, f"expected a file {graph}")
        self._place = place
        self._encoder = place.open(bundle.path / "encoder.int8.onnx", threads)
        self._step = place.open(bundle.path / "step.int8.onnx", threads)

    @classmethod
    def load(cls, path: Path, threads: int = 1, steps: int = 5, place: Place = CPU) -> "PolicySession":
        """Load a bundle folder. ConfigError if a file is missing or its hash is wrong."""
        return cls(Bundle.load(path), threads, steps, place)

    @property
    def trouble(self) -> str:
        """What is wrong at the moment: a graph runs elsewhere than asked for."""
        return self._place.warning((self._encoder, self._step))

    def facts(self) -> dict[str, object]:
        """Values for /diagnostics."""
        return {"providers": describe((self._encoder, self._step))}

    def check_instruction(self, text: str) -> None:
        """Raise UnknownInstruction if ``text`` holds words outside the vocabulary."""
        self.vocabulary.encode(text)

    def try_out(self, joints: int, horizon: int) -> None:
        """Sample once, from black pictures. ConfigError: another arm's chunks, or what comes is not a number."""
        dark, still = np.zeros((self.image_size, self.image_size, 3), np.uint8), np.zeros(self._joints)
        field, shape = f"bundle {self.bundle.path.name}", (self.horizon, self._joints)
        require(shape == (horizon, joints), field, f"chunks of shape {shape}", f"shape {(horizon, joints)}")
        seen, none = Observation(0, dark, dark, still, still, 0.0), np.zeros((0, joints))
        found = self.infer(seen, self.vocabulary.words[0], none, none[:, 0], 1, np.random.default_rng(0))
        fine = np.isfinite(found.positions).all() and np.isfinite(found.gripper).all()
        require(bool(fine), field, "chunks with NaN or infinite numbers", "finite chunks")

    def infer(
        self,
        observation: Observation,
        instruction: str,
        prefix: FloatArray,
        prefix_gripper: FloatArray,
        k: int,
        rng: np.random.Generator,
        noise: float = 1.0,
        spread: float = 1.0,
    ) -> Candidates:
        """Sample K chunks for one observation.

        Args:
            observation: images of ``image_size`` px.
            instruction: words of the vocabulary.
            prefix: (d, n) committed rows, absolute [rad]; d may be 0. They come back as the first d rows.
            prefix_gripper: (d,) their openings [m].
            k: number of candidates.
            rng: source of the flow's noise.
            noise: standard deviation of that noise; above 1 widens the candidates.
            spread: factor of the noise of the last candidate, those between in even steps: the first ones are what the
                policy prefers, the others give a world model more to choose from.
        """
        size = self.image_size
        for name, image in (("head", observation.head), ("wrist", observation.wrist)):
            require(image.shape == (size, size, 3), f"{name} image", image.shape, f"expected ({size}, {size}, 3)")
        cache, mask, features = self._encode(observation, instruction)
        d = len(prefix)
        scale = noise * np.linspace(1.0, spread, k, dtype=np.float32)
        rows = rng.standard_normal((k, self.horizon, self._joints + 1), np.float32) * scale[:, None, None]
        time = np.zeros((k, self.horizon), np.float32)
        if d:
            clean = np.concatenate([prefix - observation.joints, prefix_gripper[:, None]], 1)
            rows[:, :d] = (clean - self._mean[:d]) / self._std[:d]
            time[:, :d] = 1.0
        for step in range(self._steps):
            time[:, d:] = step / self._steps
            inputs = {"cache": cache, "mask": mask, "rows": rows, "time": time}
            velocity = self._step.run(None, inputs)[0]
            rows[:, d:] += velocity[:, d:] / self._steps
        return self._decode(rows, observation, prefix, prefix_gripper, features[0])

    def _encode(self, observation: Observation, instruction: str) -> list[NDArray]:
        body = np.concatenate([observation.joints, observation.velocities, [observation.gripper]]).astype(np.float32)
        inputs: dict[str, NDArray] = {
            "head": observation.head[None],
            "wrist": observation.wrist[None],
            "words": self.vocabulary.encode(instruction)[None],
            "proprio": ((body - self._proprio_mean) / self._proprio_std)[None],
        }
        return self._encoder.run(None, inputs)

    def _decode(self, rows, observation, prefix, prefix_gripper, features) -> Candidates:
        """Back to radians and metres. The opening is kept to what the gripper can do: range and speed."""
        d = len(prefix)
        actions = (rows * self._std + self._mean).astype(np.float64)
        positions = actions[:, :, :-1] + observation.joints
        gripper = np.clip(actions[:, :, -1], *self._range)
        positions[:, :d], gripper[:, :d] = prefix, prefix_gripper
        free = np.tile(np.arange(self.horizon) >= d, (len(rows), 1))
        gripper = rate_limited(gripper, np.clip(observation.gripper, *self._range), free, self._reach)
        return Candidates(positions, gripper, features)


def rate_limited(gripper: FloatArray, start: FloatArray | float, free: NDArray[np.bool_], reach: float) -> FloatArray:
    """Openings (B, H) [m] that change by ``reach`` per row at most, from ``start`` (B,) on; rows not ``free`` stay."""
    made, last = gripper.copy(), np.broadcast_to(start, len(gripper))
    for row in range(gripper.shape[1]):
        limited = np.clip(gripper[:, row], last - reach, last + reach)
        last = made[:, row] = np.where(free[:, row], limited, gripper[:, row])
    return made
