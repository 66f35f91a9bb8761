"""Which models run in a replay: those that were asked for, else those that the recording names. No rclpy."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.failure.calibration import calibration_file
from vla_mbpo.paths import bundle_dir, bundles
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.releases.release import BANDS
from vla_mbpo.replay.said import Said

Value = TypeVar("Value")
NONE = "none"  # as the name of a model: nobody runs, and what was recorded is put back in its place


@dataclass(frozen=True)
class Models:
    """Bundles, names or folders; empty: that node does not run.

    Attributes:
        bands: file of the detector's bands; empty: those in calibration/.
        candidates: per chunk set.
        notes: what was recorded and does not run, a line each.
    """

    policy: str
    world_model: str
    detector: str
    bands: str = ""
    candidates: int = 8
    notes: tuple[str, ...] = ()


def choose(then: Said, release: str, policy: str = "", world_model: str = "", detector: str = "") -> Models:
    """The models for a recording of ``then``.

    Args:
        then: what was said in it.
        release: folder of the release that it ran with; empty: none.
        policy, world_model, detector: what was asked for; empty: as recorded, ``none``: none.

    Raises:
        ConfigError: a bundle that does not exist, the recorded policy is not here, or nothing is to run.
    """
    notes, bands = [], ""
    if not policy:
        made = _usual(said.version for said in then.sets.values()) or ""
        require(bool(made), "recording", "no chunk set", "one of a policy, or a policy with --bundle")
        policy = _of_version(made, Path(release, "policy"))
        require(bool(policy), "policy", made, f"it is not here: choose another with --bundle, or --bundle {NONE}")
    if not world_model and (wanted := _usual(said.version for said in then.verdicts.values())):
        world_model = _of_version(wanted, Path(release, "world_model"))
        notes += [] if world_model else [f"imagination does not run: {wanted} is not here (--world-model)"]
    if not detector and (wanted := _usual(said.calibration for said in then.risks.values())):
        detector, bands = _of_bands(wanted, Path(release))
        notes += [] if detector else [f"the failure detector does not run: no bands {wanted} here (--detector)"]
    policy, world_model, detector = (_checked(name) for name in (policy, world_model, detector))
    require(bool(policy or world_model or detector), "models", NONE, "one that is to run")
    k = _usual(len(said.positions) for said in then.sets.values()) or Models.candidates
    return Models(policy, world_model, detector, bands, k, tuple(notes))


def _usual(values: Iterable[Value]) -> Value | None:
    """The most frequent one; None if there are none."""
    found = Counter(values).most_common(1)
    return found[0][0] if found else None


def _checked(name: str) -> str:
    if name in ("", NONE):
        return ""
    bundle_dir(name)
    return name


def _of_version(version: str, beside: Path) -> str:
    """Folder of a bundle of this version, ``beside`` or in models/; empty: there is none."""
    for folder in _folders(beside):
        try:
            if _manifest(folder).get("name") == version.partition("@")[0] and Bundle.load(folder).version == version:
                return str(folder)
        except ConfigError:  # damaged
            continue
    return ""


def _of_bands(wanted: str, release: Path) -> tuple[str, str]:
    """Folder of a detector and file of its bands with this id (policy/digest); empty: there are none."""
    digest = wanted.rpartition("/")[2]
    own = release / "failure_detector"
    for folder in _folders(own):
        file = release / BANDS if folder == own else calibration_file(folder.name)
        if _manifest(folder).get("kind") != "failure_detector" or not file.is_file():
            continue
        if hashlib.sha256(file.read_bytes()).hexdigest().startswith(digest):
            return str(folder), str(file)
    return "", ""


def _folders(beside: Path) -> Iterator[Path]:
    if beside.is_absolute() and (beside / "manifest.json").is_file():
        yield beside
    yield from (bundle_dir(name) for name in bundles())


def _manifest(folder: Path) -> dict:
    try:
        found = json.loads((folder / "manifest.json").read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
