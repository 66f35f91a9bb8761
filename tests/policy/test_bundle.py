"""A bundle is what its manifest says, or it is refused."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.paths import robot_dir
from vla_mbpo.policy.bundle import Bundle, rebuilt, write_manifest
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


@pytest.mark.parametrize("files", [[], ["policy.safetensors"], None, 3])
def test_files_that_are_no_table_are_refused_with_the_field_named(bundle, files):
    """Incident: a list ended in an AttributeError."""
    change(bundle, files=files)
    with pytest.raises(ConfigError, match=r"manifest\.json: files: .* SHA-256 of each file"):
        Bundle.load(bundle)


@pytest.mark.parametrize("kind", ["polcy", "", None, []])
def test_an_unknown_kind_is_refused_with_the_known_ones_named(bundle, kind):
    """Incident: it was loaded as a verified bundle, of which no key had been looked for."""
    change(bundle, kind=kind)
    with pytest.raises(ConfigError, match=r"manifest\.json: kind: .* one of policy, world_model"):
        Bundle.load(bundle)


def content(folder) -> dict:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def rewrite(folder, kind="policy", fail=False) -> None:
    """A bundle with other weights, as an export writes it."""
    with rebuilt(folder, kind) as beside:
        (beside / "policy.safetensors").write_bytes(b"other")
        if fail:
            raise RuntimeError("the graph step differs")
        write_manifest(beside, {k: v for k, v in manifest_of(folder).items() if k != "files"})


def test_a_bundle_stays_as_it_was_where_its_successor_is_not_finished(bundle):
    """Incident: an export deleted all that was in its folder before it knew whether it would succeed."""
    before = content(bundle)
    with pytest.raises(RuntimeError, match="differs"):
        rewrite(bundle, fail=True)
    assert content(bundle) == before and [file.name for file in bundle.parent.iterdir()] == [bundle.name]


def test_a_new_bundle_takes_the_place_of_the_old_one_and_leaves_what_is_not_of_it(bundle):
    (bundle / "notes").mkdir()
    (bundle / "notes" / "card.md").write_text("trained on a Monday")
    (bundle / "manifest.sig").write_text("of the old one")
    rewrite(bundle)
    assert Bundle.read(bundle).manifest["files"].keys() == {"policy.safetensors"}
    assert content(bundle).keys() == {"policy.safetensors", "manifest.json", "notes/card.md"}
    assert [file.name for file in bundle.parent.iterdir()] == [bundle.name]


@pytest.mark.parametrize(
    "there",
    [
        {"thesis.tex": "years of work"},
        {"state.json": "{}", "checkpoint_500.safetensors": "x"},
        {"manifest.json": "{}"},
        {"manifest.json": '{"kind": "world_model", "files": {}}'},
        {"manifest.json": '{"kind": "policy", "files": {}, "adapter": "onnx"}', "theirs.onnx": "x"},
    ],
    ids=["work", "a run", "another manifest", "another kind", "somebody else's policy"],
)
def test_a_folder_that_holds_no_bundle_to_replace_is_refused_and_stays(tmp_path, there):
    """Incident: an export emptied whatever folder it was told to write to."""
    for name, text in there.items():
        (tmp_path / name).write_text(text)
    before = content(tmp_path)
    with pytest.raises(ConfigError, match="out: .* empty or not there yet, or a policy bundle to replace"):
        rewrite(tmp_path)
    assert content(tmp_path) == before


def test_a_bundle_whose_writer_was_killed_between_its_renames_is_there_again(bundle):
    before = content(bundle)
    bundle.rename(bundle.with_name(f".{bundle.name}.before"))
    with pytest.raises(RuntimeError, match="killed"), rebuilt(bundle, "policy"):
        raise RuntimeError("killed again, and early")
    assert content(bundle) == before
