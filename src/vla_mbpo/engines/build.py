"""Engines from float ONNX graphs, each built in a process of its own; what cannot become one is refused by operator."""

import json
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.engines import libraries
from vla_mbpo.engines.cache import Compiled, Key

if TYPE_CHECKING:
    import onnx

WORKSPACE = 256 << 20  # bytes of scratch memory that an engine may use on the GPU
PATIENCE = 600.0  # s for one engine


@dataclass(frozen=True)
class Built:
    """An engine in the cache. ``seconds``: the building took; 0: it was there."""

    key: Key
    record: dict
    seconds: float


class Refused(ConfigError):
    """The graph cannot become an engine. ``operator``: which of its operators is to blame, empty: not known."""

    def __init__(self, graph: str, operator: str, node: str, why: str) -> None:
        where = f" (node {node})" if node else ""
        super().__init__(f"graph {graph}", f"{operator or 'an operator'}{where}", why)
        self.operator = operator


def build(
    compiled: Compiled, precision: str, library: str, architecture: str, gpu: str = "", anew: bool = False
) -> Built:
    """The engine of a compiled graph, from the cache or anew.

    Args:
        compiled: the graph.
        precision: fp32 or fp16.
        library: tensorrt or tensorrt_rtx, installed here.
        architecture: as in SM89.
        gpu: name of this machine's, if the engine is for it: TensorRT needs that, TensorRT-RTX does not.
        anew: whether or not it is in the cache.

    Raises:
        Refused: names the operator.
        ConfigError: library or architecture cannot be used here.
    """
    version = libraries.version(library)
    require(bool(version), "library", library, f"installed here: {', '.join(_installed()) or 'none'}")
    ahead = library == "tensorrt_rtx" and architecture in libraries.ARCHITECTURES
    valid = f"one of {', '.join(libraries.ARCHITECTURES)} with tensorrt_rtx, or this machine's GPU"
    require(ahead or bool(gpu), "architecture", architecture, valid)
    key = compiled.key(precision, library, version, libraries.target(library, architecture, gpu))
    kept = None if anew else compiled.engine(key)
    if kept is not None:
        compiled.plan(key)  # ConfigError: it is damaged
        return Built(key, kept, 0.0)
    plan, layers, seconds = compile_graph(
        compiled.name, compiled.onnx(precision), library, architecture if ahead else ""
    )
    record = {"precision": precision, "workspace": WORKSPACE, "layers": layers, "build_seconds": round(seconds, 2)}
    return Built(key, compiled.keep_engine(key, plan, record | {"verified": None}), seconds)


def compile_graph(name: str, model: bytes, library: str, architecture: str) -> tuple[bytes, int, float]:
    """Plan, number of layers and seconds of a graph; ``architecture`` empty: this machine's GPU. Raises Refused."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "graph.onnx")
        file.write_bytes(model)
        found = _in_process(file, library, architecture)
        if isinstance(found, int):
            raise _crashed(name, model, library, architecture, found)
        if "errors" in found:
            first = next((e for e in found["errors"] if e["operator"]), found["errors"][0])
            raise Refused(name, first["operator"], first["node"], f"{library} refuses it: {first['text']}")
        return file.with_suffix(".engine").read_bytes(), found["layers"], found["seconds"]


def _in_process(file: Path, library: str, architecture: str) -> dict | int:
    """What the builder says, or the exit code of one that could not say anything."""
    asked = {
        "onnx": str(file), "out": str(file.with_suffix(".engine")), "library": library,
        "architecture": architecture, "workspace": WORKSPACE,
    }  # fmt: skip
    command = [sys.executable, "-m", "vla_mbpo.engines.builder"]
    try:
        done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise ConfigError("graph", file.stem, f"{library} took more than {PATIENCE:.0f} s") from None
    lines = done.stdout.strip().splitlines()
    return json.loads(lines[-1]) if done.returncode == 0 and lines else done.returncode or 1


def _crashed(name: str, model: bytes, library: str, architecture: str, code: int) -> Refused:
    """Which operator brought the builder down: the one that does so alone."""
    import onnx

    said = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    with tempfile.TemporaryDirectory() as folder:
        for node, alone in _alone(onnx.load_model_from_string(model)):
            file = Path(folder, "alone.onnx")
            file.write_bytes(alone.SerializeToString())
            if isinstance(_in_process(file, library, architecture), int):
                return Refused(name, node.op_type, node.name, f"{library} crashes on it ({said})")
    return Refused(name, "", "", f"{library} crashes ({said}), on no operator alone")


def _alone(model: "onnx.ModelProto") -> list[tuple["onnx.NodeProto", "onnx.ModelProto"]]:
    """A graph of one node for the first node of each operator whose tensors' shapes are known; rare ones first."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model)
    graph = inferred.graph
    known = {v.name: v for v in (*graph.input, *graph.output, *graph.value_info)}
    weights = {w.name: w for w in graph.initializer}
    counts: dict[str, int] = {}
    first: dict[str, onnx.NodeProto] = {}
    for node in graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
        first.setdefault(node.op_type, node)
    made = []
    for operator in sorted(first, key=lambda name: counts[name]):
        node = first[operator]
        used = dict.fromkeys(name for name in node.input if name)
        if not all(name in known or name in weights for name in (*used, *node.output)):
            continue
        inputs = [known[name] for name in used if name not in weights]
        kept = [weights[name] for name in used if name in weights]
        single = onnx.helper.make_graph([node], "alone", inputs, [known[name] for name in node.output if name], kept)
        whole = onnx.helper.make_model(single, opset_imports=model.opset_import, ir_version=model.ir_version)
        made.append((node, whole))
    return made


def _installed() -> list[str]:
    return [name for name in libraries.LIBRARIES if libraries.version(name)]
