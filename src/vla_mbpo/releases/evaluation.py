"""The two sides of a comparison: evaluations in lockstep (`vla-mbpo eval`), kept so that none is made twice."""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

from vla_mbpo.eval import command
from vla_mbpo.eval.lockstep import Outcome
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.releases.decision import Result, Scene

PASSED_ON = ("tasks", "episodes", "seed", "scenes", "workers", "k", "robot")  # options of promote and of eval alike


def options(policy: Bundle, world_model: Bundle | None, folder: Path, args: argparse.Namespace) -> argparse.Namespace:
    """Options of `vla-mbpo eval` for one side. Its file is named by what it is of; scenes, tasks and number are not."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    made = parser.parse_args(["--bundle", str(policy.path), "--json", str(folder / "new.json")])
    vars(made).update({name: getattr(args, name) for name in PASSED_ON})
    if world_model is not None:
        made.imagination, made.world_model = "on", str(world_model.path)
    identity = command.identity(made)
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
    made.json = folder / f"{policy.manifest['name']}-{key}.json"
    return made


def evaluate(side: argparse.Namespace) -> tuple[dict[Scene, Result], dict[str, Any]]:
    """Results by scene, and facts for the report. What a file of earlier outcomes holds is not evaluated again."""
    print(f"{side.bundle}{f' with {side.world_model}' if side.imagination == 'on' else ''}:")
    result, outcomes = command.evaluate(side)
    facts = {"bundle": side.bundle, "bundle_sha256": result["bundle_sha256"], "settings": result["settings"]}
    return results(outcomes), {**facts, "file": side.json.name, "unknown_share": unknown_share(outcomes)}


def results(outcomes: list[Outcome]) -> dict[Scene, Result]:
    """By task and seed."""
    return {(o.task, o.seed): Result(o.success, len(o.cost_events)) for o in outcomes}


def unknown_share(outcomes: list[Outcome]) -> float:
    """Of the chunk sets, those that the world model knew nothing of."""
    sets = sum(o.chunks for o in outcomes)
    return sum(o.unknown for o in outcomes) / sets if sets else float("nan")
