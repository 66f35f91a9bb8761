"""From training runs to a world-model bundle: ONNX graphs, int8 graphs, parity, manifest (torch; not on the robot)."""

import datetime
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vla_mbpo.core.errors import require
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.imagination.autoencoder import Autoencoder
from vla_mbpo.imagination.familiar import Familiar
from vla_mbpo.imagination.network import WorldModel
from vla_mbpo.imagination.perception import Perception
from vla_mbpo.policy.bundle import Bundle, rebuilt, write_manifest
from vla_mbpo.policy.export import PARITY, difference, export_graph, quantize, require_parity

PLAIN = ("decode.onnx", "familiar.onnx")  # graphs whose numbers are not made int8
SEEING = ("observe", "imagine")  # the others


class _Observe(nn.Module):
    """Perception and context, with camera images as they come: (1, s, s, 3) uint8."""

    def __init__(self, perception: Perception, net: WorldModel) -> None:
        super().__init__()
        self.perception, self.net = perception, net

    def forward(self, head: Tensor, wrist: Tensor, words: Tensor, proprio: Tensor):
        """Cache, mask, what is beside the imagined tokens, latents (1, 2, TOKENS, latent)."""
        views = (view.float().permute(0, 3, 1, 2) for view in (head, wrist))
        eyes, latents = self.perception(*views, words)
        return (*self.net.observe(words, eyes, latents, proprio)[:3], latents)


class _Imagine(nn.Module):
    """``imagine`` without what only training needs."""

    def __init__(self, net: WorldModel) -> None:
        super().__init__()
        self.net = net

    def forward(
        self, cache: Tensor, mask: Tensor, beside: Tensor, bins: Tensor, known: Tensor, noisy: Tensor, time: Tensor
    ):
        """Images, proprioception, outcome and cost logits."""
        return self.net.imagine((cache, mask, beside), bins, known, noisy, time)[:4]


class _Decode(nn.Module):
    """Latents (B, TOKENS, latent) -> pictures (B, s, s, 3) in 0..255."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, latents: Tensor) -> Tensor:
        """As uint8 would be, but float."""
        return ((self.autoencoder.decode(latents) + 1) * 127.5).clamp(0, 255).permute(0, 2, 3, 1)


def export_world_model(
    net: WorldModel,
    perception: Perception,
    familiar: Familiar,
    state: dict[str, Any],
    spec: RobotSpec,
    out: Path,
    extra: dict[str, Any],
    kept: Bundle | None = None,
) -> Bundle:
    """Write the bundle of a trained world model to ``out``.

    Args:
        net, perception: in evaluation mode; ``familiar``: fitted to the training looks.
        state: of the training run.
        spec: robot of the rollouts.
        out: folder, made, or of a bundle that this one replaces once it is whole; its name is the bundle's.
        extra: ``policies`` (versions that the model was calibrated with) and ``calibration``, as
            training/calibration.py writes it.
        kept: bundle of the same perception, whose ``familiar`` is kept: one that was fitted to more looks.

    Raises:
        RuntimeError: a graph does not reproduce the network.
        ConfigError: ``kept`` saw otherwise, or ``out`` holds something else.
    """
    if kept is not None:
        extra = extra | {"calibration": extra["calibration"] | _familiar_of(kept, state)}
        stays = (kept.path / "familiar.onnx").read_bytes()
    with rebuilt(out, "world_model") as folder:
        parity = export_graphs(net, perception, folder, (*SEEING, "decode", "familiar"), familiar)
        for graph in SEEING:
            quantize(folder / f"{graph}.onnx", folder / f"{graph}.int8.onnx")
            (folder / f"{graph}.onnx").unlink()
        if kept is not None:
            (folder / "familiar.onnx").write_bytes(stays)
        size = perception.autoencoder.config.image_size
        write_manifest(folder, _manifest(net, size, state, spec, out.name, parity) | extra)
    return Bundle.read(out)


def export_graphs(
    net: WorldModel, perception: Perception, out: Path, names: Sequence[str], familiar: Familiar | None = None
) -> dict[str, float]:
    """Write the float graphs ``names`` to ``out``; returns their parity. ``familiar`` needs one.

    Raises:
        RuntimeError: a graph does not reproduce the network.
    """
    c, size = net.config, perception.autoencoder.config.image_size
    make = torch.Generator().manual_seed(0)
    pictures = [torch.randint(0, 255, (1, size, size, 3), generator=make, dtype=torch.uint8) for _ in "hw"]
    words = torch.randint(1, c.words, (1, c.text_length), generator=make)
    words[:, -2:] = 0
    seen = (*pictures, words, torch.randn(1, c.proprio, generator=make))
    k = 8
    steps = (
        torch.randint(0, 256, (k, c.steps, c.horizon, c.action), generator=make),
        torch.tensor([[1.0, 0.0]] * k),
        torch.randn(k, c.steps, 2, 16, c.latent, generator=make),
        torch.rand(k, c.steps, 2, generator=make),
    )
    candidates, views = torch.export.Dim("candidates", min=1, max=64), torch.export.Dim("views", min=1, max=64)
    observe, imagine, decode = _Observe(perception, net), _Imagine(net), _Decode(perception.autoencoder)
    with torch.no_grad():
        context = observe(*seen)
        ahead = (*context[:3], *steps)
        latents = (torch.randn(4, 16, c.latent, generator=make),)
        expected = {"observe": context, "imagine": imagine(*ahead), "decode": (decode(*latents),)}
        if familiar is not None:
            expected["familiar"] = (familiar(context[3]),)
    read = ("cache", "mask", "beside", "bins", "known", "noisy", "time")
    shapes = dict.fromkeys(read[:3]) | {name: {0: candidates} for name in read[3:]}
    graphs: dict[str, tuple[nn.Module, tuple, list[str], list[str], Any]] = {
        "observe": (observe, seen, ["head", "wrist", "words", "proprio"], ["cache", "mask", "beside", "latents"], None),
        "imagine": (imagine, ahead, list(read), ["images", "body", "outcome", "cost"], shapes),
        "decode": (decode, latents, ["latents"], ["pictures"], {"latents": {0: views}}),
    }
    if familiar is not None:
        graphs["familiar"] = (familiar, (context[3],), ["latents"], ["strange"], None)
    parity = {}
    for graph in names:
        module, args, inputs, outputs, dynamic = graphs[graph]
        file = out / f"{graph}.onnx"
        export_graph(module, args, inputs, outputs, file, dynamic)
        scale = max(1.0, float(expected[graph][0].abs().max()) if f"{graph}.onnx" in PLAIN else 1.0)
        parity[graph] = difference(file, args, expected[graph]) / scale
        require_parity(graph, parity[graph], 10 * PARITY)
    return parity


def _familiar_of(kept: Bundle, state: dict[str, Any]) -> dict[str, Any]:
    """What ``kept`` calls a strange view."""
    for name in ("autoencoder", "eyes"):
        saw = kept.manifest["training"]["recipe"][name]
        require(saw == state["recipe"][name], "familiar", f"{kept.version}, {name} {saw}", state["recipe"][name])
    return {"strange_limit": kept.manifest["calibration"]["strange_limit"]}


def _manifest(
    net: WorldModel, size: int, state: dict[str, Any], spec: RobotSpec, name: str, parity: dict[str, float]
) -> dict[str, Any]:
    return {
        "name": name,
        "kind": "world_model",
        "created": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "robot": spec.name,
        "joints": list(spec.joints),
        "image_size": size,
        "world_model": net.config.to_dict(),
        "vocabulary": {"words": list(state["words"]), "length": net.config.text_length},
        "normalisation": state["normalisation"],
        "action_bins": state["action_bins"],
        "training": {key: state[key] for key in ("recipe", "step", "rollouts", "observations", "failures")},
        "parameters": sum(p.numel() for p in net.parameters()),
        "parity": parity,
    }
