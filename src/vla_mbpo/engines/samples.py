"""Inputs to verify graphs with: seeded, in the ranges of what the robot feeds them, through one graph into the next."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.engines.sessions import Feed
from vla_mbpo.policy.bundle import Bundle

UPSTREAM = {"step": "encoder", "imagine": "observe", "familiar": "observe"}
TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(uint8)": np.uint8}


def feeds(bundle: Bundle, sessions: dict[str, Any], k: int, seed: int) -> dict[str, Feed]:
    """One feed per graph.

    Args:
        bundle: whose graphs they are.
        sessions: ONNX Runtime sessions of its float graphs, by name; they also give what downstream graphs read.
        k: candidates.
        seed: of the numbers.
    """
    rng = np.random.default_rng(seed)
    made: dict[str, Feed] = {}
    outputs: dict[str, Feed] = {}
    for name in sorted(sessions, key=lambda name: name in UPSTREAM):
        before = outputs.get(UPSTREAM.get(name, ""), {})
        feed = {}
        for described in sessions[name].get_inputs():
            drawn = _draw(described, bundle, k, rng)
            feed[described.name] = before.get(described.name, drawn)
        made[name] = feed
        if name in UPSTREAM.values():
            names = [output.name for output in sessions[name].get_outputs()]
            outputs[name] = dict(zip(names, sessions[name].run(None, feed), strict=True))
    return made


def _draw(described: Any, bundle: Bundle, k: int, rng: np.random.Generator) -> NDArray[Any]:
    """What a graph's input may be like, by its name and type."""
    shape = tuple(size if isinstance(size, int) else k for size in described.shape)
    kind = TYPES[described.type]
    if kind is np.uint8:
        return picture(shape, rng)
    if described.name == "words":
        words = rng.integers(1, len(bundle.manifest["vocabulary"]["words"]), shape)
        words[:, -2:] = 0
        return words
    if kind is np.int64:
        return rng.integers(0, 256, shape)
    if described.name == "known":
        known = np.zeros(shape, np.float32)
        known[:, 0] = 1.0
        return known
    if described.name == "time":
        return rng.random(shape, np.float32)
    return rng.standard_normal(shape, np.float32)


def picture(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Surfaces (1, s, s, 3) with edges and noise, as cameras give them, rather than noise alone."""
    size = shape[1]
    coarse = rng.integers(0, 256, (shape[0], 6, 6, shape[3]))
    step = -(-size // 6)
    plain = np.repeat(np.repeat(coarse, step, 1), step, 2)[:, :size, :size]
    return np.clip(plain + rng.normal(0, 4, shape), 0, 255).astype(np.uint8)
