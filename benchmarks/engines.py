"""Models on a GPU: build seconds, parity and latency of every graph, by library, precision and architecture.

With a GPU engines are built for it, verified against the float graphs and timed beside ONNX Runtime; without one they
are built for the architectures that are named, and what runs on the CPU is compared and timed. Needs the extras `train`
and `engines` (or TensorRT). Engines go to a folder of their own, so that every one is built.
"""

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import parser, write
from vla_mbpo.engines import command
from vla_mbpo.engines.pipeline import compile_bundle
from vla_mbpo.paths import bundle_dir
from vla_mbpo.policy.bundle import Bundle


def table(found: list[dict[str, Any]]) -> dict[str, Any]:
    """One line per engine and per timing."""
    lines: dict[str, Any] = {}
    for one in found:
        for name, graph in one["graphs"].items():
            half = graph["onnx"].get("fp16", {})
            lines[f"{name} fp16 on the CPU"] = half.get("on_cpu", "not the same: stays fp32")
            lines[f"{name} nodes kept fp32"] = half.get("kept_fp32", {})
            for engine in graph["engines"]:
                title = f"{name} {engine['precision']} {engine['library']} {engine['version']} {engine['target']}"
                lines[title] = {
                    "build_s": engine["build_seconds"],
                    "mb": round(engine["bytes"] / 1e6, 1),
                    "verified": engine["verified"],
                }
        for where, moved in one.get("actions", {}).items():
            lines[f"actions, {where}"] = moved
        for name, timings in one.get("latency_ms", {}).items():
            lines[f"{name} latency_ms"] = timings
    return lines


def main() -> None:
    """Compile and write."""
    cli = parser(__doc__ or "")
    cli.add_argument("--bundles", nargs="+", default=list(command.BUNDLES))
    cli.add_argument("--architectures", default=None, help="default: this machine's GPU, without one SM86,SM89")
    cli.add_argument("--library", default=None)
    cli.add_argument("--repeats", type=int, default=200)
    args = cli.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        options = {"precisions": "fp32,fp16", "run": None, "cache": Path(folder), "anew": False}
        given = {"library": args.library, "architectures": args.architectures, "repeats": args.repeats}
        plan = command.plan(**options, **given)
        found = [compile_bundle(Bundle.load(bundle_dir(name)), plan) for name in args.bundles]
    built = [
        engine["build_seconds"] for one in found for graph in one["graphs"].values() for engine in graph["engines"]
    ]
    metrics = {
        "gpu": plan.device.name if plan.device else "none: engines are built, not run",
        "engines": len(built),
        "build_s_total": round(sum(built), 1),
        **table(found),
    }
    write("engines", metrics, args.json)


if __name__ == "__main__":
    main()
