"""``vla-mbpo eval --ablate``: the same scenes with and without a part of the stack, and the paired differences."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vla_mbpo.core.errors import require
from vla_mbpo.eval.lockstep import Outcome
from vla_mbpo.eval.statistics import paired, paired_ratio
from vla_mbpo.sim.instructions import tasks_of

PARTS = ("imagination", "k")
Evaluate = Callable[[argparse.Namespace], tuple[dict[str, Any], list[Outcome]]]


def variants(parts: list[str], k: int) -> dict[str, dict[str, Any]]:
    """What to evaluate: name -> options. The first is the one that the others are compared with."""
    chosen: dict[str, dict[str, Any]] = {"k1": {"k": 1, "imagination": "off"}} if "k" in parts else {}
    chosen[f"k{k}"] = {"k": k, "imagination": "off"}
    if "imagination" in parts:
        chosen[f"k{k}_random"] = {"k": k, "imagination": "random"}
        chosen[f"k{k}_imagination"] = {"k": k, "imagination": "on"}
    return chosen


def ablate(args: argparse.Namespace, evaluate: Evaluate, partial_of: Callable[[argparse.Namespace], Path]) -> int:
    """Evaluate all variants and write the comparison to ``args.json``; an interrupted run resumes."""
    parts = [part.strip() for part in args.ablate.split(",")]
    require(set(parts) <= set(PARTS), "--ablate", args.ablate, f"some of {', '.join(PARTS)}")
    results: dict[str, Any] = {}
    known = tasks_of(args.robot)
    outcomes: dict[str, dict[tuple[str, int], Outcome]] = {}
    done: list[argparse.Namespace] = []
    for name, options in variants(parts, args.k).items():
        file = args.json.with_name(f"{args.json.stem}.{name}.json")
        print(f"{name}:")
        one = argparse.Namespace(**{**vars(args), **options, "json": file, "ablate": ""})
        results[name], found = evaluate(one)
        outcomes[name] = {(o.task, o.seed): o for o in found if not known[o.task].held_out}
        done.append(one)
    base = next(iter(results))
    pairs = {name: (base, name) for name in results if name != base}
    chance, choice = f"k{args.k}_random", f"k{args.k}_imagination"
    if choice in results:  # what is the world model's, and not the sampling's
        pairs[f"{choice} against {chance}"] = chance, choice
    comparison = {name: _compare(outcomes[one], outcomes[other]) for name, (one, other) in pairs.items()}
    whole = {"command": next(iter(results.values()))["command"], "base": base, "comparison": comparison}
    args.json.write_text(json.dumps({**whole, "variants": results}, indent=1) + "\n")
    for one in done:
        one.json.unlink()
        partial_of(one).unlink()
    for name, row in comparison.items():
        success, cost = row["success_difference"], row["cost_ratio"]
        ratio = f"cost events x {cost[0]:.2f} [{cost[1]:.2f}, {cost[2]:.2f}]" if cost else "too few cost events"
        print(f"{name:32} success {success[0]:+.3f} [{success[1]:+.3f}, {success[2]:+.3f}]  {ratio}  n {row['n']}")
    return 0


def _compare(before: dict[tuple[str, int], Outcome], after: dict[tuple[str, int], Outcome]) -> dict[str, Any]:
    """Paired over the scenes of training tasks."""
    scenes = sorted(set(before) & set(after))
    pairs = [(before[scene], after[scene]) for scene in scenes]
    return {
        "n": len(scenes),
        "success_difference": paired([a.success for a, _ in pairs], [b.success for _, b in pairs]),
        "cost_ratio": paired_ratio([len(a.cost_events) for a, _ in pairs], [len(b.cost_events) for _, b in pairs]),
    }
