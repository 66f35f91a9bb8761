"""The failure detector of one policy: members that score the attempt, their vote, its band. No torch, no rclpy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla_mbpo.core.errors import require
from vla_mbpo.engines.sessions import CPU, Graph, Place
from vla_mbpo.failure.bands import Band, Curve
from vla_mbpo.failure.calibration import Calibration, calibration_file
from vla_mbpo.failure.learned import Bank, Distilled, Mahalanobis, Neighbours, Safe, SafeLstm
from vla_mbpo.failure.scores import (
    Elapsed,
    FloatArray,
    Imagined,
    Look,
    Overlap,
    Recent,
    Reversals,
    Score,
    SetOverlap,
    Spread,
    Sum,
    Turns,
)
from vla_mbpo.paths import bundle_dir
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.policy.runtime import REPLAN_ROWS

BANK_FILE = "bank.npz"
MEMBERS = ("safe_mlp", "reversals_sum", "elapsed")  # of the vote
VOTES = 2  # of them that must agree
READ_SETS = {"overlap_of_sets", "spread", "spread_sum"}  # scores that depend on the number of candidates


class Parts:
    """What a detector's bundle holds, loaded: makes scores by name.

    Attributes:
        period: rows from one look to the next in the attempts that it learned from.
    """

    def __init__(self, bundle: Bundle, place: Place = CPU) -> None:
        """ConfigError if the bundle is not a failure detector's; ``place``: where its graphs run."""
        kind = str(bundle.manifest.get("kind"))
        require(kind == "failure_detector", "detector", f"{bundle.path.name}, a {kind}", "a failure detector's bundle")
        self.bundle = bundle
        self.period: int = bundle.manifest.get("period", REPLAN_ROWS)
        self.graphs = {name: place.open(bundle.path / f"{name}.onnx", 1) for name in ("safe_mlp", "safe_lstm", "rnd")}
        with np.load(bundle.path / BANK_FILE, allow_pickle=False) as kept:
            self._bank = Bank(kept["looks"], kept["mean"], kept["std"])
            self._centre, self._precision = kept["centre"], kept["precision"]

    def scores(self, names: Sequence[str]) -> list[Score]:
        """Fresh scores of these names, each for one attempt after another."""
        manifest = self.bundle.manifest
        scale = np.array(manifest["action_scale"])
        known: dict[str, Callable[[], Any]] = {
            "safe_mlp": lambda: Recent(Safe(self.graphs["safe_mlp"])),
            "safe_mlp_sum": lambda: Sum(Safe(self.graphs["safe_mlp"]), self.period),
            "safe_lstm": lambda: SafeLstm(self.graphs["safe_lstm"], manifest["width"]),
            "knn_euclidean": lambda: Recent(Neighbours(self._bank, cosine=False)),
            "knn_cosine": lambda: Recent(Neighbours(self._bank, cosine=True)),
            "mahalanobis": lambda: Recent(Mahalanobis(self._centre, self._precision)),
            "rnd": lambda: Recent(Distilled(self.graphs["rnd"])),
            "overlap": lambda: Recent(Overlap(scale)),
            "overlap_of_sets": lambda: Recent(SetOverlap(scale)),
            "reversals": lambda: Recent(Reversals()),
            "reversals_sum": lambda: Sum(Reversals(), self.period),
            "spread": lambda: Recent(Spread(scale)),
            "spread_sum": lambda: Sum(Spread(scale), self.period),
            "imagined": lambda: Recent(Imagined()),
            "elapsed": Elapsed,
        }
        for name in names:
            require(name in known, "score", name, f"one of {', '.join(known)}")
        return [known[name]() for name in names]


@dataclass(frozen=True)
class Risk:
    """What the detector makes of the attempt so far.

    Attributes:
        known: False: nothing can be said, and ``reason`` says why; the other fields mean nothing.
        score: what the vote has reached, in modulations above the mean of attempts that go well.
        band: what it must exceed for an alarm.
        alarm: it has, in this attempt.
        votes: of each member.
    """

    known: bool
    score: float = float("nan")
    band: float = float("nan")
    alarm: bool = False
    votes: tuple[bool, ...] = ()
    reason: str = ""


class FailureDetector:
    """Watches one attempt after another. One thread."""

    calibration: Calibration  # of a detector that was loaded
    graphs: tuple[Graph, ...] = ()  # that it runs, all of its bundle's

    def __init__(self, parts: Parts, band: Band, width: float) -> None:
        """``width``: ``band.width(alpha)``."""
        self.members: tuple[str, ...] = tuple(parts.bundle.manifest["members"])
        self._size: int = parts.bundle.manifest["features"]
        self._k: int = parts.bundle.manifest["candidates"] if READ_SETS & set(self.members) else 0  # 0: any number
        self._scores, self._curve, self._width = parts.scores(self.members), Curve(band), width
        self._turns = Turns(parts.period)
        self.calibrated_rows: int = band.shape.mean.shape[1] * parts.period  # the longest attempt of the calibration
        self.reset()

    @classmethod
    def load(
        cls, bundle: str, alpha: float, policy: str = "", calibration: str = "", place: Place = CPU
    ) -> "FailureDetector":
        """By name or folder, with its bands, for a version of a policy. ConfigError where they do not fit.

        ``alpha``: 0: the one that the bands were made for. ``policy``: empty: the one that it was trained for.
        ``calibration``: file; empty: the bundle's in calibration/. ``place``: where its graphs run.
        """
        parts = Parts(Bundle.load(bundle_dir(bundle)), place)
        file = Path(calibration).expanduser() if calibration else calibration_file(bundle)
        found = Calibration.load(file, parts.bundle)
        policy = policy or parts.bundle.manifest["policies"][0]
        made = cls(parts, found.band, found.width(policy, alpha or found.alpha))
        made.calibration, made.graphs = found, tuple(parts.graphs.values())
        return made

    def reset(self) -> None:
        """A new attempt begins: curves, band and alarm start anew."""
        for score in self._scores:
            score.reset()
        self._curve.reset()
        self._turns.reset()
        self._risk, self._unknown = Risk(False), ""

    def add(self, look: Look) -> Risk:
        """Take a look. What is not a number stays UNKNOWN until the next attempt: its curves cannot be trusted.

        Looks that come sooner than the policy's period are passed over, other samples for the same look too: bands are
        of one look per period.
        """
        self._unknown = self._unknown or self._fault(look)
        if self._unknown:
            return Risk(False, reason=self._unknown)
        if (number := self._turns.number(look)) is None:
            return self._risk
        found: FloatArray = np.array([score.add(look) for score in self._scores])
        if not np.isfinite(found).all():
            self._unknown = f"{self.members[int(np.argmin(np.isfinite(found)))]} is not a number"
            return Risk(False, reason=self._unknown)
        reached, highest = self._curve.add(found, number)
        votes = tuple(bool(one > self._width) for one in highest)
        self._risk = Risk(True, reached, self._width, reached > self._width, votes)
        return self._risk

    def alarm(self, look: Look) -> bool:
        """Take a look; whether somebody has to see to the attempt: on an alarm, and where nothing is known."""
        risk = self.add(look)
        return risk.alarm or not risk.known

    def _fault(self, look: Look) -> str:
        if not look.features.size:
            return f"the policy gives no features; the detector reads {self._size} of them"
        if look.features.shape != (self._size,):
            return f"features of shape {look.features.shape}; the detector reads ({self._size},)"
        if self._k and len(look.chunks) != self._k:
            return f"{len(look.chunks)} candidates; the bands are of sets of {self._k}"
        if not (np.isfinite(look.features).all() and np.isfinite(look.chunks).all()):
            return "features or chunks are not finite"
        return ""
