"""Signatures of model bundles: Ed25519 over a manifest's digest, which covers the digests of all files.

``manifest.sig`` lies beside manifest.json and names the key. Whose signatures count is a file of trusted keys:
``VLA_MBPO_TRUSTED_KEYS``, or trusted_keys.json below VLA_MBPO_HOME where there is one. Once there is, a bundle without
a good signature is not loaded; without it hashes alone are checked. No rclpy, no torch.
"""

import base64
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.paths import home

SIGNATURE = "manifest.sig"
VARIABLE = "VLA_MBPO_TRUSTED_KEYS"
_DIGEST = re.compile("[0-9a-f]{64}")
_CONTEXT = b"vla_mbpo bundle manifest 1\n"  # so that what is signed for another purpose is no bundle's signature


def default_file() -> Path:
    """Where trusted keys are looked for without the variable."""
    return home() / "trusted_keys.json"


def configured() -> "TrustedKeys | None":
    """The trusted keys of this machine; None: none are configured. ConfigError: they are, and cannot be read."""
    named = os.environ.get(VARIABLE)
    if named is not None:
        require(bool(named), VARIABLE, named, "a file with trusted keys; or do not set it")
        return TrustedKeys.load(Path(named).expanduser())
    # Also a link that leads nowhere, such as one to a disk that is not there yet, says that there are keys.
    return TrustedKeys.load(default_file()) if os.path.lexists(default_file()) else None


@dataclass(frozen=True)
class TrustedKeys:
    """Whose signatures count.

    Attributes:
        file: where this stands.
        keys: public keys by name.
        revoked: names of keys that count no more, and why.
        refused: digests of manifests that are not used whoever signed them, and why.
    """

    file: Path
    keys: dict[str, Ed25519PublicKey]
    revoked: dict[str, str]
    refused: dict[str, str]

    @classmethod
    def load(cls, file: Path) -> "TrustedKeys":
        """Read the file. ConfigError names what is wrong in it."""
        try:
            raw = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise ConfigError("trusted keys", str(file), f"cannot be read: {error}") from None
        parts = [raw.get(name, {}) for name in ("keys", "revoked", "refused")] if isinstance(raw, dict) else []
        texts = all(isinstance(part, dict) and all(isinstance(v, str) for v in part.values()) for part in parts)
        known = isinstance(raw, dict) and set(raw) <= {"keys", "revoked", "refused"}
        require(
            known and texts and bool(parts[0]), f"trusted keys {file}", raw, "keys, and perhaps revoked and refused"
        )
        for digest in parts[2]:
            valid = "the 64 hexadecimal digits that `vla-mbpo security verify` prints"
            require(bool(_DIGEST.fullmatch(digest)), f"trusted keys {file}: refused", digest, valid)
        keys = {}
        for name, text in parts[0].items():
            try:
                keys[name] = Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))
            except ValueError:
                raise ConfigError(f"trusted keys {file}: {name}", text, "expected 32 bytes as base64") from None
        return cls(file, keys, parts[1], parts[2])

    def check(self, folder: Path, digest: str) -> str:
        """Who signed the bundle in ``folder`` whose manifest has this digest. ConfigError: nobody who counts."""
        bundle = f"bundle {folder}"
        require(digest not in self.refused, bundle, digest[:12], f"refused: {self.refused.get(digest)} ({self.file})")
        valid = f"signed by one of: {', '.join(sorted(set(self.keys) - set(self.revoked)))} ({self.file})"
        try:
            raw: Any = json.loads((folder / SIGNATURE).read_text())
            name, signed = str(raw["key"]), base64.b64decode(raw["signature"], validate=True)
        except FileNotFoundError:
            raise ConfigError(bundle, "unsigned", valid) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{bundle}: {SIGNATURE}", f"unreadable: {error}", valid) from None
        require(name not in self.revoked, bundle, f"signed by {name}, revoked: {self.revoked.get(name)}", valid)
        require(name in self.keys, bundle, f"signed by {name}, who is not trusted", valid)
        try:
            self.keys[name].verify(signed, _message(digest))
        except InvalidSignature:
            wrong = f"signature of {name} does not fit this manifest"
            raise ConfigError(bundle, wrong, valid) from None
        return name


@dataclass(frozen=True)
class SigningKey:
    """A private key and the name that its signatures carry."""

    name: str
    key: Ed25519PrivateKey

    @classmethod
    def load(cls, file: Path) -> "SigningKey":
        """Read what ``make_key`` wrote. ConfigError: others may read it too, or it is none."""
        try:
            require(not file.stat().st_mode & 0o077, "--key", str(file), "a file that only its owner reads (chmod 600)")
            raw = json.loads(file.read_text())
            private = serialization.load_pem_private_key(raw["private"].encode(), None)
        except ConfigError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError("--key", str(file), f"expected a key of `vla-mbpo security key`: {error}") from None
        if not isinstance(private, Ed25519PrivateKey):
            raise ConfigError("--key", str(file), "expected an Ed25519 key")
        return cls(str(raw["name"]), private)

    def sign(self, folder: Path, digest: str) -> None:
        """Write the signature of the manifest with this digest beside it."""
        content = {"key": self.name, "signature": base64.b64encode(self.key.sign(_message(digest))).decode()}
        partial = folder / f"{SIGNATURE}.partial"
        partial.write_text(json.dumps(content) + "\n")
        partial.rename(folder / SIGNATURE)

    def sign_all(self, folder: Path) -> list[Path]:
        """Sign the bundle in ``folder`` and, if it is a release, its parts. Returns their folders.

        ConfigError: a file is not as its manifest says; then nothing is signed.
        """
        from vla_mbpo.policy.bundle import Bundle

        found = [Bundle.read(file.parent) for file in sorted(folder.rglob("manifest.json"))]
        for bundle in found:
            self.sign(bundle.path, bundle.digest)
        return [bundle.path for bundle in found]


def make_key(file: Path, name: str) -> str:
    """A new private key in ``file``, readable by its owner only. Returns the entry for the trusted keys, as JSON.

    ConfigError: the file is there already.
    """
    require(bool(name.strip()), "--name", name, "expected a name")
    private = Ed25519PrivateKey.generate()
    formats = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    content = json.dumps({"name": name, "private": private.private_bytes(*formats).decode()}) + "\n"
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(content)
    except OSError as error:
        raise ConfigError("key", str(file), f"expected a new file: {error.strerror}") from None
    raw = private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return json.dumps({"keys": {name: base64.b64encode(raw).decode()}})


def _message(digest: str) -> bytes:
    return _CONTEXT + digest.encode()
