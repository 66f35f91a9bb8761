"""A keystore as SROS2 lays it out: one authority, one enclave per node with certificate, key and signed permissions.

`ros2 security` reads and extends it (RViz, an arm's own controllers). Private keys are files that only their owner
reads. Needs ``cryptography``, which SROS2 needs too.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7

from vla_mbpo.bringup import NodeSpec
from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.paths import domain, enclave
from vla_mbpo.security.permissions import governance, granted, permissions
from vla_mbpo.security.rights import Rights, stack_rights

DAYS = 365  # that certificates and permissions are valid
_ROLES = ("identity_ca", "permissions_ca")  # two names of the one authority
_SLACK = timedelta(minutes=10)  # clocks of two machines may differ


def create(folder: Path, rights: Mapping[str, Rights], days: int = DAYS) -> list[str]:
    """Make the keystore for ROS_DOMAIN_ID, or bring one to exactly these enclaves. Returns those that were removed.

    An existing authority and the keys of enclaves that stay are kept; permissions and governance are signed anew.
    ConfigError: the authority's key is not there.
    """
    require(1 <= days <= 3650, "--days", days, "expected 1 to 3650")
    begin = datetime.now(UTC) - _SLACK
    end = begin + timedelta(days=days)
    authority = _authority(folder, begin, end)
    left = (authority.cert.not_valid_after_utc - begin).days
    require(
        end <= authority.cert.not_valid_after_utc, "--days", days, f"at most {left}, as long as the authority lives"
    )
    enclaves = folder / "enclaves"
    _write_signed(enclaves / "governance", governance(domain()), authority)
    ours = _place(folder, "").glob("*")  # enclaves beside them are others'
    gone = [place.name for place in sorted(ours) if place.name not in rights]
    for name in gone:
        shutil.rmtree(_place(folder, name))
    for name, right in rights.items():
        place = _place(folder, name)
        place.mkdir(parents=True, exist_ok=True)
        _identity(place, enclave(name), authority, begin, end)
        for role in _ROLES:
            _link(place / f"{role}.cert.pem", folder / "public" / f"{role}.cert.pem")
        _link(place / "governance.p7s", enclaves / "governance.p7s")
        _write_signed(place / "permissions", permissions(name, right, domain(), begin, end), authority)
    return gone


def environment(folder: str, specs: Sequence[NodeSpec]) -> dict[str, str]:
    """What has the middleware enforce this keystore, for the processes of a graph.

    Refuses enclaves that permit something else than the graph needs. The middleware checks signatures when a node
    starts; this says beforehand, and in one line, what would fail. ConfigError names enclave and right.
    """
    place = Path(folder).expanduser().absolute()
    for name, right in stack_rights(specs).items():
        _check(place, name, right)
    return {
        "ROS_SECURITY_KEYSTORE": str(place),
        "ROS_SECURITY_ENABLE": "true",
        "ROS_SECURITY_STRATEGY": "Enforce",
    }


def _check(folder: Path, name: str, rights: Rights) -> None:
    place = _place(folder, name)
    authority = [f"{role}.cert.pem" for role in _ROLES]
    for file in ("cert.pem", "key.pem", "permissions.p7s", "governance.p7s", *authority):
        require((place / file).is_file(), "security keystore", str(place / file), f"one with the enclave of {name}")
    text = _signed_text((place / "permissions.p7s").read_text())
    found, of = granted(text, str(place / "permissions.p7s"))
    require(of == domain(), f"security keystore: {name}", f"domain {of}", f"made for ROS_DOMAIN_ID {domain()}")
    lacks, more = rights.beyond(found), found.beyond(rights)
    wrong = [f"may not: {what}" for what in lacks[:1]] + [f"may needlessly: {what}" for what in more[:1]]
    again = "make it again with the options of this start: vla-mbpo security keystore"
    require(not wrong, f"security keystore: {name}", "; ".join(wrong), again)


def _place(folder: Path, node: str) -> Path:
    return folder / "enclaves" / enclave(node).strip("/")


class _Authority:
    """Key and certificate that sign all others."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, cert: x509.Certificate) -> None:
        self.key, self.cert = key, cert


def _authority(folder: Path, begin: datetime, end: datetime) -> _Authority:
    public, private = folder / "public", folder / "private"
    cert_file, key_file = public / "ca.cert.pem", private / "ca.key.pem"
    for place in (public, private, folder / "enclaves"):
        place.mkdir(parents=True, exist_ok=True)
    private.chmod(0o700)
    if cert_file.exists():
        lost = "the authority's key: bring it back to sign anew"
        require(key_file.exists(), "security keystore", str(key_file), lost)
        authority = _Authority(_read_key(key_file), _read_certificate(cert_file))
    else:
        key = _key(key_file)  # there already, if a call was killed before it had the certificate
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "vla_mbpo authority")])
        # Ten times as long: it signs what comes after those that it signs today.
        cert = _certificate(name, name, key.public_key(), key, begin, begin + 10 * (end - begin), ca=True)
        _write(cert_file, cert.public_bytes(serialization.Encoding.PEM), 0o644)
        authority = _Authority(key, cert)
    for role in _ROLES:
        _link(public / f"{role}.cert.pem", cert_file)
        _link(private / f"{role}.key.pem", key_file)
    return authority


def _identity(place: Path, name: str, authority: _Authority, begin: datetime, end: datetime) -> None:
    """A key, made once, and a certificate for it."""
    key = _key(place / "key.pem")
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    cert = _certificate(subject, authority.cert.subject, key.public_key(), authority.key, begin, end)
    _write(place / "cert.pem", cert.public_bytes(serialization.Encoding.PEM), 0o644)


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    signer: ec.EllipticCurvePrivateKey,
    begin: datetime,
    end: datetime,
    ca: bool = False,
) -> x509.Certificate:
    builder = x509.CertificateBuilder(issuer, subject, public, x509.random_serial_number(), begin, end)
    limits = x509.BasicConstraints(ca=ca, path_length=1 if ca else None)
    return builder.add_extension(limits, critical=ca).sign(signer, hashes.SHA256())


def _write_signed(stem: Path, text: str, authority: _Authority) -> None:
    """The document as text, and with a detached S/MIME signature, as DDS-Security wants it."""
    builder = pkcs7.PKCS7SignatureBuilder().set_data(text.encode())
    builder = builder.add_signer(authority.cert, authority.key, hashes.SHA256())
    options = [pkcs7.PKCS7Options.Text, pkcs7.PKCS7Options.DetachedSignature]
    stem.with_suffix(".xml").write_text(text)
    stem.with_suffix(".p7s").write_bytes(builder.sign(serialization.Encoding.SMIME, options))


def _signed_text(mime: str) -> str:
    """The document inside a signed one: what counts, whatever the text beside it says."""
    begin, end = mime.find("<?xml"), mime.rfind("</dds>")
    return mime[begin : end + len("</dds>")] if 0 <= begin < end else ""


def _key(file: Path) -> ec.EllipticCurvePrivateKey:
    """The one in the file, or a new one that is written there."""
    if file.exists():
        return _read_key(file)
    key = ec.generate_private_key(ec.SECP256R1())
    _write_key(file, key)
    return key


def _read_key(file: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(file.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError("security keystore", str(file), f"expected a key without a password: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError("security keystore", str(file), "expected an elliptic-curve key")
    return key


def _read_certificate(file: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError("security keystore", str(file), f"expected a certificate: {error}") from None


def _write_key(file: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """A new file that nobody else ever could read."""
    formats = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    _write(file, key.private_bytes(*formats), 0o600)


def _write(file: Path, content: bytes, mode: int) -> None:
    """All of it, or nothing."""
    partial = file.with_name(f".{file.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
        out.write(content)
    partial.rename(file)


def _link(link: Path, target: Path) -> None:
    """Relative, so that the keystore may be moved; replaces what was there."""
    link.unlink(missing_ok=True)
    link.symlink_to(os.path.relpath(target, link.parent))
