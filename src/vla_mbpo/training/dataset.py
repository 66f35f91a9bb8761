"""Demonstrations in memory, as normalised training samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vla_mbpo.core.errors import require
from vla_mbpo.policy.vocabulary import Vocabulary
from vla_mbpo.sim.instructions import instruction_of
from vla_mbpo.sim.layout import sample_layout
from vla_mbpo.sim.tasks import COLOURS, TASKS
from vla_mbpo.training.examples import read

NEAR = 0.18  # m from the tool: what the wrist camera can be expected to see


@dataclass(frozen=True)
class Normalisation:
    """Standardisation constants, stored in the bundle.

    Attributes:
        action_mean, action_std: (H, A) of joint targets relative to the measured pose [rad] and the opening [m].
        proprio_mean, proprio_std: (P,).
        action_low, action_high: (A,) 1st and 99th percentile over all rows: the range of the world model's bins.
    """

    action_mean: NDArray[np.float32]
    action_std: NDArray[np.float32]
    proprio_mean: NDArray[np.float32]
    proprio_std: NDArray[np.float32]
    action_low: NDArray[np.float32]
    action_high: NDArray[np.float32]


class Demonstrations:
    """All observations of some examples, with their chunk labels. Read-only after construction.

    Attributes:
        tasks: number of examples by task.
        scenes: their seeds, and those of watched episodes.
        arrays: by name, (N, ...).
        placed: (N,) whether somebody knew where things were.
    """

    def __init__(
        self,
        files: list[Path],
        vocabulary: Vocabulary,
        horizon: int,
        wrist: bool = True,
        watched: Sequence[Path] = (),
    ) -> None:
        """``files`` and ``watched``: read by training/examples.py. ``wrist`` False: that view is black.

        ConfigError: there are none, or pictures of several sizes.
        """
        require(bool(files), "demonstrations", "none found", "run `vla-mbpo train demos` first")
        keys = ("head", "wrist", "joints", "velocities", "gripper", "points")
        parts: dict[str, list] = {key: [] for key in (*keys, "words", "chunk", "valid", "episode", "things")}
        self.tasks: dict[str, int] = {}
        self.scenes: list[int] = []
        for number, file in enumerate([*files, *watched]):
            example = number < len(files)
            episode = read(file, watched=not example)
            task, seed = str(episode["task"]), int(episode["seed"])
            self.tasks[task] = self.tasks.get(task, 0) + example
            self.scenes.append(seed)
            for key in keys:
                parts[key].append(episode[key] if wrist or key != "wrist" else np.zeros_like(episode[key]))
            size, usual = episode["head"].shape[1:], parts["head"][0].shape[1:]
            require(size == usual, str(file), size, f"pictures of {usual}, as {files[0].name} has them")
            chunk, valid = _label(episode, horizon)
            parts["things"].append(episode["things"] if "things" in episode else _things(task, seed, episode["points"]))
            parts["chunk"].append(chunk)
            parts["valid"].append(valid)
            parts["words"].append(np.tile(vocabulary.encode(instruction_of(episode)), (len(chunk), 1)))
            parts["episode"].append(np.full(len(chunk), number))
        joined = {}
        for key in list(parts):
            joined[key] = np.concatenate(parts.pop(key))
        self.arrays = joined
        self.placed: NDArray[np.bool_] = np.isfinite(joined["points"]).all(1)
        self.proprio = np.concatenate([joined["joints"], joined["velocities"], joined["gripper"][:, None]], 1)
        self._of_examples: NDArray[np.float32] = self.proprio[joined["episode"] < len(files)]

    def __len__(self) -> int:
        return len(self.proprio)

    def normalisation(self) -> Normalisation:
        """Constants over the valid rows."""
        chunk, valid = self.arrays["chunk"], self.arrays["valid"]
        mean = np.zeros(chunk.shape[1:], np.float32)
        std = np.ones_like(mean)
        for row in range(chunk.shape[1]):
            rows = chunk[valid[:, row], row]
            require(len(rows) > 0, "demonstrations", f"none reaches row {row} of a chunk", "more or longer ones")
            mean[row], std[row] = rows.mean(0), rows.std(0)
        low, high = np.percentile(chunk[valid], [1, 99], axis=0).astype(np.float32)
        floor = np.array([0.004] * (chunk.shape[-1] - 1) + [0.01], np.float32)
        body = self._of_examples.mean(0), np.maximum(self._of_examples.std(0), 1e-3)
        return Normalisation(mean, np.maximum(std, floor), *body, low, high)

    def targets(self) -> NDArray[np.float32]:
        """Object, goal, object - tool, goal - tool, (N, 12) [units of 5 cm]; 0 where not ``placed``."""
        p = np.nan_to_num(self.arrays["points"]).reshape(-1, 3, 3)
        return (20 * np.stack([p[:, 0], p[:, 1], p[:, 0] - p[:, 2], p[:, 1] - p[:, 2]], 1)).reshape(-1, 12)

    @property
    def things(self) -> int:
        """Number of things whose places are known."""
        return self.arrays["things"].shape[1] // 2

    def survey(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What each view alone is to tell: targets (N, 2, 2 T) and weights of the same shape.

        For the head camera the things' positions, standardised; for the wrist camera those near the tool, relative to
        it, in units of 5 cm. The weight is 0 where not ``placed``.
        """
        things, points, placed = self.arrays["things"], np.nan_to_num(self.arrays["points"]), self.placed
        known = things[placed] if placed.any() else things
        head = (things - known.mean(0)) / np.maximum(known.std(0), 0.01)
        offset = things.reshape(len(things), -1, 2) - points[:, None, 6:8]
        near = np.repeat(np.hypot(offset[..., 0], offset[..., 1]) < NEAR, 2, axis=1)
        target = np.stack([head, 20 * offset.reshape(len(things), -1)], 1)
        weight = np.stack([np.ones_like(near), near], 1) & placed[:, None, None]
        return target.astype(np.float32), weight.astype(np.float32)


def _things(task: str, seed: int, points: NDArray) -> NDArray[np.float32]:
    """Positions (M, 16) [m] of cubes, bin, plate, mark, button and drawer: as placed, the task's cube as it is now.

    0 where ``points`` are unknown: no simulator made the scene, or it was not asked.
    """
    if not np.isfinite(points).any():
        return np.zeros((len(points), 2 * (len(COLOURS) + 5)), np.float32)
    layout = sample_layout(TASKS[task], seed)
    fixed = [layout.cubes[colour][:2] for colour in COLOURS]
    fixed += [layout.bin, layout.plate, layout.mark, layout.button, layout.drawer]
    things = np.tile(np.array(fixed).reshape(-1), (len(points), 1))
    if TASKS[task].cube:
        column = 2 * COLOURS.index(TASKS[task].cube)
        things[:, column : column + 2] = np.nan_to_num(points[:, :2])
    return things.astype(np.float32)


def _label(episode, horizon: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Chunks (M, H, A) relative to the measured pose, and which rows count.

    Rows count up to the first perturbed one: what comes then answers a state the chunk cannot know.
    """
    rows = np.concatenate([episode["target"], episode["gripper_target"][:, None]], 1)
    index = episode["at"][:, None] + np.arange(horizon)
    inside = index < len(rows)
    index = np.minimum(index, len(rows) - 1)
    chunk = rows[index]
    chunk[:, :, :-1] -= episode["joints"][:, None]
    undisturbed = np.cumprod(episode["clean"][index], axis=1).astype(bool)
    return chunk.astype(np.float32), inside & undisturbed


class Augment:
    """Random shift, brightness and proprioception noise, per sample."""

    def __init__(self, shift: int, brightness: float, proprio: float) -> None:
        self._shift, self._brightness, self._proprio = shift, brightness, proprio

    def images(self, batch: torch.Tensor) -> torch.Tensor:
        """(B, s, s, 3) uint8 -> (B, 3, s, s) float in 0..255."""
        if self._shift:
            pad, size = self._shift, batch.shape[1]
            near = torch.arange(size, device=batch.device)
            moves = torch.randint(-pad, pad + 1, (2, len(batch), 1), device=batch.device)
            down, right = ((near + move).clamp(0, size - 1) for move in moves)
            each = torch.arange(len(batch), device=batch.device)[:, None, None]
            batch = batch[each, down[:, :, None], right[:, None, :]]
        x = batch.permute(0, 3, 1, 2).float()
        if self._brightness:
            gain = 1 + self._brightness * (2 * torch.rand(len(x), 1, 1, 1, device=x.device) - 1)
            tint = 1 + 0.3 * self._brightness * (2 * torch.rand(len(x), 3, 1, 1, device=x.device) - 1)
            x = (x * gain * tint).clamp(0, 255)
        return x

    def proprio(self, batch: torch.Tensor) -> torch.Tensor:
        """Add noise in units of standard deviations."""
        return batch + self._proprio * torch.randn_like(batch)
