"""The mean of several trainings' policies: a model soup (arXiv 2203.05482), for trainings that have begun alike.

What each training did by chance averages out, what they have in common stays. It costs a robot nothing.
"""

import json
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from torch import Tensor

from vla_mbpo.core.errors import require
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.policy.network import FlowPolicy
from vla_mbpo.training.sft import load_policy

ALIKE = ("policy", "words", "normalisation")


def load_mean(folders: Sequence[Path]) -> tuple[FlowPolicy, dict[str, Any]]:
    """The policy of training runs or bundles, and what an export has to know; of several, the mean of their weights.

    Raises:
        ConfigError: they are of different sizes, vocabularies or normalisations.
    """
    nets, facts = [load_policy(folder) for folder in folders], [_facts(folder) for folder in folders]
    for folder, one in zip(folders, facts, strict=True):
        for key in ALIKE:
            require(one[key] == facts[0][key], f"{folder}: {key}", "another one", f"that of {folders[0]}")
    parts = [net.state_dict() for net in nets]
    nets[0].load_state_dict({name: _mean([part[name] for part in parts]) for name in parts[0]})
    return nets[0], facts[0] | {"rounds": _rounds([one["rounds"] for one in facts])}


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    return sum(tensors[1:], tensors[0]) / len(tensors) if tensors[0].is_floating_point() else tensors[0]


def _facts(folder: Path) -> dict[str, Any]:
    if not (folder / "manifest.json").is_file():
        return json.loads((folder / "state.json").read_text())
    manifest = Bundle.load(folder).manifest
    kept = {key: manifest[key] for key in ("policy", "normalisation", "rounds")}
    return kept | {"words": manifest["vocabulary"]["words"]}


def _rounds(ways: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What the trainings have in common, then what each did."""
    if len(ways) == 1:
        return ways[0]
    common = len(list(takewhile(lambda steps: all(step == steps[0] for step in steps), zip(*ways, strict=False))))
    return [*ways[0][:common], {"mean_of": [way[common:] for way in ways]}]
