"""With trusted keys configured, only what a trusted key has signed is loaded; everything else is refused by name."""

import json
import shutil

import pytest

from vla_mbpo import cli
from vla_mbpo.core.errors import ConfigError
from vla_mbpo.paths import bundle_dir
from vla_mbpo.policy import signature
from vla_mbpo.policy.bundle import Bundle, write_manifest
from vla_mbpo.policy.signature import SIGNATURE, SigningKey, make_key
from vla_mbpo.releases.release import Release, assemble


@pytest.fixture
def keys(tmp_path):
    """Two keys, alice and bob, each a file; and the entry of each for the trusted keys."""
    return {name: json.loads(make_key(tmp_path / f"{name}.key", name)) for name in ("alice", "bob")}


@pytest.fixture
def alice(keys, tmp_path):
    return SigningKey.load(tmp_path / "alice.key")


@pytest.fixture
def trust(keys, tmp_path, monkeypatch):
    """Configures trusted keys: those of alice, and what is given."""

    def configure(*names: str, **more: dict) -> None:
        entries = {name: keys[name]["keys"][name] for name in names or ("alice",)}
        (tmp_path / "trusted.json").write_text(json.dumps({"keys": entries, **more}))
        monkeypatch.setenv(signature.VARIABLE, str(tmp_path / "trusted.json"))

    return configure


@pytest.fixture
def bundle(tmp_path):
    return shutil.copytree(bundle_dir("detector_full"), tmp_path / "detector")


def test_a_signed_bundle_is_loaded(bundle, alice, trust):
    assert alice.sign_all(bundle) == [bundle]
    trust()
    assert Bundle.load(bundle).manifest["kind"] == "failure_detector"


def test_without_trusted_keys_nobody_asks(bundle):
    assert Bundle.load(bundle)


def test_an_unsigned_bundle_is_refused_and_says_whose_signature_it_needs(bundle, trust):
    trust()
    with pytest.raises(ConfigError, match="'unsigned' is not valid; signed by one of: alice"):
        Bundle.load(bundle)


def test_a_key_that_is_not_trusted_is_refused_by_name(bundle, keys, trust, tmp_path):
    SigningKey.load(tmp_path / "bob.key").sign_all(bundle)
    trust()
    with pytest.raises(ConfigError, match="signed by bob, who is not trusted"):
        Bundle.load(bundle)


def test_a_name_proves_nothing(bundle, keys, alice, trust, tmp_path):
    SigningKey("alice", SigningKey.load(tmp_path / "bob.key").key).sign_all(bundle)
    trust()
    with pytest.raises(ConfigError, match="signature of alice does not fit"):
        Bundle.load(bundle)


def test_a_revoked_key_is_refused_with_the_reason(bundle, alice, trust):
    alice.sign_all(bundle)
    trust("alice", "bob", revoked={"alice": "laptop lost"})
    with pytest.raises(ConfigError, match="alice, revoked: laptop lost' is not valid; signed by one of: bob"):
        Bundle.load(bundle)


def test_a_bundle_can_be_refused_whoever_signed_it(bundle, alice, trust):
    alice.sign_all(bundle)
    trust(refused={Bundle.read(bundle).digest: "drops cubes"})
    with pytest.raises(ConfigError, match="drops cubes"):
        Bundle.load(bundle)


def test_a_changed_constant_needs_a_new_signature(bundle, alice, trust):
    """The hashes of the files still fit."""
    alice.sign_all(bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps({**manifest, "votes": 1}))
    trust()
    with pytest.raises(ConfigError, match="signature of alice does not fit"):
        Bundle.load(bundle)


def test_a_manifest_that_is_written_again_is_unsigned(bundle, alice):
    alice.sign_all(bundle)
    manifest = {k: v for k, v in json.loads((bundle / "manifest.json").read_text()).items() if k != "files"}
    made = write_manifest(bundle, manifest)
    assert not (bundle / SIGNATURE).exists() and SIGNATURE not in made.manifest["files"]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"keys": {}}', '{"keys": {"alice": "short"}}', '{"trusted": {}}'])
def test_unreadable_trusted_keys_let_nothing_through(bundle, alice, trust, tmp_path, text):
    alice.sign_all(bundle)
    trust()
    (tmp_path / "trusted.json").write_text(text)
    with pytest.raises(ConfigError, match="trusted keys"):
        Bundle.load(bundle)


def test_missing_trusted_keys_let_nothing_through(bundle, alice, monkeypatch, tmp_path):
    alice.sign_all(bundle)
    monkeypatch.setenv(signature.VARIABLE, str(tmp_path / "gone.json"))
    with pytest.raises(ConfigError, match="gone.json"):
        Bundle.load(bundle)


def test_trusted_keys_are_found_where_this_machine_keeps_things(bundle, keys, monkeypatch, tmp_path):
    monkeypatch.delenv(signature.VARIABLE, raising=False)
    monkeypatch.setenv("VLA_MBPO_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home/trusted_keys.json").write_text(json.dumps(keys["alice"]))
    with pytest.raises(ConfigError, match="unsigned"):
        Bundle.load(bundle)


def test_a_release_is_signed_with_its_parts(alice, trust, tmp_path):
    trust()
    made = assemble(tmp_path / "release", Bundle.read(bundle_dir("sft_full")), {"reason": "test"}, key=alice)
    assert Release.load(made.path).policy.version == made.policy.version
    (made.path / "policy" / SIGNATURE).unlink()
    with pytest.raises(ConfigError, match="unsigned"):
        Release.load(made.path)


def test_a_release_that_nobody_signs_is_not_made_where_keys_are_trusted(trust, tmp_path):
    trust()
    with pytest.raises(ConfigError, match="unsigned"):
        assemble(tmp_path / "release", Bundle.read(bundle_dir("sft_full")), {"reason": "test"})


def test_a_private_key_that_others_may_read_is_not_used(keys, tmp_path):
    (tmp_path / "alice.key").chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        SigningKey.load(tmp_path / "alice.key")


def test_a_key_is_never_written_over(keys, tmp_path):
    with pytest.raises(ConfigError, match="alice.key"):
        make_key(tmp_path / "alice.key", "alice")


def test_the_command_makes_signs_and_verifies(bundle, tmp_path, capsys):
    key, trusted = tmp_path / "carol.key", tmp_path / "carol.json"
    assert cli.main(["security", "key", str(key), "--name", "carol"]) == 0
    trusted.write_text(capsys.readouterr().out)
    assert cli.main(["security", "verify", str(bundle), "--keys", str(trusted)]) == 64
    assert "unsigned" in capsys.readouterr().err
    assert cli.main(["security", "sign", str(bundle), "--key", str(key)]) == 0
    assert cli.main(["security", "verify", str(bundle), "--keys", str(trusted)]) == 0
    assert "signed by carol" in capsys.readouterr().out


@pytest.mark.parametrize("digest", ["0123456789ab", "A" * 64, "detector_full@0123456789ab"])
def test_a_digest_that_could_never_match_is_refused(bundle, alice, trust, digest):
    """Incident: the twelve digits that messages show were taken, and refused nothing."""
    alice.sign_all(bundle)
    trust(refused={digest: "drops cubes"})
    with pytest.raises(ConfigError, match="refused: .* 64 hexadecimal digits"):
        Bundle.load(bundle)


def test_an_empty_name_of_the_trusted_keys_lets_nothing_through(bundle, monkeypatch):
    """Incident: `docker run -e VLA_MBPO_TRUSTED_KEYS=$UNSET` loaded unsigned models."""
    monkeypatch.setenv(signature.VARIABLE, "")
    with pytest.raises(ConfigError, match=signature.VARIABLE):
        Bundle.load(bundle)


def test_trusted_keys_behind_a_link_that_leads_nowhere_let_nothing_through(bundle, monkeypatch, tmp_path):
    """Incident: the disk that they were on was not there yet, and unsigned models were loaded."""
    monkeypatch.delenv(signature.VARIABLE, raising=False)
    monkeypatch.setenv("VLA_MBPO_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home/trusted_keys.json").symlink_to(tmp_path / "not mounted")
    with pytest.raises(ConfigError, match="trusted keys"):
        Bundle.load(bundle)
