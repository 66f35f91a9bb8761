"""Model bundles: a folder of files whose SHA-256 stand in its manifest.json, and who signed that. No pickle."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from vla_mbpo.core.disk import place_of, whole_folder
from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.policy import signature
from vla_mbpo.policy.vocabulary import Instructions, Vocabulary

KEYS = ("name", "kind", "files")  # of every manifest
SEEING = ("vocabulary", "normalisation")  # of what reads observations
KIND_KEYS = {
    "policy": (*SEEING, "policy", "joints", "gripper", "row_period"),
    "world_model": (*SEEING, "world_model", "joints", "action_bins", "calibration", "policies", "image_size"),
    "failure_detector": ("policies", "features", "width", "action_scale", "members", "votes"),
    "release": ("versions", "decision"),
}
FOREIGN_KEYS = ("adapter", "instructions")  # of a policy that somebody else runs or made, in place of a policy's own


def require_name(field: str, name: object) -> None:
    """ConfigError unless a bundle may be called that: names of folders are made of it."""
    ok = isinstance(name, str) and bool(re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name))
    require(ok, field, name, "letters, digits, '.', '_' and '-', with a letter or digit first")


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Bundle:
    """A verified bundle.

    Attributes:
        path: its folder.
        manifest: content of manifest.json.
        digest: SHA-256 of the manifest, which holds the files' digests: the bundle's identity.
    """

    path: Path
    manifest: dict[str, Any]
    digest: str

    @property
    def version(self) -> str:
        """Name and the first 12 digits of the digest; chunks and bands carry it."""
        return f"{self.manifest['name']}@{self.digest[:12]}"

    @property
    def vocabulary(self) -> Vocabulary:
        """The words that the policy knows."""
        raw = self.manifest["vocabulary"]
        return Vocabulary(tuple(raw["words"]), raw["length"])

    @property
    def adapter(self) -> str | None:
        """Who runs a foreign policy (docs/foreign_policies.md); None: the policy is this package's own."""
        return self.manifest.get("adapter")

    @property
    def instructions(self) -> Vocabulary | Instructions:
        """What the policy may be told."""
        return self.vocabulary if self.adapter is None else Instructions(tuple(self.manifest["instructions"]))

    @classmethod
    def load(cls, path: Path, trusted: signature.TrustedKeys | None = None) -> "Bundle":
        """``read``, and check the signature where this machine has trusted keys, or against ``trusted``.

        ConfigError says who signed it, or that nobody did.
        """
        found, keys = cls.read(path), trusted or signature.configured()
        if keys is not None:
            keys.check(path, found.digest)
        return found

    @classmethod
    def read(cls, path: Path) -> "Bundle":
        """The manifest, with every file checked against it, whoever signed. ConfigError names a file that differs."""
        try:
            manifest = json.loads((path / "manifest.json").read_text())
        except (OSError, ValueError) as error:
            raise ConfigError("bundle", str(path), f"manifest.json cannot be read: {error}") from error
        manifest = manifest if isinstance(manifest, dict) else {}
        kind = str(manifest.get("kind"))
        for key in KEYS:
            if key not in manifest:
                raise ConfigError(
                    f"{path}/manifest.json", f"without {key!r}", f"expected one of {', '.join(KIND_KEYS)}"
                )
        require(kind in KIND_KEYS, f"{path}/manifest.json: kind", manifest["kind"], f"one of {', '.join(KIND_KEYS)}")
        for key in FOREIGN_KEYS if kind == "policy" and "adapter" in manifest else KIND_KEYS[kind]:
            if key not in manifest:
                raise ConfigError(f"{path}/manifest.json", f"without {key!r}", f"expected the manifest of a {kind}")
        require_name(f"{path}/manifest.json: name", manifest["name"])
        files, named = manifest["files"], "the SHA-256 of each file by its name"
        require(isinstance(files, dict), f"{path}/manifest.json: files", files, named)
        for name, digest in files.items():
            inside = not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts
            require(inside, f"{path}/manifest.json: files", name, "expected names of files below the bundle's folder")
            file = path / name
            found = sha256(file) if file.is_file() else "missing"
            if found != digest:
                raise ConfigError(f"bundle {path.name}: {name}", f"sha256 {found}", f"the manifest says {digest}")
        return cls(path, manifest, _digest(manifest))


def write_manifest(path: Path, content: dict[str, Any]) -> Bundle:
    """Hash the files in ``path`` and below, write manifest.json, and return the bundle, which nobody has signed yet."""
    own = path / "manifest.json"
    (path / signature.SIGNATURE).unlink(missing_ok=True)
    found = (f for f in sorted(path.rglob("*")) if f.is_file() and f != own and f.name != signature.SIGNATURE)
    files = {f.relative_to(path).as_posix(): sha256(f) for f in found}
    partial = path / "manifest.json.partial"
    partial.write_text(json.dumps({**content, "files": files}, indent=1) + "\n")
    partial.rename(own)
    return Bundle.read(path)


@contextmanager
def rebuilt(out: Path, kind: str) -> Iterator[Path]:
    """A folder to write a bundle into that takes the place of ``out`` in the end; after an error ``out`` is as it was.

    A bundle that was in ``out`` goes, with its signature; what its manifest does not list (notes, say) stays.

    Raises:
        ConfigError: ``out`` holds something else than an exported bundle of this ``kind``.
    """
    out = place_of(out)
    with whole_folder(out, _not_of_the_bundle(out, kind)) as folder:
        yield folder


def _not_of_the_bundle(out: Path, kind: str) -> list[str]:
    """Names of files in ``out`` that its bundle does not list. ConfigError: there are some, and no such bundle."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return []
    try:
        found = json.loads((out / "manifest.json").read_text())
        own = {"manifest.json", signature.SIGNATURE, *found["files"]}
        fits = found["kind"] == kind and "adapter" not in found  # somebody else's policy was not exported
    except (OSError, ValueError, KeyError, TypeError):
        own, fits = set(), False
    require(fits, "out", str(out), f"a folder that is empty or not there yet, or a {kind} bundle to replace")
    return [name for f in out.rglob("*") if f.is_file() and (name := f.relative_to(out).as_posix()) not in own]


def _digest(manifest: dict[str, Any]) -> str:
    """Of the canonical JSON, so that white space does not count and a changed constant does."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
