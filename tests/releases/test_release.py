"""A release: its parts belong together, and every file is as the manifest says."""

import json
import shutil

import pytest

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.policy.bundle import Bundle, write_manifest
from vla_mbpo.releases.release import Release, adopt, assemble, part, stated_versions


@pytest.fixture(scope="module")
def full(tmp_path_factory, tiny_bundle, tiny_world_model, tiny_detector):
    """A release with every part. Read only."""
    folder = tmp_path_factory.mktemp("releases") / "full"
    folder.mkdir()
    bundles = (Bundle.load(path) for path in (tiny_bundle, tiny_world_model, tiny_detector))
    policy, model, watch = bundles
    return assemble(folder, policy, {"reason": "test"}, model, watch, tiny_detector.with_name("bands.json"))


@pytest.fixture
def copy(full, tmp_path):
    return shutil.copytree(full.path, tmp_path / "copy")


def test_it_states_the_versions_of_its_parts(full):
    assert stated_versions(full.path) == {
        "policy": full.policy.version,
        "world_model": full.world_model.version,
        "failure_detector": full.detector.version,
        "bands": full.bands.id,
    }


def test_every_file_is_in_the_manifest(full):
    files = {file.relative_to(full.path).as_posix() for file in full.path.rglob("*") if file.is_file()}
    assert set(full.bundle.manifest["files"]) == files - {"manifest.json"}
    assert "policy/step.int8.onnx" in files and "bands.json" in files


def test_a_policy_alone_is_a_release(policies, tmp_path):
    found = assemble(tmp_path, policies["old"], {"reason": "test"})
    assert (found.world_model, found.detector, found.bands) == (None, None, None)


@pytest.mark.parametrize(
    "name", ["policy/step.int8.onnx", "policy/manifest.json", "world_model/decode.onnx", "bands.json"]
)
def test_a_changed_file_is_named(copy, name):
    (copy / name).write_bytes((copy / name).read_bytes() + b" ")
    with pytest.raises(ConfigError, match=f"{name}.*sha256"):
        Release.load(copy)


def test_a_missing_file_is_named(copy):
    (copy / "world_model" / "observe.int8.onnx").unlink()
    with pytest.raises(ConfigError, match="world_model/observe.int8.onnx.*missing"):
        Release.load(copy)


def test_a_part_of_another_version_is_refused(copy, policies):
    shutil.rmtree(copy / "policy")
    shutil.copytree(policies["old"].path, copy / "policy")
    with pytest.raises(ConfigError, match="policy.*old@"):
        part(copy, "policy")


@pytest.mark.parametrize("kind", ["world_model", "failure_detector"])
def test_parts_of_another_policy_version_do_not_belong_together(full, policies, tmp_path, kind):
    parts = {"world_model": full.world_model} if kind == "world_model" else {"detector": full.detector}
    bands = full.path / "bands.json" if kind == "failure_detector" else None
    with pytest.raises(ConfigError, match=f"{kind}.*{policies['old'].version}"):
        assemble(tmp_path, policies["old"], {}, bands=bands, **parts)


def test_a_detector_without_bands_is_refused(full, tmp_path):
    with pytest.raises(ConfigError, match="bands"):
        assemble(tmp_path, full.policy, {}, detector=full.detector)


def test_an_adopted_world_model_names_the_new_policy_and_where_it_is_from(full, policies, tmp_path):
    version = policies["old"].version
    found = adopt(full.world_model, tmp_path / "world_model", [*full.world_model.manifest["policies"], version], "why")
    assert version in found.manifest["policies"] and found.version != full.world_model.version
    assert found.manifest["adopted"][0]["from"] == full.world_model.version
    assert found.manifest["files"] == full.world_model.manifest["files"]


def test_files_outside_of_the_folder_are_not_read(policies, tmp_path):
    folder = assemble(tmp_path / "in", policies["old"], {}).path if (tmp_path / "in").mkdir() is None else None
    manifest = json.loads((folder / "manifest.json").read_text())
    (tmp_path / "out").write_text("x")
    manifest["files"]["../out"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ConfigError, match="below the bundle"):
        Release.load(folder)


def test_a_bundle_is_no_release(tiny_bundle):
    with pytest.raises(ConfigError, match="a policy"):
        Release.load(tiny_bundle)


def test_manifests_of_folders_in_folders_are_hashed_too(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "manifest.json").write_text("{}")
    found = write_manifest(tmp_path, {"name": "x", "kind": "release", "versions": {}, "decision": {}})
    assert list(found.manifest["files"]) == ["a/b/manifest.json"]
