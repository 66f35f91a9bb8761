"""Exports: a graph that is not the network is refused, and a bundle that was there stays."""

import shutil
from copy import deepcopy
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs torch: `make setup-dev`")

from vla_mbpo.imagination import export as world_model  # noqa: E402  (after the check that torch is there)
from vla_mbpo.policy.bundle import Bundle  # noqa: E402
from vla_mbpo.policy.export import PARITY, difference, export_bundle, export_graph, require_parity  # noqa: E402
from vla_mbpo.training import detector_export  # noqa: E402


class Both(torch.nn.Module):
    def forward(self, x):
        return x + 1.0, x - 1.0


def test_a_nan_in_any_output_is_a_difference(tmp_path):
    """Incident: Python's max dropped a NaN that was not the first."""
    x = torch.ones(3)
    export_graph(Both(), (x,), ["x"], ["more", "less"], tmp_path / "both.onnx", None)
    more, less = Both()(x)
    assert difference(tmp_path / "both.onnx", (x,), (more, less)) == 0.0
    assert difference(tmp_path / "both.onnx", (x,), (more, less * float("nan"))) != 0.0


def test_a_graph_does_not_say_where_it_was_exported(tmp_path):
    """Incident: the shipped graphs had a stack trace with each node."""
    export_graph(Both(), (torch.ones(3),), ["x"], ["more", "less"], tmp_path / "both.onnx", None)
    assert Path(__file__).name.encode() not in (tmp_path / "both.onnx").read_bytes()


@pytest.mark.parametrize("found", [float("nan"), float("inf"), 2 * PARITY])
def test_only_a_small_difference_is_parity(found):
    """Incident: a NaN is not above any limit, and passed."""
    require_parity("step", PARITY)
    with pytest.raises(RuntimeError, match="step"):
        require_parity("step", found)


def test_a_policy_that_says_nan_is_not_exported_and_the_bundle_before_stays(tiny_net, tiny_bundle, spec, tmp_path):
    """Incident: it passed the parity check, in the place of a bundle that had been deleted first."""
    folder = shutil.copytree(tiny_bundle, tmp_path / "tiny")
    broken = deepcopy(tiny_net)
    torch.nn.init.constant_(broken.leave.weight, float("nan"))
    with pytest.raises(RuntimeError, match="step"):
        export_bundle(broken, {}, spec, folder, "tiny")
    assert Bundle.load(folder).version == Bundle.load(tiny_bundle).version


def test_a_world_model_that_is_not_reproduced_leaves_the_bundle_before(
    world_model_for, tiny_world_model, tiny_bundle, tmp_path, monkeypatch
):
    folder = shutil.copytree(tiny_world_model, tmp_path / "tiny_world_model")
    monkeypatch.setattr(world_model, "difference", lambda *_: float("nan"))
    with pytest.raises(RuntimeError, match="observe"):
        world_model_for(folder, tiny_bundle)
    assert Bundle.load(folder).version == Bundle.load(tiny_world_model).version


def test_a_detector_that_is_not_reproduced_leaves_the_bundle_before(
    detector_for, tiny_detector, tiny_bundle, tiny_net, tmp_path, monkeypatch
):
    folder = shutil.copytree(tiny_detector, tmp_path / "tiny_detector")
    monkeypatch.setattr(detector_export, "difference", lambda *_: float("nan"))
    with pytest.raises(RuntimeError, match="safe_mlp"):
        detector_for(folder, tiny_bundle, tiny_net.config.width)
    assert Bundle.load(folder).version == Bundle.load(tiny_detector).version
