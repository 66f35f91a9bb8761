"""From a trained failure detector to its bundle: ONNX graphs, the bank of looks, manifest (torch; not on the robot)."""

import datetime
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vla_mbpo.failure.attempts import Attempt, period
from vla_mbpo.failure.detector import BANK_FILE, MEMBERS, VOTES
from vla_mbpo.policy.bundle import Bundle, rebuilt, write_manifest
from vla_mbpo.policy.export import difference, export_graph, require_parity
from vla_mbpo.training.detector import DetectorNet, covariance, neighbours
from vla_mbpo.training.loop import averaged


class _Mlp(nn.Module):
    def __init__(self, net: DetectorNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, features: Tensor) -> Tensor:
        return torch.sigmoid(self.net.one(self.net.standardised(features)))


class _Lstm(nn.Module):
    def __init__(self, net: DetectorNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, features: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logit, hidden, cell = self.net.step(self.net.standardised(features), hidden, cell)
        return torch.sigmoid(logit), hidden, cell


class _Rnd(nn.Module):
    def __init__(self, net: DetectorNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, features: Tensor) -> Tensor:
        return self.net.surprise(self.net.standardised(features))


def load_detector(run: Path) -> tuple[DetectorNet, dict[str, Any]]:
    """The averaged networks of a training run, in evaluation mode, and the run's state."""
    tensors, state = averaged(run)
    net = DetectorNet(state["detector"]["features"], state["detector"]["width"])
    net.load_state_dict(tensors)
    return net.eval(), state


def export_detector(
    net: DetectorNet, state: dict[str, Any], attempts: Sequence[Attempt], policy: Bundle, out: Path
) -> Bundle:
    """Write the bundle.

    Args:
        net: in evaluation mode.
        state: of its training run.
        attempts: that it was trained on; those that went well are the bank.
        policy: bundle whose features it reads.
        out: folder, made, or of a bundle that this one replaces once it is whole; its name is the bundle's.

    Raises:
        RuntimeError: a graph does not reproduce the network.
        ConfigError: ``out`` holds something else.
    """
    with rebuilt(out, "failure_detector") as folder:
        parity = {name: _graph(name, *parts, folder) for name, parts in _graphs(net, state["detector"]).items()}
        looks, mean, std = neighbours(attempts, state["recipe"]["seed"])
        centre, precision = covariance(attempts)
        np.savez(folder / BANK_FILE, looks=looks, mean=mean, std=std, centre=centre, precision=precision)
        write_manifest(folder, _manifest(state, attempts, policy, out.name, parity))
    return Bundle.read(out)


def _manifest(
    state: dict[str, Any], attempts: Sequence[Attempt], policy: Bundle, name: str, parity: dict[str, float]
) -> dict[str, Any]:
    scale = np.array(policy.manifest["normalisation"]["action_std"]).max(0)
    return {
        "name": name,
        "kind": "failure_detector",
        "created": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "policies": [policy.version],
        "features": state["detector"]["features"],
        "period": period(attempts),
        "candidates": len(attempts[0].looks[0].chunks),  # what sets say of each other depends on it
        "width": state["detector"]["width"],
        "action_scale": scale.tolist(),
        "members": list(MEMBERS),
        "votes": VOTES,
        "training": {key: state[key] for key in ("recipe", "step", "attempts", "failures")},
        "parity": parity,
    }


def _graphs(net: DetectorNet, sizes: dict[str, int]) -> dict[str, tuple[nn.Module, tuple, list[str], list[str]]]:
    """Each graph's module, arguments to trace it with, names of inputs and outputs."""
    make = torch.Generator().manual_seed(0)
    features = net.mean + net.std * torch.randn(1, sizes["features"], generator=make)
    memory = [torch.randn(1, sizes["width"], generator=make) for _ in "hc"]
    return {
        "safe_mlp": (_Mlp(net), (features,), ["features"], ["failure"]),
        "safe_lstm": (
            _Lstm(net), (features, *memory), ["features", "hidden", "cell"], ["failure", "hidden_after", "cell_after"]
        ),
        "rnd": (_Rnd(net), (features,), ["features"], ["error"]),
    }  # fmt: skip


def _graph(name: str, module: nn.Module, args: tuple, inputs: list[str], outputs: list[str], out: Path) -> float:
    """Write a graph; how far it is from the network. RuntimeError: too far."""
    file = out / f"{name}.onnx"
    export_graph(module, args, inputs, outputs, file, None)
    with torch.no_grad():
        expected = module(*args)
    found = difference(file, args, expected if isinstance(expected, tuple) else (expected,))
    require_parity(name, found)
    return found
