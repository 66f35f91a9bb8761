"""Mixed precision, written into the graph: engines are strongly typed, so what stands in the ONNX file is what runs."""

import copy
from collections import Counter
from typing import Any

import onnx
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

# Sums over many values, and functions of large arguments: half precision would overflow or round them away.
FULL = tuple("InstanceNormalization LayerNormalization Softmax ReduceMean ReduceSum Pow Sqrt Sin Cos".split())


def halved(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """A float graph with weights and arithmetic in half precision, inputs and outputs as they were.

    Returns:
        The graph, and what of it stays in single precision: ``nodes``, ``kept_fp32`` by operator, ``casts`` added.
    """
    blocked = [*DEFAULT_OP_BLOCK_LIST, *FULL]
    made = convert_float_to_float16(copy.deepcopy(model), keep_io_types=True, op_block_list=blocked)
    before, after = (Counter(node.op_type for node in graph.graph.node) for graph in (model, made))
    kept = {operator: count for operator, count in sorted(before.items()) if operator in blocked}
    casts = after["Cast"] - before["Cast"]
    return made, {"nodes": sum(before.values()), "kept_fp32": kept, "casts": casts}
