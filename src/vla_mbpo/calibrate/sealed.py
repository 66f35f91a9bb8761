"""Calibrations on disk: YAML with who made it, of what and when, and a hash that tells whether it was changed since."""

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vla_mbpo.core.disk import sync
from vla_mbpo.core.errors import ConfigError, require

KEY = "provenance"
MAX_AGE = 180.0  # days; default limit where a calibration is used
_DATE = "%Y-%m-%dT%H:%M:%SZ"
_SKEW = datetime.timedelta(days=1)  # that clocks may differ by


@dataclass(frozen=True)
class Provenance:
    """Where a calibration comes from.

    Attributes:
        source: folder or topic of the pictures.
        serial: of the camera.
        robot: name of the robot it is mounted on or beside; empty where it does not matter.
        views: pictures that were used.
        error_px: root mean square of the reprojection error [px].
        tool: program that made it.
        date: UTC, as 2026-01-31T12:00:00Z.
        sha256: of everything else in the file; empty before it is written.
    """

    source: str
    serial: str
    robot: str
    views: int
    error_px: float
    tool: str
    date: str = dataclasses.field(default_factory=lambda: _now().strftime(_DATE))
    sha256: str = ""

    @property
    def age(self) -> datetime.timedelta:
        """Since the date."""
        return _now() - datetime.datetime.strptime(self.date, _DATE).replace(tzinfo=datetime.UTC)

    def require_for(self, what: str, serial: str | None = None, robot: str = "", max_age: float = 0.0) -> None:
        """Raise ConfigError unless it is of this camera and robot and not too old.

        ``what``: named in the error. ``serial``: None: not asked; empty: not known, which no calibration fits.
        ``robot``: empty: not asked. ``max_age``: days, 0: no limit. A calibration that names no robot is good with any.
        """
        again = "calibrate anew"
        if serial is not None:
            own = f"the camera is {serial!r}: {again}" if serial else "a camera that says which one it is"
            require(bool(serial) and self.serial == serial, f"{what}: serial", self.serial, own)
        if robot and self.robot:
            require(self.robot == robot, f"{what}: robot", self.robot, f"the robot is {robot!r}: {again}")
        require(self.age >= -_SKEW, f"{what}: date", self.date, "a date that has been: set this machine's clock")
        if max_age:
            days = self.age.total_seconds() / 86400
            require(days <= max_age, f"{what}: age", f"{days:.1f} days", f"at most {max_age:g} days: {again}")


def write(path: Path, content: dict[str, Any], provenance: Provenance) -> Provenance:
    """Write content and provenance, whole or not at all. Returns the provenance with its hash.

    Raises:
        ConfigError: the folder cannot be written to.
    """
    facts = {k: v for k, v in dataclasses.asdict(provenance).items() if k != "sha256"}
    sealed = {**content, KEY: facts}
    facts["sha256"] = _hash(sealed)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(yaml.safe_dump(sealed, sort_keys=False, width=120, default_flow_style=None))
        sync(partial)
        partial.replace(path)
        sync(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise ConfigError("--out", str(path), f"a file that can be written: {error.strerror}") from None
    return dataclasses.replace(provenance, sha256=facts["sha256"])


def read(path: Path) -> tuple[dict[str, Any], Provenance | None]:
    """Content, and its provenance; None for a file of another program, which has none.

    Raises:
        ConfigError: unreadable, or changed after it was written.
    """
    try:
        raw = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError("calibration", str(path), " ".join(str(error).split())) from None
    require(isinstance(raw, dict), "calibration", str(path), "expected a YAML mapping")
    facts = raw.get(KEY)
    if facts is None:
        return raw, None
    require(isinstance(facts, dict), f"{path}: {KEY}", facts, "expected a mapping")
    for field in dataclasses.fields(Provenance):
        kinds = (int, float) if field.type is float else (field.type,)
        fits = isinstance(facts.get(field.name), kinds)  # type: ignore[arg-type]
        require(fits, f"{path}: {KEY}.{field.name}", facts.get(field.name), "calibrate anew")
    content = {key: value for key, value in raw.items() if key != KEY}
    said = facts.pop("sha256")
    changed = _hash({**content, KEY: facts}) != said
    require(not changed, f"{path}: {KEY}.sha256", said, "the file was changed after it was made: calibrate anew")
    try:
        datetime.datetime.strptime(facts["date"], _DATE)
        return content, Provenance(**facts, sha256=said)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path}: {KEY}", facts, f"calibrate anew ({error})") from None


def _hash(content: dict[str, Any]) -> str:
    try:
        text = json.dumps(content, sort_keys=True)
    except TypeError:
        return ""  # nothing that this module writes, so it equals no hash that was written
    return hashlib.sha256(text.encode()).hexdigest()


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
