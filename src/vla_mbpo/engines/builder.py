"""The process that builds one engine: ``python -m vla_mbpo.engines.builder`` with JSON on standard input.

A process of its own, because the library may crash on a graph (it does on opset 23's Attention), and because it keeps
hundreds of MB. Writes the engine to a file and one JSON object to standard output. Needs neither torch nor onnx.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from vla_mbpo.engines import libraries

MOST, USUAL = 64, 8  # candidates of a profile


def build(trt: Any, model: bytes, architecture: str, workspace: int) -> dict[str, Any]:
    """The plan, or what is wrong with the graph.

    Returns:
        ``plan`` and ``layers``, or ``errors``: texts, each with the node's ``operator`` and ``node``.
    """
    said: list[str] = []
    log = _logger(trt, said)
    builder = trt.Builder(log)
    flags = [flag for name, flag in trt.NetworkDefinitionCreationFlag.__members__.items() if name == "STRONGLY_TYPED"]
    network = builder.create_network(sum(1 << int(flag) for flag in flags))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model):
        return {"errors": [_error(parser.get_error(i)) for i in range(parser.num_errors)]}
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    if architecture:
        config.num_compute_capabilities = 1
        if not config.set_compute_capability(getattr(trt.ComputeCapability, architecture), 0):
            return {"errors": [{"text": f"no engines for {architecture}", "operator": "", "node": ""}]}
    _profile(builder, network, config)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        text = "; ".join(said[-3:]) or "no engine, and no word why"
        return {"errors": [{"text": text, "operator": _operator(text, network), "node": ""}]}
    return {"plan": bytes(plan), "layers": network.num_layers}


def _profile(builder: Any, network: Any, config: Any) -> None:
    """One range for every dimension that the graph leaves open: candidates, views."""
    profile, needed = builder.create_optimization_profile(), False
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        if -1 in tuple(tensor.shape):
            sizes = [tuple(n if d == -1 else d for d in tensor.shape) for n in (1, USUAL, MOST)]
            profile.set_shape(tensor.name, *sizes)
            needed = True
    if needed:
        config.add_optimization_profile(profile)


def _error(error: Any) -> dict[str, str]:
    text = " ".join(error.desc().partition("[checkMacros")[0].split())[:300]  # after that it misses the GPU
    return {"text": f"{error.code().name}: {text}", "operator": error.node_operator(), "node": error.node_name()}


def _operator(text: str, network: Any) -> str:
    """Of a build that failed: the type of the first layer that the library's words name."""
    for i in range(network.num_layers):
        layer = network.get_layer(i)
        if layer.name and layer.name in text:
            return f"{layer.type.name} ({layer.name})"
    return ""


def _logger(trt: Any, said: list[str]) -> Any:
    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            if severity <= trt.ILogger.ERROR and "CUDA" not in text:  # there need be no GPU
                said.append(" ".join(text.split())[:300])

    return Log()


def main() -> int:
    """Build what standard input asks for."""
    asked = json.load(sys.stdin)
    trt = libraries.module(asked["library"])
    begin = time.perf_counter()
    found = build(trt, Path(asked["onnx"]).read_bytes(), asked["architecture"], asked["workspace"])
    found["seconds"] = time.perf_counter() - begin
    if "plan" in found:
        Path(asked["out"]).write_bytes(found.pop("plan"))
    print(json.dumps(found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
