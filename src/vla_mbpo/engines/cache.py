"""Compiled graphs on disk: float ONNX graphs and engines, by what they were made from. What is read is hash-checked.

One folder per shipped graph, named by that file's SHA-256, with ``graph.json``, ``fp32.onnx``, ``fp16.onnx`` and, for
each key of ONNX hash, target, library and its version, an engine with its record. An engine is code: a folder that
others may write is refused, for no hash in it would help against them.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_mbpo.core.disk import sync
from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.paths import home
from vla_mbpo.policy.bundle import sha256

PRECISIONS = ("fp32", "fp16")
_HEX = re.compile(r"[0-9a-f]{64}")
_GRAPH_KEYS: dict[str, type] = {"graph": str, "bundle": str, "source": str, "onnx": dict}
_ENGINE_KEYS: dict[str, type] = {
    "onnx": str, "library": str, "version": str, "target": str, "precision": str, "sha256": str,
    "bytes": int, "workspace": int,
}  # fmt: skip


@dataclass(frozen=True)
class Key:
    """What an engine depends on."""

    onnx: str
    library: str
    version: str
    target: str

    @property
    def digest(self) -> str:
        """Name of the engine's files."""
        text = "\n".join((self.onnx, self.library, self.version, self.target))
        return hashlib.sha256(text.encode()).hexdigest()


class Compiled:
    """One shipped graph's folder. Any thread; one process writes at a time."""

    def __init__(self, folder: Path, record: dict[str, Any]) -> None:
        self.folder, self.record = folder, record

    @property
    def name(self) -> str:
        """The graph's name in its bundle, without suffixes."""
        return str(self.record["graph"])

    def onnx(self, precision: str) -> bytes:
        """The float graph. ConfigError: there is none, or it is not what was kept."""
        kept = self.record["onnx"].get(precision)
        require(isinstance(kept, dict) and "sha256" in kept, self._field, precision, "a precision that was compiled")
        return _checked(self.folder / f"{precision}.onnx", kept["sha256"], self._field)

    def key(self, precision: str, library: str, version: str, target: str) -> Key:
        """Of this graph's engine."""
        return Key(self.record["onnx"][precision]["sha256"], library, version, target)

    def engine(self, key: Key) -> dict[str, Any] | None:
        """An engine's record, or None. ConfigError: the record is not one of this key."""
        file = self.folder / f"{key.digest}.json"
        if not file.is_file():
            return None
        record = _read(file, _ENGINE_KEYS)
        for name in ("onnx", "library", "version", "target"):
            require(record[name] == getattr(key, name), f"{file}: {name}", record[name], getattr(key, name))
        return record

    def plan(self, key: Key) -> bytes:
        """The engine itself. ConfigError: it is not what was kept."""
        record = self.engine(key)
        require(record is not None, self._field, key.target, "a target that was built")
        assert record is not None
        return _checked(self.folder / f"{key.digest}.engine", record["sha256"], self._field)

    def keep_engine(self, key: Key, plan: bytes, record: dict[str, Any]) -> dict[str, Any]:
        """Write engine and record; returns the record."""
        (self.folder / f"{key.digest}.json").unlink(missing_ok=True)  # a kill in between leaves none, and no wrong one
        _write(self.folder / f"{key.digest}.engine", plan)
        whole = {**key.__dict__, **record, "sha256": hashlib.sha256(plan).hexdigest(), "bytes": len(plan)}
        return self.note(key, whole)

    def note(self, key: Key, record: dict[str, Any]) -> dict[str, Any]:
        """Write a record anew: what has been verified since."""
        _write(self.folder / f"{key.digest}.json", (json.dumps(record, indent=1) + "\n").encode())
        return record

    @property
    def _field(self) -> str:
        return f"engine cache: {self.record['bundle']}, {self.name}"


class Cache:
    """All compiled graphs of this machine's user."""

    def __init__(self, folder: Path | None = None) -> None:
        """``folder``: engines/ below ``home`` by default."""
        self.folder = folder or home() / "engines"

    def graph(self, shipped: Path) -> Compiled | None:
        """What was compiled for a bundle's file. ConfigError: it is damaged, or others may write it."""
        source = sha256(shipped)
        folder = self.folder / source
        if not (folder / "graph.json").is_file():
            return None
        self._check(folder)
        record = _read(folder / "graph.json", _GRAPH_KEYS)
        require(record["source"] == source, f"{folder}/graph.json: source", record["source"], source)
        return Compiled(folder, record)

    def keep(self, shipped: Path, graph: str, bundle: str, models: dict[str, tuple[bytes, dict]]) -> Compiled:
        """Write the float graphs, (content, what is known of it) by precision. Engines of others stay."""
        source = sha256(shipped)
        folder = self.folder / source
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # the mode is not for parents, so one by one
        folder.mkdir(exist_ok=True, mode=0o700)
        self._check(folder)
        (folder / "graph.json").unlink(missing_ok=True)  # as in keep_engine
        onnx = {}
        for precision, (content, known) in models.items():
            require(precision in PRECISIONS, "precision", precision, f"one of {', '.join(PRECISIONS)}")
            _write(folder / f"{precision}.onnx", content)
            onnx[precision] = {**known, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        record = {"graph": graph, "bundle": bundle, "source": source, "onnx": onnx}
        _write(folder / "graph.json", (json.dumps(record, indent=1) + "\n").encode())
        return Compiled(folder, record)

    def __iter__(self) -> Iterator[Compiled]:
        """Every graph that was compiled."""
        for folder in sorted(self.folder.glob("*/graph.json")):
            if _HEX.fullmatch(folder.parent.name):
                self._check(folder.parent)
                yield Compiled(folder.parent, _read(folder, _GRAPH_KEYS))

    def _check(self, folder: Path) -> None:
        for place in (self.folder, folder):
            found = place.stat()
            own = found.st_uid in (0, os.geteuid()) and not found.st_mode & 0o022
            require(own, "engine cache", str(place), "a folder that nobody but its owner, root or you, may write")


def _read(file: Path, keys: dict[str, type]) -> dict[str, Any]:
    try:
        record = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError("engine cache", str(file), f"cannot be read: {error}") from error
    require(isinstance(record, dict), "engine cache", str(file), "expected an object")
    for key, kind in keys.items():
        require(isinstance(record.get(key), kind), f"{file}: {key}", record.get(key), f"expected {kind.__name__}")
    return record


def _checked(file: Path, digest: str, field: str) -> bytes:
    """The bytes that were hashed are those that are used: nobody can change them in between."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigError(field, file.name, f"cannot be read: {error.strerror}") from error
    found = hashlib.sha256(content).hexdigest()
    require(found == digest, field, f"{file.name}, sha256 {found}", f"sha256 {digest}; run vla-mbpo compile --anew")
    return content


def _write(file: Path, content: bytes) -> None:
    partial = file.with_name(f"{file.name}.partial")
    partial.write_bytes(content)
    partial.chmod(0o600)
    sync(partial)
    partial.rename(file)
