"""Permissions say what the graph needs and nothing else, and a keystore that says more is refused."""

import shutil
import subprocess
from dataclasses import replace
from datetime import datetime

import pytest
import yaml

from vla_mbpo import cli
from vla_mbpo.bringup import Options, graph
from vla_mbpo.core.errors import ConfigError
from vla_mbpo.engines.budget import parameters
from vla_mbpo.paths import robot_dir, share_dir
from vla_mbpo.security import keystore
from vla_mbpo.security.permissions import granted, permissions
from vla_mbpo.security.rights import TABLE, Rights, rights, stack_rights

EVER = datetime(2026, 1, 1), datetime(2036, 1, 1)
EVERYTHING = "--world-model world_model --detector detector_full --record episodes --markers --trainer loop".split()


@pytest.fixture(autouse=True)
def domain_7(monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", "7")


@pytest.fixture(scope="module")
def specs():
    return graph(options=Options(page=False, joy=False))


@pytest.fixture
def store(tmp_path, specs):
    keystore.create(tmp_path / "keystore", stack_rights(specs))
    return tmp_path / "keystore"


def test_every_node_of_the_graph_is_in_the_table():
    wanted = Options(markers=True, record="r", trainer="t", world_model="world_model", detector="detector_full")
    dry = graph("ur5e", replace(wanted, dry_run=True))
    assert {spec.executable for spec in [*graph(options=wanted), *dry]} == set(TABLE)


def test_the_texts_in_config_are_those_of_the_graph(tmp_path, monkeypatch):
    """So that a new right shows in a review."""
    monkeypatch.setenv("ROS_DOMAIN_ID", "0")
    assert cli.main(["security", "permissions", str(tmp_path), *EVERYTHING]) == 0
    made = {file.name: file.read_text() for file in tmp_path.iterdir()}
    kept = {file.name: file.read_text() for file in (share_dir() / "config/security/sim_panda").iterdir()}
    assert made == kept


def test_only_the_gate_and_the_driver_may_say_what_moves_the_arm(specs):
    found = stack_rights(specs)
    for topic, only in (("/gate/approved_chunk", "gate"), ("/arm_controller/joint_trajectory", "arm_driver")):
        assert [name for name, right in found.items() if topic in right.publishes] == [only]


@pytest.mark.parametrize(
    ("override", "right"),
    [
        ({"gate": {"pendant_timeout": 1.0}}, ("gate", "subscribes /pendant")),
        ({"arm_driver": {"output": "position_stream"}}, ("arm_driver", "publishes /arm_controller/commands")),
        ({"wrist_camera": {"view": "head"}}, ("wrist_camera", "publishes /head_camera/color/image_raw")),
    ],
)
def test_a_parameter_changes_the_rights_that_depend_on_it(specs, override, right):
    name, what = right
    other = {spec.name: spec for spec in graph(options=Options(page=False, joy=False, overrides=override))}
    plain = {spec.name: spec for spec in specs}
    assert what in rights(other[name]).beyond(rights(plain[name]))


@pytest.mark.parametrize("section", ["gate", "/gate", "/**/gate"])
def test_rights_and_budget_read_params_yaml_as_ros_does(tmp_path, section):
    """Incident (review): of a section that is named otherwise than its node, rights and memory were not counted."""
    folder = shutil.copytree(robot_dir("ur5e"), tmp_path / "ur5e")
    said = yaml.safe_load((folder / "params.yaml").read_text())
    said[section] = said.pop("gate")
    said[section]["ros__parameters"]["pendant_timeout"] = 0.5
    (folder / "params.yaml").write_text(yaml.safe_dump(said))
    (gate,) = (spec for spec in graph(str(folder)) if spec.name == "gate")
    assert "/pendant" in rights(gate).subscribes and parameters(gate)["pendant_timeout"] == 0.5


def test_permissions_read_back_as_they_were_written(specs):
    for name, right in stack_rights(specs).items():
        assert granted(permissions(name, right, 7, *EVER), name) == (right, 7)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("rt/gate/state<", "rt/gate/*<"),
        ("<default>DENY", "<default>ALLOW"),
        ("rr/gate/engageReply", "rr/gate/resetReply"),
        ("<topic>rt/joy</topic>", "<topic>joy</topic>"),
        ("</allow_rule>", "</allow_rule><allow_rule/>"),
    ],
)
def test_permissions_that_hide_more_are_not_read(specs, old, new):
    text = permissions("teleop", stack_rights(specs)["teleop"], 7, *EVER)
    assert old in text
    with pytest.raises(ConfigError, match="teleop"):
        granted(text.replace(old, new), "teleop")


def test_the_keystore_of_this_graph_is_taken(store, specs):
    assert keystore.environment(str(store), specs) == {
        "ROS_SECURITY_KEYSTORE": str(store),
        "ROS_SECURITY_ENABLE": "true",
        "ROS_SECURITY_STRATEGY": "Enforce",
    }


def test_a_keystore_that_grants_more_or_less_is_refused_with_the_right_named(store, specs):
    more = stack_rights(specs)
    more["policy"] |= Rights(publishes=frozenset({"/gate/approved_chunk"}))
    keystore.create(store, more)
    with pytest.raises(ConfigError, match="policy: 'may needlessly: publishes /gate/approved_chunk'"):
        keystore.environment(str(store), specs)
    less = stack_rights(specs)
    less["policy"] = replace(less["policy"], calls=frozenset(), subscribes=frozenset())
    keystore.create(store, less)
    with pytest.raises(ConfigError, match="policy: 'may not: subscribes "):
        keystore.environment(str(store), specs)


def test_the_text_beside_the_signature_does_not_count(store, specs):
    (store / "enclaves/vla_mbpo/policy/permissions.xml").write_text("anything")
    assert keystore.environment(str(store), specs)


def test_a_keystore_of_another_domain_is_refused(store, specs, monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", "8")
    with pytest.raises(ConfigError, match="domain 7"):
        keystore.environment(str(store), specs)


def test_a_keystore_without_a_node_is_refused(store, specs):
    shutil.rmtree(store / "enclaves/vla_mbpo/policy")
    with pytest.raises(ConfigError, match="enclave of policy"):
        keystore.environment(str(store), specs)


def test_renewing_keeps_keys_and_takes_away_enclaves_that_are_gone(store, specs):
    key = (store / "enclaves/vla_mbpo/gate/key.pem").read_bytes()
    (store / "enclaves/rviz").mkdir()  # somebody else's, made with `ros2 security`
    kept = {name: right for name, right in stack_rights(specs).items() if name != "teleop"}
    assert keystore.create(store, kept) == ["teleop"]
    assert (store / "enclaves/vla_mbpo/gate/key.pem").read_bytes() == key
    assert {place.name for place in (store / "enclaves/vla_mbpo").iterdir()} == set(kept)
    assert (store / "enclaves/rviz").is_dir()


def test_without_the_authoritys_key_nothing_is_signed(store, specs):
    (store / "private/ca.key.pem").unlink()
    with pytest.raises(ConfigError, match=r"ca\.key\.pem"):
        keystore.create(store, stack_rights(specs))


def test_a_call_that_was_killed_between_key_and_certificate_can_be_made_again(store, specs):
    """The certificate came first, and from then on the key was asked for that had never been written."""
    (store / "public" / "ca.cert.pem").unlink()
    before = (store / "private" / "ca.key.pem").read_bytes()
    keystore.create(store, stack_rights(specs))
    assert (store / "private" / "ca.key.pem").read_bytes() == before
    assert keystore.environment(str(store), specs)


def test_links_that_are_missing_are_named_and_made_again(store, specs):
    for file in (store / "public" / "identity_ca.cert.pem", store / "private" / "permissions_ca.key.pem"):
        file.unlink()
    with pytest.raises(ConfigError, match=r"identity_ca\.cert\.pem"):
        keystore.environment(str(store), specs)
    keystore.create(store, stack_rights(specs))
    assert keystore.environment(str(store), specs) and (store / "private" / "permissions_ca.key.pem").exists()


def test_a_torn_certificate_is_named(store, specs):
    (store / "public" / "ca.cert.pem").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"ca\.cert\.pem"):
        keystore.create(store, stack_rights(specs))


def test_a_torn_key_is_named(store, specs):
    file = store / "private" / "ca.key.pem"
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(ConfigError, match=r"ca\.key\.pem"):
        keystore.create(store, stack_rights(specs))


def test_nobody_else_reads_the_keys(store):
    keys = [file for file in store.rglob("*key.pem") if not file.is_symlink()]
    assert len(keys) > 5 and all(file.stat().st_mode & 0o077 == 0 for file in keys)


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")
def test_openssl_agrees_with_certificates_and_signatures(store):
    authority = store / "public/ca.cert.pem"
    place = store / "enclaves/vla_mbpo/gate"
    verify = ["openssl", "verify", "-CAfile", authority, place / "cert.pem"]
    assert subprocess.run(verify, capture_output=True).returncode == 0
    for file in ("permissions.p7s", "governance.p7s"):
        check = ["openssl", "smime", "-verify", "-in", place / file, "-CAfile", authority]
        assert subprocess.run(check, capture_output=True).returncode == 0, file
    broken = (place / "permissions.p7s").read_text().replace("rt/gate/state", "rt/gate/start")
    (place / "broken.p7s").write_text(broken)
    check = ["openssl", "smime", "-verify", "-in", place / "broken.p7s", "-CAfile", authority]
    assert subprocess.run(check, capture_output=True).returncode != 0


def test_nothing_is_signed_for_longer_than_its_authority_lives(tmp_path, specs):
    """Incident: a renewed keystore called itself valid for a year, and its authority ended before."""
    keystore.create(tmp_path / "keystore", stack_rights(specs), days=10)
    with pytest.raises(ConfigError, match="--days: 365 is not valid; at most (99|100)"):
        keystore.create(tmp_path / "keystore", stack_rights(specs))
    keystore.create(tmp_path / "keystore", stack_rights(specs), days=90)
