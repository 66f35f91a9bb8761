"""Conformal bands on disk: calibration/<detector>.json, for one detector and one version of its policy."""

import datetime
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.failure.bands import Band, Shape
from vla_mbpo.failure.scores import FloatArray
from vla_mbpo.paths import share_dir
from vla_mbpo.policy.bundle import Bundle

KIND = "failure_detector_bands"


def calibration_file(detector: str) -> Path:
    """Where the bands of a detector are, by its bundle's name."""
    return share_dir() / "calibration" / f"{Path(detector).name}.json"


@dataclass(frozen=True)
class Calibration:
    """Bands that were read.

    Attributes:
        id: policy version and the first digits of the file's SHA-256; every risk carries it.
        policy: version that it holds for.
        alpha: false-alarm rate that it is meant for.
        band: see Band.
        data: folders of the attempts that it was fitted on, as they were named; empty: the file does not say.
    """

    id: str
    policy: str
    alpha: float
    band: Band
    data: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: Path, detector: Bundle) -> "Calibration":
        """Read. ConfigError: unreadable, or of another detector."""
        try:
            raw = path.read_bytes()
            found = json.loads(raw)
            shape = Shape(np.array(found["mean"], float), np.array(found["modulation"], float))
            band = Band(shape, np.array(found["statistics"], float), found["votes"])
            said, alpha = str(found["detector"]), float(found["alpha"])
            policy, members, kind = str(found["policy"]), list(found["members"]), found["kind"]
            data = tuple(map(str, found.get("data", ())))
        except (OSError, ValueError, KeyError, TypeError) as error:
            hint = "run `vla-mbpo calibrate detector`"
            raise ConfigError("calibration", str(path), f"{type(error).__name__}: {error}; {hint}") from error
        require(kind == KIND, "calibration", kind, KIND)
        require(said == detector.version, "calibration", f"bands of {said}", f"of {detector.version}: calibrate anew")
        require(members == detector.manifest["members"], "calibration", members, detector.manifest["members"])
        _check(band, len(members), path)
        return cls(f"{policy}/{hashlib.sha256(raw).hexdigest()[:12]}", policy, alpha, band, data)

    def width(self, policy: str, alpha: float) -> float:
        """The band for attempts of ``policy``. ConfigError: another policy version, or too few successes for alpha."""
        hint = f"bands are of {self.policy}: run `vla-mbpo calibrate detector` for this policy"
        require(policy == self.policy, "policy", policy, hint)
        return self.band.width(alpha)


def _check(band: Band, members: int, path: Path) -> None:
    """ConfigError for what would never raise an alarm, or always, or fail at the first look."""
    mean, modulation, statistics, votes = band.shape.mean, band.shape.modulation, band.statistics, band.votes
    fits = mean.ndim == 2 and len(mean) == members and mean.size > 0
    require(fits, "calibration.mean", mean.shape, f"numbers of each of the {members} members: {path}")
    require(mean.shape == modulation.shape, "calibration.modulation", modulation.shape, f"as many as of mean: {path}")
    require(statistics.ndim == 1 and len(statistics) > 0, "calibration.statistics", statistics.shape, f"a list: {path}")
    for name, values, ok, valid in (
        ("mean", mean, np.isfinite(mean), "finite numbers"),
        ("modulation", modulation, np.isfinite(modulation) & (modulation > 0), "finite numbers above 0"),
        ("statistics", statistics, np.isfinite(statistics), "finite numbers"),
    ):
        odd = values[~ok]
        require(not len(odd), f"calibration.{name}", odd[:3].tolist(), f"{valid}: {path}")
    falls = statistics[1:][np.diff(statistics) < 0]
    require(not len(falls), "calibration.statistics", falls[:3].tolist(), f"sorted, the smallest first: {path}")
    whole = isinstance(votes, int) and not isinstance(votes, bool)
    require(whole and 1 <= votes <= members, "calibration.votes", votes, f"1 to {members}, its members: {path}")


def write(path: Path, detector: Bundle, curves: Sequence[FloatArray], alpha: float, facts: dict[str, Any]) -> Band:
    """Fit the bands on curves (members, looks) of attempts that went well, and write them.

    ``facts`` stand in the file too: where the attempts are from. ConfigError if they are too few for ``alpha``; then
    nothing is written.
    """
    votes = int(detector.manifest["votes"])
    band = Band.fit(curves, votes)
    band.width(alpha)

    content = {
        "kind": KIND,
        "detector": detector.version,
        "policy": detector.manifest["policies"][0],
        "members": detector.manifest["members"],
        "votes": votes,
        "alpha": alpha,
        "n": len(curves),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        **facts,
        # As they are: where many attempts share a value, one that is rounded down makes all of them alarm.
        "mean": band.shape.mean.tolist(),
        "modulation": band.shape.modulation.tolist(),
        "statistics": band.statistics.tolist(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content) + "\n")
    partial.rename(path)
    return band
