"""From a training run to a bundle: ONNX graphs, int8 graphs, parity, manifest (torch; not on the robot)."""

import datetime
import logging
import os
import platform
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxslim
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from safetensors.torch import save_file
from torch import Tensor, nn

from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.engines.sessions import cpu_session
from vla_mbpo.policy.bundle import Bundle, rebuilt, write_manifest
from vla_mbpo.policy.network import FlowPolicy

PARITY = 1e-4  # largest difference of the fp32 graphs to torch, in standard deviations


class _Encoder(nn.Module):
    """``encode`` with camera images as they come: (1, s, s, 3) uint8."""

    def __init__(self, net: FlowPolicy) -> None:
        super().__init__()
        self.net = net

    def forward(self, head: Tensor, wrist: Tensor, words: Tensor, proprio: Tensor):
        """Prefix cache, mask and features."""
        # Float before anything else: TensorRT takes bytes as inputs and can only convert them.
        return self.net.encode(head.float().permute(0, 3, 1, 2), wrist.float().permute(0, 3, 1, 2), words, proprio)


class _Step(nn.Module):
    """``velocity`` as a graph of its own."""

    def __init__(self, net: FlowPolicy) -> None:
        super().__init__()
        self.net = net

    def forward(self, cache: Tensor, mask: Tensor, rows: Tensor, time: Tensor) -> Tensor:
        """Velocity of the rows."""
        return self.net.velocity(cache, mask, rows, time)


def export_bundle(net: FlowPolicy, state: dict, spec: RobotSpec, out: Path, name: str) -> Bundle:
    """Write the bundle of a trained network to ``out``.

    Args:
        net: the network, in evaluation mode.
        state: state of its training run (``sft.load_average``).
        spec: robot the policy was trained for.
        out: folder, made, or of a bundle that this one replaces once it is whole.
        name: bundle name.

    Raises:
        RuntimeError: if a graph does not reproduce the network.
        ConfigError: ``out`` holds something else.
    """
    with rebuilt(out, "policy") as folder:
        parity = export_graphs(net, folder)
        for graph in ("encoder", "step"):
            quantize(folder / f"{graph}.onnx", folder / f"{graph}.int8.onnx")
            (folder / f"{graph}.onnx").unlink()
        half = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in net.state_dict().items()}
        save_file(half, folder / "policy.safetensors")
        (folder / "policy.safetensors").chmod(0o644)  # the library makes it readable for its owner only
        write_manifest(folder, _manifest(net, state, spec, name, parity))
    return Bundle.read(out)


def export_graphs(net: FlowPolicy, out: Path) -> dict[str, float]:
    """Write encoder.onnx and step.onnx of a network in evaluation mode to ``out``; returns their parity.

    Raises:
        RuntimeError: if a graph does not reproduce the network.
    """
    sample = _sample(net)
    encoded = _Encoder(net)(*sample["encoder"])
    step = (encoded[0], encoded[1], *sample["step"])
    export_graph(_Encoder(net), sample["encoder"], ["head", "wrist", "words", "proprio"], ["cache", "mask", "features"],
            out / "encoder.onnx", None)  # fmt: skip
    candidates = torch.export.Dim("candidates", min=1, max=64)
    shapes = {"cache": None, "mask": None, "rows": {0: candidates}, "time": {0: candidates}}
    export_graph(_Step(net), step, ["cache", "mask", "rows", "time"], ["velocity"], out / "step.onnx", shapes)
    parity = {
        "encoder": difference(out / "encoder.onnx", sample["encoder"], encoded),
        "step": difference(out / "step.onnx", step, (_Step(net)(*step),)),
    }
    for graph, found in parity.items():
        require_parity(graph, found)
    return parity


def require_parity(graph: str, found: float, most: float = PARITY) -> None:
    """RuntimeError unless a graph is as near to the network as it has to be. A NaN is near to nothing."""
    if not found <= most:
        raise RuntimeError(f"the graph {graph} differs from the network by {found:.2e}, at most {most:.0e} allowed")


def quantize(source: Path, target: Path) -> None:
    """Dynamic int8 of the matrix products. The graph's value_info must go first, or the quantizer fails."""
    model = onnx.load(str(source))
    del model.graph.value_info[:]
    slim = target.with_suffix(".slim.onnx")
    onnx.save(_unshared(onnxslim.slim(model)), str(slim))
    quantize_dynamic(
        str(slim), str(target), weight_type=QuantType.QInt8, per_channel=True, op_types_to_quantize=["MatMul", "Gemm"]
    )
    slim.unlink()


def _unshared(model: onnx.ModelProto) -> onnx.ModelProto:
    """With a copy of its weights for each product: ONNX Runtime's exact mode (engines/sessions.py) takes none twice."""
    kept, taken = {one.name: one for one in model.graph.initializer}, set()
    for node in model.graph.node:
        for place, name in enumerate(node.input if node.op_type in ("MatMul", "Gemm") else ()):
            if name in kept and name in taken:
                copy = model.graph.initializer.add()
                copy.CopyFrom(kept[name])
                copy.name = node.input[place] = f"{name}_{len(model.graph.initializer)}"
            taken.add(name)
    return model


def _sample(net: FlowPolicy) -> dict[str, tuple[Tensor, ...]]:
    """Random inputs of the right shapes."""
    c, make = net.config, torch.Generator().manual_seed(0)
    images = [
        torch.randint(0, 255, (1, c.image_size, c.image_size, 3), generator=make, dtype=torch.uint8) for _ in "hw"
    ]
    words = torch.randint(1, c.words, (1, c.text_length), generator=make)
    words[:, -2:] = 0
    rows = torch.randn(8, c.horizon, c.action, generator=make)
    time = torch.rand(8, c.horizon, generator=make)
    return {"encoder": (*images, words, torch.randn(1, c.proprio, generator=make)), "step": (rows, time)}


def export_graph(module: nn.Module, args: tuple, inputs: list[str], outputs: list[str], path: Path, shapes) -> None:
    """Write the ONNX graph of ``module`` called with ``args``."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it reports each optional package it does not find
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module, args, input_names=inputs, output_names=outputs, opset_version=20, dynamo=True,
            dynamic_shapes=shapes, verbose=False,
        )  # fmt: skip
    assert program is not None
    for node in program.model.graph.all_nodes():
        node.metadata_props.pop("pkg.torch.onnx.stack_trace", None)  # folders of the machine that exports
    program.save(str(path), external_data=False)


def difference(path: Path, args: tuple, expected: tuple) -> float:
    """Largest difference of a graph's outputs to what the network gave for the same ``args``; NaN if any is."""
    session = cpu_session(path, 1)
    feed = {i.name: a.detach().numpy() for i, a in zip(session.get_inputs(), args, strict=True)}
    got = session.run(None, feed)
    # Python's max would drop a NaN that is not the first.
    return float(np.max([np.abs(g - e.detach().numpy()).max() for g, e in zip(got, expected, strict=True)]))


def _manifest(net: FlowPolicy, state: dict, spec: RobotSpec, name: str, parity: dict) -> dict:
    norm = state["normalisation"]
    return {
        "name": name,
        "kind": "policy",
        "created": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "robot": spec.name,
        "joints": list(spec.joints),
        "row_period": spec.row_period / 1e9,
        "gripper": {"range": list(spec.gripper_range), "speed": spec.gripper_speed},
        "policy": net.config.to_dict(),
        "vocabulary": {"words": list(state["words"]), "length": net.config.text_length},
        "normalisation": norm,
        "action_bins": {"count": 256, "low": norm["action_low"], "high": norm["action_high"]},
        "rounds": state["rounds"],
        "parameters": sum(p.numel() for p in net.parameters()),
        "parity": parity,
    }
