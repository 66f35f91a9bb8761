"""``python -m benchmarks.metaworld``: Meta-World as an outside benchmark (docs/benchmark.md).

Protocols (mt50, dream-rl, vetting, detector) run their stages one after the other, resume, and note each one's wall
time in progress.json. The other commands are their stages.
"""

import argparse
import os
import sys
from dataclasses import MISSING, fields
from pathlib import Path

os.environ.setdefault("MUJOCO_GL", "egl")  # before anything draws
os.environ.setdefault("LP_NUM_THREADS", "1")  # several processes share the cores
os.environ.setdefault(
    "PYTHONWARNINGS", "ignore::UserWarning:metaworld.policies.policy"
)  # of experts whose actions are cut off

from benchmarks.metaworld import commands, plans, recipes  # noqa: E402
from vla_mbpo.core.errors import ConfigError  # noqa: E402
from vla_mbpo.processes import ERROR_PREFIX  # noqa: E402
from vla_mbpo.training.pipeline import Pipeline  # noqa: E402

PROTOCOLS = {
    "mt50": (recipes.Mt50, plans.mt50),
    "dream-rl": (recipes.Dream, plans.dream_rl),
    "vetting": (recipes.Vetting, plans.vetting),
    "detector": (recipes.Detector, plans.detector),
}


def main(argv: list[str] | None = None) -> int:
    """Entry point; 0: done."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.metaworld", description=__doc__)
    found = parser.add_subparsers(dest="what", required=True)
    for name, (kind, _) in PROTOCOLS.items():
        one = found.add_parser(name, help=(kind.__doc__ or "").splitlines()[0])
        for field in fields(kind):
            required = field.default is MISSING
            made = Path if field.name in ("out", "start") else str if required else type(field.default)
            shown = {"required": True} if required else {"default": field.default}
            one.add_argument("--" + field.name.replace("_", "-"), type=made, **shown)
    commands.declare(found)
    args = parser.parse_args(argv)
    try:
        if args.what in PROTOCOLS:
            kind, plan = PROTOCOLS[args.what]
            recipe = kind(**{field.name: getattr(args, field.name) for field in fields(kind)})
            return Pipeline(recipe, planned=plan(recipe)).run()
        return commands.run(args)
    except ConfigError as error:
        print(f"{ERROR_PREFIX}{error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
