"""Whether all models of a stack fit this machine together: GPU memory, memory, processor cores. Asked before the start.

What a model needs is estimated from the sizes of its graphs; where an engine was verified, its memory was read then.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_mbpo.bringup import NodeSpec, said_of
from vla_mbpo.core.errors import require
from vla_mbpo.engines import cuda
from vla_mbpo.engines.sessions import CUDA_ARENA, Choice, Placement, shipped
from vla_mbpo.paths import bundle_dir
from vla_mbpo.releases.release import part

MB = 1_000_000
PROCESS = 155 * MB  # interpreter, middleware and ONNX Runtime of a node, without its graphs
SCRATCH = 16 * MB  # activations of a graph on the CPU
CONTEXT = 450 * MB  # what CUDA keeps on the GPU for a process, and its libraries in memory
GROUP = Path("/sys/fs/cgroup")
KINDS = {"vram": "MB of GPU memory", "memory": "MB of memory", "threads": "processor cores"}
# Nodes that run models: parameter of their part in a release, and how many of their threads work at once.
MODELS = {"policy": "policy", "imagination": "world_model", "failure_detector": "failure_detector"}


@dataclass(frozen=True)
class Need:
    """Of one model. ``vram`` and ``memory`` in bytes; ``threads``: that compute while the robot waits."""

    model: str
    vram: int
    memory: int
    threads: int


def check(specs: Sequence[NodeSpec], text: str = "") -> list[Need]:
    """What each model of the graph needs.

    Args:
        specs: as ``bringup.graph`` makes them.
        text: budgets that replace what this machine has: ``vram=MB,memory=MB,threads=N``, any of them.

    Raises:
        ConfigError: together they need more; names the model that does not fit, and the budget. Also: a provider that
            was asked for cannot run a graph.
    """
    found = [need for spec in specs for need in needs(spec)]
    limits = available() | parse(text)
    for kind, unit in KINDS.items():
        used = 0
        for need in found:
            own, scale = getattr(need, kind), 1 if kind == "threads" else MB
            over = used + own > limits[kind]
            others = f", of which the models before it take {-(-used // scale)}" if used else ""
            valid = f"the budget is {limits[kind] // scale} {unit}{others} (--budget {kind}=…)"
            require(not (over and own), need.model, f"{-(-own // scale)} {unit}", valid)
            used += own
    return found


def parse(text: str) -> dict[str, int]:
    """Budgets in bytes and cores. ConfigError."""
    found = {}
    for entry in filter(None, (entry.strip() for entry in text.split(","))):
        kind, _, value = entry.partition("=")
        valid = f"expected some of {', '.join(f'{name}=N' for name in KINDS)}, N a whole number"
        require(kind in KINDS and value.isdecimal(), "--budget", entry, valid)
        found[kind] = int(value) * (1 if kind == "threads" else MB)
    return found


def available() -> dict[str, int]:
    """What this machine has now: free GPU memory, memory that programs can get, cores that this process may use."""
    try:
        vram = cuda.driver().device().free
    except cuda.NoGpu:
        vram = 0
    return {"vram": vram, "memory": _memory(), "threads": len(os.sched_getaffinity(0))}


def _memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    try:  # a container may be given less
        limit, used = (int((GROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        stat = dict(line.split() for line in (GROUP / "memory.stat").read_text().splitlines())
        return min(free, max(limit - used + int(stat.get("inactive_file", 0)), 0))  # a cache is given up
    except (OSError, ValueError):  # no such files, or "max"
        return free


def needs(spec: NodeSpec) -> list[Need]:
    """Of a node's models; none for one without."""
    if spec.executable not in MODELS:
        return []
    values = parameters(spec)
    if values.get("release"):
        folder = part(Path(values["release"]), MODELS[spec.executable]).path
    else:
        folder = bundle_dir(values["bundle"])
    place = Placement(values.get("provider", "auto"), values.get("allow_fallback", False), spec.name)
    files = shipped(folder)
    choices = {name: place.choose(file) for name, file in files.items()}
    sizes = [_graph(files[name], choice) for name, choice in choices.items()]
    on_gpu = any(choice.provider != "cpu" for choice in choices.values())
    memory = PROCESS + sum(memory for _, memory in sizes) + (CONTEXT if on_gpu else 0)
    vram = sum(vram for vram, _ in sizes) + (CONTEXT if on_gpu else 0)
    # The detector takes a millisecond of its executor's thread, and dreams are niced: neither is waited for.
    asked = values.get("threads", 1)
    threads = asked if isinstance(asked, int) and spec.executable != "failure_detector" else 0
    found = [Need(f"{spec.name} ({folder.name})", vram, memory, threads)]
    if spec.executable == "imagination" and values.get("dream_period", 1.0):
        every = sum(_graph(file, Choice("cpu"))[1] for file in folder.glob("*.onnx"))
        found.append(Need(f"{spec.name} ({folder.name}, dreams)", 0, PROCESS + every, 0))
    return found


def parameters(spec: NodeSpec) -> dict[str, Any]:
    """What the node will be given: params.yaml, and over it what is stronger."""
    return {**said_of(spec.params_file, spec.name), **spec.parameters}


def _graph(file: Path, choice: Choice) -> tuple[int, int]:
    """Bytes of GPU memory and of memory."""
    if choice.provider == "tensorrt":
        plan = int(choice.record["bytes"])
        beside = (choice.record.get("verified") or {}).get("memory", choice.record["workspace"])
        return plan + int(beside), plan
    if choice.provider == "cuda":
        return CUDA_ARENA, 2 * file.stat().st_size
    return 0, 2 * file.stat().st_size + SCRATCH  # ONNX Runtime keeps weights packed beside the ones it read
