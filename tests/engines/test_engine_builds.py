"""Engines are built ahead of time, without a GPU; a graph that cannot become one is refused by its operator's name."""

import numpy as np
import pytest

from vla_mbpo.cli import main
from vla_mbpo.core.errors import ConfigError
from vla_mbpo.engines.build import Refused, build, compile_graph
from vla_mbpo.engines.cache import Cache
from vla_mbpo.engines.command import plan
from vla_mbpo.engines.graphs import compiled, precisions
from vla_mbpo.engines.pipeline import compile_bundle
from vla_mbpo.engines.sessions import cpu_session, shipped
from vla_mbpo.paths import bundle_dir
from vla_mbpo.policy.bundle import Bundle

RTX = "tensorrt_rtx"
TWO = ("SM86", "SM89")

onnx = pytest.importorskip("onnx", reason="needs onnx: `make setup-dev`")
TensorProto, helper = onnx.TensorProto, onnx.helper


@pytest.fixture
def rtx():
    """The library; not imported here, as only the builder's process should."""
    from vla_mbpo.engines import libraries

    if not libraries.version(RTX):
        pytest.skip("needs tensorrt-rtx (x86_64): pip install -e '.[engines]'")


def graph_of(nodes, inputs, outputs, opset=20) -> bytes:
    made = [
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in values]
        for values in (inputs, outputs)
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "g", *made), opset_imports=[helper.make_opsetid("", opset)], ir_version=10
    )
    return model.SerializeToString()


def test_a_policy_becomes_engines_for_two_architectures(rtx, tiny_bundle, cache):
    graphs = compiled(Bundle.load(tiny_bundle), cache)
    built = [build(graph, "fp16", RTX, architecture) for graph in graphs for architecture in TWO]
    assert {(b.key.target, b.record["precision"]) for b in built} == {("SM86", "fp16"), ("SM89", "fp16")}
    assert len({b.key.digest for b in built}) == 4 and all(b.seconds > 0 and b.record["bytes"] > 1000 for b in built)
    assert all(b.record["verified"] is None for b in built)  # nothing has run
    assert [build(graph, "fp16", RTX, "SM86").seconds for graph in graphs] == [0.0, 0.0]  # from the cache


FLOATS = [("x", TensorProto.FLOAT, [4, 4])]
BROKEN = {
    "Bernoulli": graph_of([helper.make_node("Bernoulli", ["x"], ["y"], name="draw")], FLOATS, [("y", 1, [4, 4])]),
    "NoSuchOperator": graph_of([helper.make_node("NoSuchOperator", ["x"], ["y"])], FLOATS, [("y", 1, [4, 4])]),
    "MatMul": graph_of(
        [helper.make_node("MatMul", ["x", "z"], ["y"])],
        [*FLOATS, ("z", TensorProto.FLOAT16, [4, 4])],
        [("y", 1, [4, 4])],
    ),
    "Attention": graph_of(  # brings the builder down
        [helper.make_node("Relu", ["x"], ["z"]), helper.make_node("Attention", ["z", "z", "z"], ["y"], name="attend")],
        [("x", 1, [1, 4, 8, 16])],
        [("y", 1, [1, 4, 8, 16])],
        opset=23,
    ),
}


@pytest.mark.parametrize("operator", BROKEN)
def test_a_broken_graph_is_refused_with_the_operator_named(rtx, operator):
    with pytest.raises(Refused, match=operator) as caught:
        compile_graph("step", BROKEN[operator], RTX, "SM86")
    assert caught.value.operator == operator and "graph step" in str(caught.value)


def test_a_shipped_int8_graph_is_no_engine(rtx, tiny_bundle):
    with pytest.raises(Refused, match="DynamicQuantizeLinear"):
        compile_graph("step", (tiny_bundle / "step.int8.onnx").read_bytes(), RTX, "SM86")


def test_only_engines_of_known_architectures_are_built_ahead(rtx, tiny_bundle, cache):
    graph = compiled(Bundle.load(tiny_bundle), cache)[0]
    with pytest.raises(ConfigError, match="architecture: 'SM90'.*SM86"):
        build(graph, "fp32", RTX, "SM90")


def test_mixed_precision_is_recorded_per_graph(cache, tiny_bundle):
    for graph in compiled(Bundle.load(tiny_bundle), cache):
        half = graph.record["onnx"]["fp16"]
        assert half["kept_fp32"]["LayerNormalization"] > 0 and sum(half["kept_fp32"].values()) < half["nodes"]
        assert half["on_cpu"]["ok"] and half["on_cpu"]["cosine"] > 0.999
        model = onnx.load_model_from_string(graph.onnx("fp16"))
        weights = {w.data_type for w in model.graph.initializer if len(w.dims) == 2}
        assert TensorProto.FLOAT16 in weights


def test_a_graph_that_half_precision_spoils_stays_in_single(tiny_bundle, cache, monkeypatch):
    from vla_mbpo.engines.half import halved

    def spoiled(model):
        half, known = halved(model)
        for weight in half.graph.initializer:
            if weight.data_type == TensorProto.FLOAT16:
                weight.raw_data = np.ones(len(weight.raw_data) // 2, np.float16).tobytes()
        return half, known

    monkeypatch.setattr("vla_mbpo.engines.half.halved", spoiled)
    bundle = Bundle.load(tiny_bundle)
    models = {g.name: onnx.load_model_from_string(g.onnx("fp32")) for g in compiled(bundle, cache)}
    found = precisions(bundle, models)
    assert set(found) == {"encoder", "step"} and all(set(kept) == {"fp32"} for kept in found.values())
    assert not found["step"]["fp32"][1]["no_fp16"]["ok"]


def test_the_float_graphs_say_what_the_int8_graphs_of_the_bundle_say(cache, tiny_bundle):
    from vla_mbpo.engines.verify import action_error

    bundle = Bundle.load(tiny_bundle)
    runs = {g.name: cpu_session(g.onnx("fp32"), 1).run for g in compiled(bundle, cache)}
    as_shipped = {name: cpu_session(file, 1).run for name, file in shipped(bundle.path).items()}
    found = action_error(bundle, runs, as_shipped)
    assert found["ok"] and found["spread"] > 0 and found["ratio"] < 0.2


def test_a_run_of_another_world_model_is_refused(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "state.json").write_text('{"step": 7}')
    with pytest.raises(ConfigError, match="--run"):
        compiled(Bundle.load(bundle_dir("world_model")), Cache(tmp_path / "engines"), run)


def test_the_command_compiles_a_detector_and_says_that_nothing_was_verified(rtx, tmp_path, capsys):
    args = ["compile", "detector_full", "--cache", str(tmp_path / "engines"), "--repeats", "1", "--precisions", "fp16"]
    assert main([*args, "--architectures", "SM120", "--json", str(tmp_path / "found.json")]) == 0
    said = capsys.readouterr().out
    assert "safe_mlp fp16 tensorrt_rtx" in said and "SM120" in said and "no GPU" in said
    assert (tmp_path / "found.json").is_file() and len(list((tmp_path / "engines").glob("*/*.engine"))) == 3


@pytest.mark.slow
def test_everything_shipped_becomes_engines_for_two_architectures(rtx, tmp_path):
    said: list[str] = []
    wanted = plan(RTX, ",".join(TWO), "fp32,fp16", None, tmp_path / "engines", False, 0)
    wanted = type(wanted)(**{**wanted.__dict__, "say": said.append, "device": None})
    for name in ("sft_full", "world_model", "detector_full"):
        found = compile_bundle(Bundle.load(bundle_dir(name)), wanted)
        assert found["ok"]
        for graph in found["graphs"].values():
            assert {(e["target"], e["precision"]) for e in graph["engines"]} == {
                (architecture, precision) for architecture in TWO for precision in ("fp32", "fp16")
            }
    assert any("actions, cpu, as shipped" in line for line in said)
