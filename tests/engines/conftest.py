"""A compiled bundle, and a GPU that is played."""

import os

import pytest
from emulated_gpu import NAME, PlayedDriver, PlayedLibrary

from vla_mbpo.engines import build, cuda, libraries
from vla_mbpo.engines.cache import Cache
from vla_mbpo.policy.bundle import Bundle


@pytest.fixture(scope="session")
def kept_graphs(tiny_bundle, tmp_path_factory):
    """A cache with the float graphs of ``tiny_bundle``. Read only: see ``cache``."""
    from vla_mbpo.engines.graphs import compiled

    cache = Cache(tmp_path_factory.mktemp("compiled") / "engines")
    compiled(Bundle.load(tiny_bundle), cache)
    return cache


@pytest.fixture
def cache(kept_graphs, tmp_path):
    """A copy of it that a test may change."""
    import shutil

    folder = shutil.copytree(kept_graphs.folder, tmp_path / "engines")
    os.chmod(folder, 0o700)
    return Cache(folder)


@pytest.fixture
def gpu(monkeypatch):
    """A GPU of architecture SM89 whose engines are ONNX graphs, which the CPU runs."""
    driver, library = PlayedDriver(), PlayedLibrary()
    monkeypatch.setattr(cuda, "driver", lambda: driver)
    monkeypatch.setattr(libraries, "version", lambda name: "9.9" if name == "tensorrt_rtx" else "")
    monkeypatch.setattr(libraries, "module", lambda name: library)
    monkeypatch.setattr(build, "compile_graph", lambda name, model, library, architecture: (model, 1, 0.1))
    assert driver.device().name == NAME
    return driver
