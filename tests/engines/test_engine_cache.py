"""Engines are found by what they were made from, and used only if they are what was kept."""

import json
import os

import pytest

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.engines import cache as cache_module
from vla_mbpo.engines.cache import Cache, Key

KEY = Key("a" * 64, "tensorrt_rtx", "1.7.1", "SM89")
RECORD = {"precision": "fp32", "workspace": 1, "verified": None}


@pytest.fixture
def shipped(tmp_path):
    file = tmp_path / "step.int8.onnx"
    file.write_bytes(b"a graph")
    return file


@pytest.fixture
def kept(tmp_path, shipped):
    cache = Cache(tmp_path / "engines")
    return cache.keep(shipped, "step", "sft@1", {"fp32": (b"floats", {})})


@pytest.mark.parametrize("field", ["onnx", "library", "version", "target"])
def test_another_graph_library_version_or_gpu_has_another_engine(kept, field):
    kept.keep_engine(KEY, b"engine", RECORD)
    other = Key(**{**KEY.__dict__, field: "other"})
    assert kept.engine(KEY)["target"] == "SM89" and kept.plan(KEY) == b"engine"
    assert kept.engine(other) is None


def test_what_was_compiled_for_another_file_is_not_found(kept, shipped, tmp_path):
    assert Cache(tmp_path / "engines").graph(shipped).onnx("fp32") == b"floats"
    shipped.write_bytes(b"another graph")
    assert Cache(tmp_path / "engines").graph(shipped) is None


@pytest.mark.parametrize("damage", [b"Engine", b"engin", b""])
def test_a_changed_engine_is_refused(kept, damage):
    kept.keep_engine(KEY, b"engine", RECORD)
    (kept.folder / f"{KEY.digest}.engine").write_bytes(damage)
    with pytest.raises(ConfigError, match="engine cache: sft@1, step.*sha256"):
        kept.plan(KEY)


def test_a_changed_float_graph_is_refused(kept):
    (kept.folder / "fp32.onnx").write_bytes(b"Floats")
    with pytest.raises(ConfigError, match="fp32.onnx.*sha256"):
        kept.onnx("fp32")


def test_a_missing_engine_is_refused(kept):
    kept.keep_engine(KEY, b"engine", RECORD)
    (kept.folder / f"{KEY.digest}.engine").unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        kept.plan(KEY)


def test_a_record_of_another_key_is_refused(kept):
    kept.keep_engine(KEY, b"engine", RECORD)
    file = kept.folder / f"{KEY.digest}.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"target": "SM120"}))
    with pytest.raises(ConfigError, match="target: 'SM120'"):
        kept.engine(KEY)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"onnx": 3}'])
def test_a_broken_record_is_refused_with_the_file_named(kept, shipped, tmp_path, content):
    (kept.folder / "graph.json").write_text(content)
    with pytest.raises(ConfigError, match="graph.json"):
        Cache(tmp_path / "engines").graph(shipped)


@pytest.mark.parametrize("place", ["", "graph"])
def test_a_folder_that_others_may_write_is_refused(kept, shipped, tmp_path, place):
    folder = kept.folder if place else tmp_path / "engines"
    folder.chmod(0o777)
    with pytest.raises(ConfigError, match="nobody but its owner"):
        Cache(tmp_path / "engines").graph(shipped)


def test_a_cache_made_under_the_usual_umask_of_a_desktop_is_taken(tmp_path, shipped):
    """Incident: umask 0002, engines/ was writable for the group, and every compile failed."""
    before = os.umask(0o002)
    try:
        cache = Cache(tmp_path / "share" / "engines")
        cache.keep(shipped, "step", "tiny", {"fp32": (b"floats", {})})
    finally:
        os.umask(before)
    assert cache.folder.stat().st_mode & 0o777 == 0o700


def test_a_kill_while_something_is_replaced_leaves_nothing_and_no_mixture(kept, shipped, tmp_path, monkeypatch):
    """The old record beside the new file was damage, which `compile` did not mend and no node fell back from."""
    kept.keep_engine(KEY, b"engine", RECORD)
    write = cache_module._write

    def killed(file, content):
        write(file, content)
        raise KeyboardInterrupt

    monkeypatch.setattr(cache_module, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        kept.keep_engine(KEY, b"another engine", RECORD)
    assert kept.engine(KEY) is None
    cache = Cache(tmp_path / "engines")
    with pytest.raises(KeyboardInterrupt):
        cache.keep(shipped, "step", "sft@1", {"fp32": (b"other floats", {})})
    assert cache.graph(shipped) is None
