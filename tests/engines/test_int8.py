"""Products of bytes are exact on every CPU."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs onnx: `make setup-dev`")
pytest.importorskip("torch", reason="needs torch: `make setup-dev`")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from vla_mbpo.engines.sessions import cpu_session  # noqa: E402
from vla_mbpo.policy.export import quantize  # noqa: E402


def test_large_weights_and_activations_do_not_saturate(tmp_path):
    """Incident: on CPUs without VNNI sums were cut off at 16 bits, and sft_full did 32 of 48 scenes instead of all.

    Nor is a graph refused in which two products have the same weights.
    """
    weights = np.ones((64, 64), np.float32)
    products = [helper.make_node("MatMul", [a, "w"], [b], name=b) for a, b in (("x", "middle"), ("middle", "y"))]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 64]) for name in "xy")
    graph = helper.make_graph(products, "product", [x], [y], [numpy_helper.from_array(weights, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "a.onnx")
    quantize(tmp_path / "a.onnx", tmp_path / "a.int8.onnx")
    shown = np.ones((8, 64), np.float32)
    (found,) = cpu_session(tmp_path / "a.int8.onnx", 1).run(None, {"x": shown})
    np.testing.assert_allclose(found, shown @ weights @ weights, rtol=0.02)
