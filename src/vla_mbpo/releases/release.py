"""A release: policy, world model, failure detector and its bands as one, in one folder, with one manifest.

``policy/`` is always there; ``world_model/``, ``failure_detector/`` and ``bands.json`` may be missing, then the stack
runs without them. ``manifest.json`` is a bundle's manifest of kind ``release``: SHA-256 of every file, versions of the
parts, and the decision by which it went live. No rclpy, no torch.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.failure.calibration import Calibration
from vla_mbpo.policy.bundle import Bundle, write_manifest
from vla_mbpo.policy.signature import SIGNATURE, SigningKey

KIND = "release"
BUNDLES = ("policy", "world_model", "failure_detector")  # folders, each named as the kind of its bundle
BANDS = "bands.json"


@dataclass(frozen=True)
class Release:
    """A verified release: every file is as its manifest says, and the parts belong together.

    Attributes:
        bundle: the release's own manifest, folder and version.
        policy: always there.
        world_model: vets the policy's chunks; None: nobody does.
        detector: watches the policy's attempts; None: nobody does.
        bands: of the detector, for this policy version.
    """

    bundle: Bundle
    policy: Bundle
    world_model: Bundle | None
    detector: Bundle | None
    bands: Calibration | None

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.bundle.path

    @property
    def version(self) -> str:
        """Name and the first 12 digits of the manifest's digest."""
        return self.bundle.version

    @classmethod
    def load(cls, path: Path) -> "Release":
        """Read and check everything. ConfigError names the file that does not match, or the parts."""
        versions = stated_versions(path)
        bundle = Bundle.load(path)
        parts = {name: part(path, name) for name in BUNDLES if name in versions}
        detector = parts.get("failure_detector")
        bands = Calibration.load(path / BANDS, detector) if detector is not None else None
        found = cls(bundle, parts["policy"], parts.get("world_model"), detector, bands)
        found._belong_together()
        return found

    def _belong_together(self) -> None:
        policy = self.policy.version
        for other in (self.world_model, self.detector):
            if other is None:
                continue
            field = f"release {self.path.name}: {other.manifest['kind']}"
            require(policy in other.manifest["policies"], field, f"for {other.manifest['policies']}", f"for {policy}")
        stated = stated_versions(self.path).get("bands")
        require((self.bands is None) == (stated is None), "release bands", stated, "bands with a detector, or neither")
        if self.bands is not None:
            require(self.bands.id == stated, f"release {self.path.name}: bands", self.bands.id, f"expected {stated}")
            self.bands.width(policy, self.bands.alpha)


def stated_versions(path: Path) -> dict[str, str]:
    """Versions of a release's parts as its manifest states them: by folder, and ``bands``. Verifies nothing else.

    ConfigError: no manifest of a release.
    """
    try:
        manifest = json.loads((path / "manifest.json").read_text())
    except (OSError, ValueError) as error:
        raise ConfigError("release", str(path), f"manifest.json cannot be read: {error}") from error
    manifest = manifest if isinstance(manifest, dict) else {}
    kind, versions = manifest.get("kind"), manifest.get("versions")
    require(kind == KIND, "release", f"{path}, a {kind}", "a folder with the manifest of a release")
    versions = versions if isinstance(versions, dict) else {}
    fits = "policy" in versions and set(versions) <= {*BUNDLES, "bands"}
    require(fits, f"{path}/manifest.json: versions", versions, f"policy, and perhaps {', '.join(BUNDLES[1:])}, bands")
    return {str(name): str(version) for name, version in versions.items()}


def part(path: Path, name: str) -> Bundle:
    """One verified part of a release. ConfigError: there is none, or it is not the one that the manifest states."""
    versions = stated_versions(path)
    require(name in versions, f"release {path.name}", f"without {name}", f"a release with {name}")
    found = Bundle.load(path / name)
    require(found.manifest["kind"] == name, f"release {path.name}: {name}", found.manifest["kind"], f"a {name}")
    require(found.version == versions[name], f"release {path.name}: {name}", found.version, f"is {versions[name]}")
    return found


def assemble(
    folder: Path,
    policy: Bundle,
    decision: dict[str, Any],
    world_model: Bundle | None = None,
    detector: Bundle | None = None,
    bands: Path | None = None,
    key: SigningKey | None = None,
) -> Release:
    """Copy the parts into ``folder``, which may hold a report already, write the manifest, and verify all of it.

    ConfigError if they do not belong together. ``decision``: by whom or what it is signed off, and the numbers.
    ``key``: signs the release and its parts; without it the parts keep the signatures that they have.
    """
    require((detector is None) == (bands is None), "bands", str(bands), "together with a failure detector")
    versions = {}
    for bundle in (policy, world_model, detector):
        if bundle is None:
            continue
        name = bundle.manifest["kind"]
        copy_bundle(bundle, folder / name)
        versions[name] = bundle.version
    if detector is not None and bands is not None:
        copy_file(bands, folder / BANDS)
        versions["bands"] = Calibration.load(folder / BANDS, detector).id
    content = {"name": policy.manifest["name"], "kind": KIND, "versions": versions, "decision": decision}
    write_manifest(folder, content)
    if key is not None:
        key.sign_all(folder)
    return Release.load(folder)


def copy_bundle(bundle: Bundle, to: Path) -> None:
    """Copy the files of a bundle that its manifest lists, the manifest, and its signature if there is one."""
    signed = [SIGNATURE] if (bundle.path / SIGNATURE).is_file() else []
    for name in ("manifest.json", *signed, *bundle.manifest["files"]):
        copy_file(bundle.path / name, to / name)


def copy_file(source: Path, target: Path) -> None:
    """Copy, and have it on the disk before anything refers to it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as old, target.open("wb") as new:
        shutil.copyfileobj(old, new)
        new.flush()
        os.fsync(new.fileno())


def adopt(bundle: Bundle, to: Path, policies: list[str], reason: str) -> Bundle:
    """A copy of a world model or failure detector whose manifest names other policy versions, and why."""
    copy_bundle(bundle, to)
    manifest = {key: value for key, value in bundle.manifest.items() if key != "files"}
    adopted = [*manifest.get("adopted", []), {"from": bundle.version, "policies": policies, "reason": reason}]
    return write_manifest(to, {**manifest, "policies": policies, "adopted": adopted})
