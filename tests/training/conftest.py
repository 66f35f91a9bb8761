"""What several tests of training learn from."""

import os
from pathlib import Path

import numpy as np
import pytest

from vla_mbpo.paths import ros_environment


@pytest.fixture(scope="module")
def interfaces() -> None:
    """Where the recorder finds message definitions."""
    os.environ.update(ros_environment())


@pytest.fixture(scope="session")
def demos(tmp_path_factory) -> Path:
    """Two short demonstrations of noise, 16 px. Read only."""
    return _noise(tmp_path_factory.mktemp("demos"), 16)


@pytest.fixture(scope="session")
def tiny_demos(tmp_path_factory, tiny_net) -> Path:
    """The same with pictures as ``tiny_bundle`` sees them. Read only."""
    return _noise(tmp_path_factory.mktemp("demos"), tiny_net.config.image_size)


def _noise(folder: Path, size: int) -> Path:
    rng = np.random.default_rng(0)
    for task in ("button", "drawer"):
        t, at = 60, np.arange(0, 60, 4, dtype=np.int32)
        m, clean = len(at), np.ones(t, bool)
        clean[10:13] = False
        np.savez(
            folder / f"{task}_000000.npz", task=task, seed=0, at=at, clean=clean,
            target=rng.normal(0, 0.1, (t, 7)).astype(np.float32), gripper_target=np.full(t, 0.04, np.float32),
            head=rng.integers(0, 256, (m, size, size, 3), dtype=np.uint8), wrist=np.zeros((m, size, size, 3), np.uint8),
            joints=rng.normal(0, 0.1, (m, 7)).astype(np.float32), velocities=np.zeros((m, 7), np.float32),
            gripper=np.full(m, 0.04, np.float32), points=np.zeros((m, 9), np.float32),
        )  # fmt: skip
    return folder


@pytest.fixture
def toy_run(tiny_bundle, tiny_world_model, monkeypatch, tmp_path):
    """Makes trainers of dream RL in a toy world, whose recipe is plain but for what a test names."""
    pytest.importorskip("torch", reason="needs torch: `make setup-dev`")
    from toy_world import Toy

    from vla_mbpo.training import dream_rl

    monkeypatch.setattr(dream_rl, "DreamWorld", Toy)

    def build(steps, out="run", **options):
        plain = {
            "policy": str(tiny_bundle), "vetting": str(tiny_world_model), "group": 8, "states": 12, "updates": 4,
            "batch": 12, "learning_rate": 3e-3, "warmup": 1, "ema": 0.0, "kl": 0.0, "threads": 1,
            "locating": 0.0, "seeing": 0.0, "eyes": 0.0,
        }  # fmt: skip
        recipe = plain | options
        made = dream_rl.DreamRlRecipe((), samples=steps * recipe["batch"], **recipe)
        return dream_rl.Trainer(made, tmp_path / out)

    return build
