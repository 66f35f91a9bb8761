"""Graphs run where was asked for, or it is said, or refused. Nothing falls back in silence."""

import json
import sys

import numpy as np
import pytest
from emulated_gpu import PlayedDriver

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.core.observation import Observation
from vla_mbpo.engines import libraries, pipeline
from vla_mbpo.engines.build import build
from vla_mbpo.engines.cache import Cache
from vla_mbpo.engines.cuda import CudaError
from vla_mbpo.engines.graphs import compiled
from vla_mbpo.engines.pipeline import Plan, compile_bundle
from vla_mbpo.engines.sessions import CPU, Placement, cpu_session, describe
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.policy.runtime import PolicySession
from vla_mbpo.policy.sessions import open_policy

GRAPH = "step.int8.onnx"


def positions(session) -> np.ndarray:
    size, joints = session.image_size, np.linspace(-1, 1, 7)
    dark, none = np.full((size, size, 3), 90, np.uint8), np.zeros((0, 7))
    seen = Observation(0, dark, dark, joints, joints, 0.04)
    words = session.vocabulary.words[0]
    return session.infer(seen, words, none, none[:, 0], 4, np.random.default_rng(0)).positions


@pytest.fixture
def verified(gpu, cache, tiny_bundle):
    """The cache after `vla-mbpo compile` on the played GPU."""
    said: list[str] = []
    plan = Plan("tensorrt_rtx", ("SM89",), device=gpu.device(), cache=cache, repeats=1, say=said.append)
    assert compile_bundle(Bundle.load(tiny_bundle), plan)["ok"], said
    return cache


def test_without_a_gpu_auto_takes_the_cpu_and_says_why(tiny_bundle, tmp_path):
    place = Placement(cache=Cache(tmp_path))
    graph = place.open(tiny_bundle / GRAPH, 1)
    assert describe([graph]) == "step: cpu int8 (not tensorrt or cuda: no NVIDIA driver (libcuda.so.1))"
    assert place.warning([graph]) == ""


@pytest.mark.parametrize("provider", ["tensorrt", "cuda"])
def test_without_a_gpu_what_was_asked_for_is_refused(tiny_bundle, tmp_path, provider):
    with pytest.raises(ConfigError, match=f"policy.provider: '{provider}'.*step.*no NVIDIA driver.*allow_fallback"):
        Placement(provider, cache=Cache(tmp_path)).open(tiny_bundle / GRAPH, 1)


def test_a_fallback_that_is_allowed_is_a_warning(tiny_bundle, tmp_path):
    place = Placement("tensorrt", True, cache=Cache(tmp_path))
    session = PolicySession.load(tiny_bundle, place=place)
    assert session.trouble.startswith("fallback: encoder, step: cpu int8 (not tensorrt or cuda: no NVIDIA driver")
    np.testing.assert_array_equal(positions(session), positions(PolicySession.load(tiny_bundle)))


def test_an_unknown_provider_is_refused_with_the_choices(tiny_bundle):
    with pytest.raises(ConfigError, match="policy.provider: 'gpu'.*auto, tensorrt, cuda, cpu"):
        Placement("gpu").open(tiny_bundle / GRAPH, 1)


def test_what_does_not_say_where_runs_on_the_cpu_even_beside_a_gpu(verified, tiny_bundle):
    assert PolicySession.load(tiny_bundle).facts() == {"providers": "encoder, step: cpu int8"}
    assert CPU.open(tiny_bundle / GRAPH, 1).passed_over == ()


def test_a_verified_engine_runs_and_is_named(verified, tiny_bundle):
    session = PolicySession.load(tiny_bundle, place=Placement("tensorrt", cache=verified))
    assert session.facts() == {"providers": "encoder, step: tensorrt_rtx fp16"} and session.trouble == ""
    np.testing.assert_allclose(positions(session), positions(PolicySession.load(tiny_bundle)), atol=0.02)


def test_what_was_compiled_elsewhere_is_verified_without_torch_and_onnx(verified, gpu, tiny_bundle, monkeypatch):
    for name in ("torch", "onnx", "onnxslim", "onnxscript", "vla_mbpo.policy.export", "vla_mbpo.engines.half"):
        monkeypatch.setitem(sys.modules, name, None)
    plan = Plan("tensorrt_rtx", ("SM89",), device=gpu.device(), cache=verified, say=lambda _: None)
    found = compile_bundle(Bundle.load(tiny_bundle), plan)
    assert found["ok"] and all(e["verified"]["ok"] for g in found["graphs"].values() for e in g["engines"])


def test_more_candidates_than_the_engine_was_built_for_are_refused(verified, tiny_bundle):
    step = Placement("tensorrt", cache=verified).open(tiny_bundle / GRAPH, 1)
    rows, time = np.zeros((65, 16, 8), np.float32), np.zeros((65, 16), np.float32)
    shapes = {i.name: i.shape for i in cpu_session(tiny_bundle / GRAPH, 1).get_inputs()}
    feed = {name: np.zeros(shapes[name], np.float32) for name in ("cache", "mask")} | {"rows": rows, "time": time}
    with pytest.raises(ConfigError, match=r"engine input rows: \(65, 16, 8\).*at most \(64, 16, 8\)"):
        step.run(None, feed)


def test_an_engine_that_was_not_verified_is_not_used(gpu, cache, tiny_bundle):
    for graph in compiled(Bundle.load(tiny_bundle), cache):
        build(graph, "fp16", "tensorrt_rtx", "SM89", gpu.device().name)
    with pytest.raises(ConfigError, match="has not been verified on Played GPU: run vla-mbpo compile"):
        Placement("tensorrt", cache=cache).open(tiny_bundle / GRAPH, 1)
    graph = Placement("auto", cache=cache).open(tiny_bundle / GRAPH, 1)
    assert graph.provider == "cpu int8" and "not been verified" in describe([graph])


def test_an_engine_that_was_verified_on_another_gpu_is_not_used(verified, tiny_bundle):
    for file in verified.folder.glob("*/*.json"):
        record = json.loads(file.read_text())
        if file.name != "graph.json":
            file.write_text(json.dumps(record | {"verified": record["verified"] | {"gpu": "Another"}}))
    with pytest.raises(ConfigError, match="not been verified on Played GPU"):
        Placement("tensorrt", cache=verified).open(tiny_bundle / GRAPH, 1)


def test_an_engine_of_another_version_of_the_library_is_not_used(verified, tiny_bundle, monkeypatch):
    monkeypatch.setattr(libraries, "version", lambda name: "10.0" if name == "tensorrt_rtx" else "")
    with pytest.raises(ConfigError, match="no engine for Played GPU"):
        Placement("tensorrt", cache=verified).open(tiny_bundle / GRAPH, 1)


@pytest.mark.parametrize("provider", ["auto", "tensorrt"])
def test_a_damaged_engine_is_refused_whatever_is_allowed(verified, tiny_bundle, provider):
    for file in verified.folder.glob("*/*.engine"):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    with pytest.raises(ConfigError, match="sha256"):
        Placement(provider, True, cache=verified).open(tiny_bundle / GRAPH, 1)


def test_a_driver_that_fails_at_any_call_is_passed_over_by_auto(verified, gpu, tiny_bundle, monkeypatch):
    """Only what it says of memory was: an error of its first call ended the node."""

    def fail(*_):
        raise CudaError("cuCtxSetCurrent: CUDA_ERROR_UNKNOWN")

    monkeypatch.setattr(PlayedDriver, "make_current", fail)
    graph = Placement("auto", cache=verified).open(tiny_bundle / GRAPH, 1)
    assert graph.provider == "cpu int8" and "CUDA_ERROR_UNKNOWN" in describe([graph])


def test_an_engine_that_says_something_else_fails_verification(gpu, cache, tiny_bundle, monkeypatch):
    from vla_mbpo.engines.tensorrt import Engine

    right = Engine.run
    monkeypatch.setattr(Engine, "run", lambda self, names, feed: [x + 3 for x in right(self, names, feed)])
    said: list[str] = []
    plan = Plan("tensorrt_rtx", ("SM89",), device=gpu.device(), cache=cache, say=said.append)
    assert not compile_bundle(Bundle.load(tiny_bundle), plan)["ok"]
    assert any("NOT the same" in line for line in said)
    with pytest.raises(ConfigError, match="not been verified"):
        Placement("tensorrt", cache=cache).open(tiny_bundle / GRAPH, 1)


def test_an_onnxruntime_without_cuda_is_not_taken_for_one_with(gpu, cache, tiny_bundle):
    with pytest.raises(ConfigError, match="no CUDA provider"):
        Placement("cuda", cache=cache).open(tiny_bundle / GRAPH, 1)


def test_a_session_that_onnxruntime_moved_to_the_cpu_is_refused(gpu, cache, tiny_bundle, monkeypatch):
    import onnxruntime

    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)  # as the GPU package says without CUDA
    with pytest.raises(ConfigError, match="onnxruntime runs it on CPUExecutionProvider"):
        Placement("cuda", cache=cache).open(tiny_bundle / GRAPH, 1)


def test_a_foreign_policy_on_a_gpu_is_refused():
    class Foreign:
        adapter, path, manifest = "onnx", __import__("pathlib").Path("theirs"), {}

    with pytest.raises(ConfigError, match="policy.provider: 'tensorrt'.*theirs.*CPU"):
        open_policy(Foreign(), None, place=Placement("tensorrt"))


def test_engines_of_a_policy_count_only_when_its_actions_were_compared(gpu, cache, tiny_bundle, monkeypatch):
    """Incident: the encoder's engine counted as verified although the step's was refused afterwards."""
    began = build

    def stops_at_step(graph, *rest):
        if graph.name == "step":
            raise KeyboardInterrupt
        return began(graph, *rest)

    monkeypatch.setattr(pipeline, "build", stops_at_step)
    plan = Plan("tensorrt_rtx", ("SM89",), device=gpu.device(), cache=cache, say=lambda _: None)
    with pytest.raises(KeyboardInterrupt):
        compile_bundle(Bundle.load(tiny_bundle), plan)
    graph = Placement("auto", cache=cache).open(tiny_bundle / "encoder.int8.onnx", 1)
    assert graph.provider == "cpu int8" and "not been verified" in describe([graph])


def test_a_pair_of_mixed_precision_is_compared_as_it_will_run(gpu, cache, tiny_bundle):
    step = next(graph for graph in compiled(Bundle.load(tiny_bundle), cache) if graph.name == "step")
    record = json.loads((step.folder / "graph.json").read_text())
    record["onnx"] = {"fp32": record["onnx"]["fp32"] | {"no_fp16": "for the test"}}
    (step.folder / "graph.json").write_text(json.dumps(record))
    plan = Plan("tensorrt_rtx", ("SM89",), device=gpu.device(), cache=cache, say=lambda _: None)
    found = compile_bundle(Bundle.load(tiny_bundle), plan)
    assert set(found["actions"]) >= {"tensorrt_rtx fp16", "tensorrt_rtx fp32"}
    session = PolicySession.load(tiny_bundle, place=Placement("tensorrt", cache=cache))
    assert session.facts() == {"providers": "encoder: tensorrt_rtx fp16; step: tensorrt_rtx fp32"}


def test_a_full_gpu_is_a_reason_to_fall_back_and_nothing_stays_taken(gpu, verified, tiny_bundle):
    """Incident: a node with provider auto did not start, and what had been allocated was never given back."""
    before = {address: array.size for address, array in gpu.memory.items()}
    streams, gpu.allocations_left = set(gpu.streams), 2
    graph = Placement("auto", cache=verified).open(tiny_bundle / GRAPH, 1)
    assert graph.provider == "cpu int8" and "OUT_OF_MEMORY" in describe([graph])
    taken = [array.size for address, array in gpu.memory.items() if address not in before]
    assert taken == [0, 0] and gpu.streams == streams


def test_each_engine_has_a_stream_of_its_own(gpu, verified, tiny_bundle):
    """One that is loaded while another is at work does not make that one wait."""
    before = len(gpu.streams)
    sessions = [PolicySession.load(tiny_bundle, place=Placement("tensorrt", cache=verified)) for _ in range(2)]
    assert len(gpu.streams) == before + 4 and len(sessions) == 2
