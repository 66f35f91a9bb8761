"""A bundle is what its manifest says, or it is refused."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.paths import robot_dir
from vla_mbpo.policy.bundle import Bundle, write_manifest
from vla_mbpo.policy.runtime import PolicySession
from vla_mbpo.policy.sessions import load_policy

FILES = ("encoder.int8.onnx", "step.int8.onnx", "policy.safetensors")


@pytest.fixture
def bundle(tiny_bundle, tmp_path):
    return shutil.copytree(tiny_bundle, tmp_path / "tiny")


def manifest_of(bundle) -> dict:
    return json.loads((bundle / "manifest.json").read_text())


def change(bundle, **fields) -> None:
    (bundle / "manifest.json").write_text(json.dumps({**manifest_of(bundle), **fields}))


def flip(file, position: int) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 1
    file.write_bytes(content)


def test_the_manifest_lists_every_file(bundle):
    assert set(manifest_of(bundle)["files"]) == set(FILES)
    assert {file.name for file in bundle.iterdir()} == {*FILES, "manifest.json"}


@pytest.mark.parametrize("where", [0.0, 0.3, 0.999])
@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_refused_with_the_file_named(bundle, name, where):
    file = bundle / name
    flip(file, int(where * file.stat().st_size))
    with pytest.raises(ConfigError, match=name):
        Bundle.load(bundle)


@pytest.mark.parametrize("name", FILES)
def test_a_shortened_file_is_refused_with_the_file_named(bundle, name):
    file = bundle / name
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ConfigError, match=name):
        Bundle.load(bundle)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused_with_the_file_named(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(ConfigError, match=rf"{name}.*missing"):
        Bundle.load(bundle)


def test_a_missing_manifest_is_refused(bundle):
    (bundle / "manifest.json").unlink()
    with pytest.raises(ConfigError, match=r"manifest\.json"):
        Bundle.load(bundle)


def test_a_half_written_manifest_is_refused(bundle):
    text = (bundle / "manifest.json").read_text()
    (bundle / "manifest.json").write_text(text[: len(text) // 2])
    with pytest.raises(ConfigError, match=r"manifest\.json"):
        Bundle.load(bundle)


def test_a_manifest_that_is_no_text_is_refused(bundle):
    (bundle / "manifest.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ConfigError, match=r"manifest\.json"):
        Bundle.load(bundle)


@pytest.mark.parametrize("key", ["name", "files", "vocabulary", "policy", "normalisation"])
def test_a_manifest_without_a_key_is_refused_with_the_key_named(bundle, key):
    manifest = manifest_of(bundle)
    del manifest[key]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ConfigError, match=f"'{key}'"):
        PolicySession.load(bundle)


@pytest.mark.parametrize("key", ["joints", "gripper", "row_period"])
def test_a_manifest_without_what_the_runtime_reads_is_refused_with_the_key_named(bundle, key):
    manifest = manifest_of(bundle)
    del manifest[key]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ConfigError, match=f"'{key}'"):
        PolicySession.load(bundle)


def test_the_version_is_the_name_and_the_start_of_the_digest(bundle):
    loaded = Bundle.load(bundle)
    assert len(loaded.digest) == 64
    assert loaded.version == f"tiny@{loaded.digest[:12]}"
    assert PolicySession.load(bundle).version == loaded.version


def test_a_copy_has_the_same_version(bundle, tiny_bundle):
    assert Bundle.load(bundle).version == Bundle.load(tiny_bundle).version


@pytest.mark.parametrize("name", FILES)
def test_other_weights_have_another_version(bundle, name):
    before = Bundle.load(bundle)
    flip(bundle / name, 100)
    assert write_manifest(bundle, before.manifest).version != before.version


def test_other_normalisation_constants_have_another_version(bundle):
    before = Bundle.load(bundle).version
    normalisation = manifest_of(bundle)["normalisation"]
    normalisation["action_std"][5][0] *= 2
    change(bundle, normalisation=normalisation)
    assert Bundle.load(bundle).version != before


def test_a_graph_that_the_manifest_does_not_list_is_refused(bundle):
    change(bundle, files={"policy.safetensors": manifest_of(bundle)["files"]["policy.safetensors"]})
    with pytest.raises(ConfigError, match="onnx"):
        PolicySession.load(bundle)


@pytest.mark.parametrize("steps", [0, -1, 33])
def test_a_number_of_flow_steps_out_of_range_is_refused(bundle, steps):
    with pytest.raises(ConfigError, match="steps"):
        PolicySession.load(bundle, steps=steps)


def test_the_manifest_says_what_the_bundle_was_made_for(bundle, spec):
    manifest = manifest_of(bundle)
    assert manifest["robot"] == spec.name
    assert manifest["joints"] == list(spec.joints)
    assert manifest["row_period"] == spec.row_period / 1e9
    assert manifest["gripper"] == {"range": list(spec.gripper_range), "speed": spec.gripper_speed}
    assert manifest["action_bins"]["count"] == 256


def test_the_weights_are_the_networks_in_half_precision(bundle, tiny_net):
    weights = load_file(bundle / "policy.safetensors")
    for name, value in tiny_net.state_dict().items():
        np.testing.assert_array_equal(weights[name], value.numpy().astype(np.float16))


def test_the_exported_graphs_reproduce_the_network(bundle):
    parity = manifest_of(bundle)["parity"]
    assert set(parity) == {"encoder", "step"}
    assert all(0 <= value <= 1e-4 for value in parity.values())


def test_a_policy_of_another_robot_is_refused(bundle):
    """Incident: chunks carry the joint names of the arm that runs, so sft_full would have driven an xarm7."""
    with pytest.raises(ConfigError, match=r"bundle tiny: joints: \['panda_joint1'.*those of xarm7"):
        load_policy(bundle, RobotSpec.load(robot_dir("xarm7")))


def test_a_policy_of_another_row_period_is_refused(bundle, spec):
    change(bundle, row_period=0.1)
    with pytest.raises(ConfigError, match="bundle tiny: row_period: 0.1 is not valid; 0.05 s"):
        load_policy(bundle, spec)


@pytest.mark.parametrize("name", ["lab/pi0", "../out", "", ".hidden", 7])
def test_a_name_that_is_a_path_is_refused(bundle, name):
    """Incident: a release called ../out was moved out of its store."""
    change(bundle, name=name)
    with pytest.raises(ConfigError, match=r"manifest\.json: name: .* letters, digits"):
        Bundle.load(bundle)
