"""Float graphs of a bundle, in single and mixed precision, in the cache (torch; the robot gets them from there).

Bundles hold int8 graphs, of which TensorRT takes neither operators nor dynamic scales: policies are exported anew
from their weights, world models from the run folder they were exported from. What is float in a bundle stays as it is.
"""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from vla_mbpo.core.errors import require
from vla_mbpo.engines.cache import Cache, Compiled
from vla_mbpo.engines.samples import feeds
from vla_mbpo.engines.sessions import cpu_session, shipped
from vla_mbpo.engines.verify import agreement
from vla_mbpo.paths import share_dir
from vla_mbpo.policy.bundle import Bundle

if TYPE_CHECKING:
    import onnx

CANDIDATES = (8, 1, 8)  # of the feeds that graphs are compared on


def compiled(bundle: Bundle, cache: Cache, run: Path | None = None, anew: bool = False) -> list[Compiled]:
    """The bundle's graphs in the cache, exported where they are not there yet.

    Args:
        bundle: policy, world model or failure detector.
        cache: where they are kept.
        run: folder of a world model's training; default: models/training/NAME.
        anew: export again.

    Raises:
        ConfigError: a foreign policy, a run that is not the bundle's, or a graph that is damaged.
        ModuleNotFoundError: an export is needed, and there is no torch.
    """
    require(bundle.manifest.get("adapter") is None, "bundle", bundle.path.name, "a model of this package's own")
    files = shipped(bundle.path)
    there = [cache.graph(file) for file in files.values()]
    if not anew and all(there):
        return [found for found in there if found is not None]
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        exported = _exported(bundle, [name for name, file in files.items() if _is_int8(file)], Path(folder), run)
        models = {name: onnx.load(str(exported.get(name, file))) for name, file in files.items()}
    kept = precisions(bundle, models)
    return [cache.keep(file, name, bundle.version, kept[name]) for name, file in files.items()]


def precisions(bundle: Bundle, models: dict[str, "onnx.ModelProto"]) -> dict[str, dict[str, tuple[bytes, dict]]]:
    """Content and record by graph and precision. Half precision only where it says the same."""
    from vla_mbpo.engines.half import halved

    full = {name: model.SerializeToString() for name, model in models.items()}
    sessions = {name: cpu_session(content, 1) for name, content in full.items()}
    told = [feeds(bundle, sessions, k, seed) for seed, k in enumerate(CANDIDATES)]
    found: dict[str, dict[str, tuple[bytes, dict]]] = {}
    for name, model in models.items():
        half, known = halved(model)
        content = half.SerializeToString()
        same = agreement(sessions[name].run, cpu_session(content, 1).run, [feed[name] for feed in told])
        found[name] = {"fp32": (full[name], {} if same.ok else {"no_fp16": same.to_dict()})}
        if same.ok:
            found[name]["fp16"] = (content, known | {"on_cpu": same.to_dict()})
    return found


def _is_int8(file: Path) -> bool:
    return file.name.endswith(".int8.onnx")


def _exported(bundle: Bundle, names: list[str], out: Path, run: Path | None) -> dict[str, Path]:
    if not names:
        return {}
    if bundle.manifest["kind"] == "policy":
        from vla_mbpo.policy.export import export_graphs
        from vla_mbpo.training.sft import load_policy

        export_graphs(load_policy(bundle.path).eval(), out)
    else:
        _export_world_model(bundle, run or share_dir() / "models" / "training" / bundle.path.name, out)
    return {name: out / f"{name}.onnx" for name in names}


def _export_world_model(bundle: Bundle, run: Path, out: Path) -> None:
    from vla_mbpo.imagination.export import SEEING, export_graphs
    from vla_mbpo.training.world_model import WorldModelRecipe, load_perception, load_world_model

    require((run / "state.json").is_file(), "--run", str(run), f"the run folder of {bundle.version}")
    state = json.loads((run / "state.json").read_text())
    trained = bundle.manifest["training"]
    same = all(state.get(key) == value for key, value in trained.items())
    require(same, "--run", str(run), f"the run that {bundle.version} was exported from, step {trained.get('step')}")
    net, state = load_world_model(run)
    perception = load_perception(WorldModelRecipe(**state["recipe"]))
    export_graphs(net, perception.eval(), out, SEEING)
