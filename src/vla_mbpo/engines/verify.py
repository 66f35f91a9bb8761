"""Whether a graph in another precision, or as an engine, says what its float graph says."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.observation import Observation
from vla_mbpo.engines.samples import picture
from vla_mbpo.engines.sessions import Feed, Graph, Run, graph_name
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.policy.runtime import PolicySession

COSINE = 0.999  # least that counts as the same
LOOKS = 4  # made-up observations that actions are compared on


@dataclass(frozen=True)
class Agreement:
    """Of all outputs and feeds.

    Attributes:
        cosine: the least.
        difference: the largest of one number, in multiples of its output's largest.
    """

    cosine: float
    difference: float

    @property
    def ok(self) -> bool:
        """Whether that is the same graph."""
        return self.cosine >= COSINE  # false for NaN, too

    def to_dict(self) -> dict[str, Any]:
        """For records."""
        return {"ok": self.ok, "cosine": round(self.cosine, 7), "difference": float(f"{self.difference:.3g}")}


def agreement(reference: Run, other: Run, feeds: Sequence[Feed]) -> Agreement:
    """Compare all outputs of two graphs."""
    cosines, differences = [], []
    for feed in feeds:
        for wanted, found in zip(reference(None, feed), other(None, feed), strict=True):
            one, two = (np.asarray(part, np.float64).ravel() for part in (wanted, found))
            if one.shape != two.shape or not np.isfinite(two).all():
                return Agreement(float("nan"), float("inf"))
            length = float(np.linalg.norm(one) * np.linalg.norm(two))
            cosines.append(float(one @ two) / length if length else float(np.array_equal(one, two)))
            scale = max(float(np.abs(one).max(initial=0.0)), 1e-9)
            differences.append(float(np.abs(one - two).max(initial=0.0)) / scale)
    return Agreement(min(cosines), max(differences))


class Opened:
    """Graphs that are loaded already, by name: a ``Place``."""

    def __init__(self, runs: dict[str, Run]) -> None:
        self._runs = runs

    def open(self, path: Path, threads: int) -> Graph:
        """See ``Place``."""
        return Graph(graph_name(path), "given", self._runs[graph_name(path)])

    def warning(self, graphs: Iterable[Graph]) -> str:
        """Nothing."""
        return ""

    def require_cpu(self, why: str) -> None:
        """Nothing is."""


def action_error(bundle: Bundle, reference: dict[str, Run], other: dict[str, Run], k: int = 8) -> dict[str, Any]:
    """How far a policy's actions move, beside how far its candidates are apart: the sampler's own noise.

    Args:
        bundle: a policy.
        reference, other: encoder and step.
        k: candidates; each pair starts from the same noise.

    Returns:
        ``error``, ``spread`` (root mean squares [rad]), their ``ratio``, and whether it is ``ok``: below 1.
    """
    one, two = (PolicySession(bundle, place=Opened(runs)) for runs in (reference, other))
    errors, spreads = [], []
    for seed in range(LOOKS):
        seen = _look(one, seed)
        words = " ".join(one.vocabulary.words[:3])
        rows = [_actions(session, seen, words, k, seed) for session in (one, two)]
        errors.append(np.square(rows[1] - rows[0]).mean())
        spreads.append(np.square(rows[0] - rows[0].mean(0)).mean())
    error, spread = float(np.sqrt(np.mean(errors))), float(np.sqrt(np.mean(spreads)))
    ratio = error / max(spread, 1e-12)
    return {"error": error, "spread": spread, "ratio": round(ratio, 5), "ok": bool(ratio < 1.0)}


def _actions(session: PolicySession, seen: Observation, words: str, k: int, seed: int) -> NDArray[np.float64]:
    none = np.zeros((0, len(seen.joints)))
    return session.infer(seen, words, none, none[:, 0], k, np.random.default_rng(seed)).positions


def _look(session: PolicySession, seed: int) -> Observation:
    rng, size, joints = np.random.default_rng(seed), session.image_size, len(session.bundle.manifest["joints"])
    head, wrist = (picture((1, size, size, 3), rng)[0] for _ in "hw")
    return Observation(0, head, wrist, rng.normal(0, 0.5, joints), rng.normal(0, 0.1, joints), 0.04)


def timed(call: Callable[[], object], repeats: int) -> dict[str, float]:
    """p50, p95, p99 and max [ms], after three calls that do not count."""
    took = []
    for i in range(repeats + 3):
        begin = time.perf_counter()
        call()
        if i >= 3:
            took.append(1e3 * (time.perf_counter() - begin))
    values = np.percentile(took, [50, 95, 99, 100])
    return {name: round(float(value), 3) for name, value in zip(("p50", "p95", "p99", "max"), values, strict=True)}
