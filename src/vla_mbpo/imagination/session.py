"""The world model on the robot: ONNX Runtime sessions and the fast mode, which vets chunks. No torch."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.errors import require
from vla_mbpo.core.observation import Observation
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.engines.sessions import CPU, Place
from vla_mbpo.gate.kinematics import Kinematics
from vla_mbpo.imagination.actions import ActionBins, action_rows
from vla_mbpo.imagination.planner import Imagined
from vla_mbpo.policy.bundle import Bundle

VIEWS = ("head", "wrist")
CONTEXT = ("cache", "mask", "beside")  # what an observation gives all candidates
GRAPHS = ("observe.int8.onnx", "imagine.int8.onnx", "familiar.onnx", "decode.onnx")


class WorldModelSession:
    """Runs one world-model bundle. One thread at a time."""

    def __init__(
        self, bundle: Bundle, spec: RobotSpec, threads: int = 1, pixels: bool = False, place: Place = CPU
    ) -> None:
        """Load the graphs; ``pixels``: also the decoder, for dreams; ``place``: where they run.

        Raises:
            ConfigError: the bundle is no world model, or one of another robot.
        """
        manifest = bundle.manifest
        require(manifest.get("kind") == "world_model", "bundle", bundle.path.name, "a world model's bundle")
        require(tuple(manifest["joints"]) == spec.joints, "bundle joints", manifest["joints"], f"{list(spec.joints)}")
        for graph in GRAPHS:
            require(graph in manifest["files"], "bundle", bundle.path.name, f"expected a file {graph}")
        self.bundle, self.version, self.vocabulary = bundle, bundle.version, bundle.vocabulary
        self.policies: tuple[str, ...] = tuple(manifest["policies"])
        self.image_size: int = manifest["image_size"]
        self.row_period = spec.row_period
        self._n = len(spec.joints)
        sizes = manifest["world_model"]
        self.horizon, self.steps, self._latent = sizes["horizon"], sizes["steps"], sizes["latent"]
        norm = {k: np.array(v, np.float32) for k, v in manifest["normalisation"].items()}
        self._mean, self._std = norm["proprio_mean"], norm["proprio_std"]
        bins = manifest["action_bins"]
        self.action_bins = ActionBins(np.array(bins["low"]), np.array(bins["high"]))
        self._calibration = {k: np.array(v) for k, v in manifest["calibration"].items()}
        self.uncertainty_limit = float(self._calibration["uncertainty_limit"])
        self._kinematics = Kinematics(spec)
        self.graphs = tuple(place.open(bundle.path / graph, threads) for graph in GRAPHS[:3])
        self._observe, self._imagine, self._familiar = self.graphs
        self._decode = CPU.open(bundle.path / GRAPHS[3], threads) if pixels else None

    @classmethod
    def load(
        cls, path: Path, spec: RobotSpec, threads: int = 1, pixels: bool = False, place: Place = CPU
    ) -> "WorldModelSession":
        """Load a bundle folder. ConfigError if a file is missing or its hash is wrong."""
        return cls(Bundle.load(path), spec, threads, pixels, place)

    def warm_up(self) -> None:
        """Vet something: the first evaluation of a graph takes longer than all later ones."""
        size, n = self.image_size, self._n
        dark, still = np.zeros((size, size, 3), np.uint8), np.zeros(n)
        positions = np.zeros((8, self.horizon, n))
        seen = Observation(0, dark, dark, still, still, 0.0)
        words = self.vocabulary.words[0]
        self.vet(seen, words, positions, np.zeros(positions.shape[:2]), self.tool_ways(positions))

    def observe(self, observation: Observation, instruction: str) -> dict[str, Any]:
        """Context of an observation: once for all candidates, and for all steps of a dream."""
        size = self.image_size
        for name, image in (("head", observation.head), ("wrist", observation.wrist)):
            require(image.shape == (size, size, 3), f"{name} image", image.shape, f"expected ({size}, {size}, 3)")
        tool = self._tool(observation.joints[None])[0]
        body = np.concatenate([observation.joints, observation.velocities, [observation.gripper], tool])
        inputs: dict[str, NDArray[Any]] = {
            "head": observation.head[None],
            "wrist": observation.wrist[None],
            "words": self.vocabulary.encode(instruction)[None],
            "proprio": ((body.astype(np.float32) - self._mean) / self._std)[None],
        }
        names = [*CONTEXT, "latents"]
        seen = dict(zip(names, self._observe.run(names, inputs), strict=True))
        return {**seen, "proprio": inputs["proprio"][0]}

    def unfamiliar(self, context: dict[str, Any]) -> str:
        """Which view of an observed context is unlike everything in training, or an empty string."""
        strange = self._familiar.run(None, {"latents": context["latents"]})[0][0]
        for view, value, limit in zip(VIEWS, strange, self._calibration["strange_limit"], strict=True):
            if not value <= limit:
                return f"the {view} view is unlike training: {value:.1f} (limit {limit:.1f})"
        return ""

    def tool_ways(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Tool positions (K, H, 3) [m, base frame] at joint positions (K, H, n) [rad]."""
        return self._tool(positions.reshape(-1, self._n)).reshape(*positions.shape[:2], 3)

    def bins(
        self,
        positions: NDArray[np.float64],
        gripper: NDArray[np.float64],
        ways: NDArray[np.float64],
        joints: NDArray[np.float64],
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Integers (K, H, A) of chunks, and whether each is beyond what the model was shown (K,).

        Chunks (K, H, n) [rad], openings (K, H) [m] and tool ways, seen from ``joints``.
        """
        rows = action_rows(positions, gripper, ways, joints, self._tool(joints[None])[0])
        return self.action_bins.bins(rows).astype(np.int64), self.action_bins.beyond(rows)

    def vet(
        self,
        observation: Observation,
        instruction: str,
        positions: NDArray[np.float64],
        gripper: NDArray[np.float64],
        ways: NDArray[np.float64],
    ) -> Imagined | str:
        """The fast mode: what K chunks (K, H, n) [rad] with openings (K, H) [m] lead to, in one evaluation.

        The second chunk step's actions are not known yet: the model expects what its rollouts' drivers did. ``ways``
        as from ``tool_ways``. Returns a text where a view is ``unfamiliar``: nothing is known then.
        """
        context = self.observe(observation, instruction)
        strange = self.unfamiliar(context)
        if strange:
            return strange
        first, beyond = self.bins(positions, gripper, ways, observation.joints)
        noisy = np.zeros((len(first), self.steps, 2, 16, self._latent), np.float32)
        found = self.evaluate(context, first, noisy, np.ones(noisy.shape[:3], np.float32), ("outcome", "cost"))
        read = self._read(found["outcome"].astype(np.float64), found["cost"].astype(np.float64))
        return replace(read, beyond=beyond)

    def evaluate(
        self,
        context: dict[str, Any],
        first: NDArray[np.int64],
        noisy: NDArray[np.float32],
        time: NDArray[np.float32],
        names: Sequence[str] = ("images", "body", "outcome", "cost"),
    ) -> dict[str, NDArray[np.float32]]:
        """One evaluation of all steps, of which the actions ``first`` (K, H, A) of the first are known.

        ``noisy`` (K, steps, 2, TOKENS, latent) at noise level ``time`` (K, steps, 2); returns ``names`` as
        ``WorldModel.imagine``.
        """
        later = np.zeros_like(first)
        inputs = {name: context[name] for name in CONTEXT} | {
            "bins": np.stack([first, *[later] * (self.steps - 1)], 1),
            "known": np.tile(np.array([[1.0] + [0.0] * (self.steps - 1)], np.float32), (len(first), 1)),
            "noisy": noisy,
            "time": time,
        }
        return dict(zip(names, self._imagine.run(list(names), inputs), strict=True))

    def step(
        self, context: dict[str, Any], bins: NDArray[np.int64], noisy: NDArray[np.float32], time: NDArray[np.float32]
    ) -> dict[str, NDArray[np.float32]]:
        """One flow evaluation for one chunk: ``noisy`` (K, 2, TOKENS, latent) at noise level ``time`` (K, 2).

        Returns images, body, outcome and cost as ``WorldModel.imagine``; only the first of the steps means something.
        """
        rest = ((0, 0), (0, self.steps - 1))
        noisy = np.pad(noisy[:, None], (*rest, (0, 0), (0, 0), (0, 0)))
        time = np.pad(time[:, None], (*rest, (0, 0)), constant_values=1.0)
        return self.evaluate(context, bins, noisy, time)

    def pictures(self, latents: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Pictures (B, s, s, 3) of latents (B, TOKENS, latent). Needs ``pixels``."""
        require(self._decode is not None, "pixels", False, "a session that was loaded with pixels=True")
        assert self._decode is not None
        return self._decode.run(None, {"latents": latents.astype(np.float32)})[0].astype(np.uint8)

    def body(self, proprio: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """Joint positions, velocities (n,) and opening of standardised proprioception (P,)."""
        values = (proprio * self._std + self._mean).astype(np.float64)
        return values[: self._n], values[self._n : 2 * self._n], float(values[2 * self._n])

    def outcomes(self, outcome: NDArray[Any], cost: NDArray[Any]) -> tuple[NDArray, NDArray, NDArray]:
        """Probabilities (K,) of done, success in the end and cost, from logits (E, K, 4) and (E, K) read off images."""
        likely, hit = self._calibrated(outcome.astype(np.float64), cost.astype(np.float64), "slow_")
        likely = likely.mean(0)
        return likely[:, 0], likely[:, 2], hit.mean(0)

    def _calibrated(
        self, outcome: NDArray[np.float64], cost: NDArray[np.float64], mode: str = ""
    ) -> tuple[NDArray, NDArray]:
        scale, shift = self._calibration[f"{mode}outcome"]
        likely = _sigmoid(scale * outcome + shift)
        scale, shift = self._calibration[f"{mode}cost"]
        return likely, _sigmoid(scale * cost + shift)

    def _read(self, outcome: NDArray[np.float64], cost: NDArray[np.float64]) -> Imagined:
        """Both steps' logits (E, K, S, 4) and (E, K, S) in one number each."""
        likely, hit = self._calibrated(outcome, cost)
        success = likely[..., 2].mean(2)
        # Cost, and what is left to do, at the end of this chunk: what follows is not its doing.
        value = likely[:, :, 0, self._calibration.get("value", 3)]  # bundles that do not name it were shown experts
        return Imagined(success.mean(0), value.mean(0), hit.mean(0)[:, 0], success.std(0))

    def _tool(self, joints: NDArray[np.float64]) -> NDArray[np.float64]:
        self._kinematics.place(joints)
        return self._kinematics.tool.copy()


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1.0 / (1.0 + np.exp(-np.clip(x, -30, 30)))
