"""``vla-mbpo calibrate detector``: conformal bands for a failure detector, or a proposal for newer ones."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.eval.statistics import wilson
from vla_mbpo.failure.attempts import Attempt, curve, cut_short, read, read_all
from vla_mbpo.failure.bands import Band, needed
from vla_mbpo.failure.calibration import Calibration, calibration_file, write
from vla_mbpo.failure.detector import Parts
from vla_mbpo.failure.scores import FloatArray
from vla_mbpo.paths import bundle_dir, robot_dir
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.training.episodes import overlapping, rollout_files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--detector", default="detector_full", help="failure-detector bundle: a name in models/ or a folder")
    add("--data", nargs="+", required=True, help="folders of rollouts of its policy; those that went well count")
    add("--robot", default="sim_panda", help="whose attempts these are")
    add("--alpha", type=float, default=0.1, help="share of attempts that go well in which an alarm may be raised")
    add("--out", type=Path, help="file of the bands; calibration/<detector>.json by default")
    add("--report", type=Path, help="PNG of how the new bands do on --test (needs the extra `train`)")
    add("--test", nargs="+", default=[], help="folders of other rollouts, for --report")
    add("--propose", action="store_true", help="leave the file as it is: write the new bands beside it and compare")


def run(args: argparse.Namespace) -> int:
    """Calibrate, and say with what result."""
    detector = Bundle.load(bundle_dir(args.detector))
    parts, policy = Parts(detector), detector.manifest["policies"][0]
    curves, facts = successes(parts, args.data, args.alpha, robot=args.robot)
    if args.report:
        known = overlapping(args.test, (*args.data, *_taught(parts)))
        require(not known, "--test", ", ".join(known), "attempts of neither --data nor the detector's training")
    file = args.out or calibration_file(args.detector)
    if args.propose:
        require(file.exists(), "--propose", str(file), "a file of bands to compare with; leave --propose out")
        before = Calibration.load(file, detector)
        _compare(before, _newer(args, parts, before, curves), args.alpha)
        file = file.with_suffix(".proposed.json")
    band = write(file, detector, curves, args.alpha, facts)
    if args.report:
        _report(args, band, [a for a in read_all(args.test, args.robot) if a.policy == policy], parts)
    print(f"{file}: {len(curves)} successes, band {band.width(args.alpha):.2f} for alpha {args.alpha:g}")
    return 0


def successes(
    parts: Parts, data: list[str], alpha: float, option: str = "--data", robot: str = "sim_panda"
) -> tuple[list[FloatArray], dict[str, Any]]:
    """Curves of the attempts in folders ``data`` that went well, of the detector's first policy version, and facts.

    ConfigError: they are too few for ``alpha``, of several sources, or the detector was trained on them.
    """
    manifest = parts.bundle.manifest
    policy = manifest["policies"][0]
    require(0.0 < alpha < 1.0, "--alpha", alpha, "above 0 and below 1")
    files = rollout_files(data, robot)
    cut = sum(cut_short(file, policy) for file in files)
    watched = "attempts that no alarm ended: without detector, or with vetting.on_alarm=note; else bands get too narrow"
    require(not cut, option, f"{cut} attempts that an alarm ended", watched)
    attempts = [a for a in map(read, files) if a is not None and a.policy == policy and a.success]
    sources, k = sorted({a.source for a in attempts}), manifest["candidates"]
    require(len(sources) <= 1, option, ", ".join(sources), "attempts of one source: bands are of one way to drive")
    odd = sum(len(look.chunks) != k for a in attempts for look in a.looks)
    what = f"{k} candidates, as it was trained with"
    require(not odd, option, f"{odd} looks with another number of candidates", what)
    taught = overlapping(data, _taught(parts))
    require(not taught, option, ", ".join(taught), "attempts that the detector was not trained on")
    least = needed(alpha)
    found = f"{len(attempts)} successes of {policy} in {', '.join(data)}"
    require(len(attempts) >= least, option, found, f"at least {least} for alpha {alpha:g}")
    scores, seeds = parts.scores(manifest["members"]), [attempt.seed for attempt in attempts]
    tasks = sorted({a.task for a in attempts})
    facts = {"data": data, "seeds": [min(seeds), max(seeds)], "tasks": tasks}
    return [curve(attempt, scores, parts.period) for attempt in attempts], facts


def _taught(parts: Parts) -> tuple[str, ...]:
    """Folders of what the detector was trained on."""
    return tuple(parts.bundle.manifest["training"]["recipe"].get("data", ()))


def _newer(args: argparse.Namespace, parts: Parts, before: Calibration, curves: list[FloatArray]) -> list[FloatArray]:
    """Those of the ``curves`` that the bands in use were not fitted on; says which folders do not count."""
    old = overlapping(args.data, before.data)
    if not old:
        return curves
    print(f"bands in use: they were fitted on attempts in {', '.join(old)}: these are not compared")
    attempts = read_all([folder for folder in args.data if folder not in old], args.robot)
    scores = parts.scores(parts.bundle.manifest["members"])
    return [curve(a, scores, parts.period) for a in attempts if a.policy == before.policy and a.success]


def _report(args: argparse.Namespace, band: Band, attempts: list[Attempt], parts: Parts) -> None:
    from vla_mbpo.training.detector_report import report

    fails = np.array([not attempt.success for attempt in attempts])
    both = f"{int(fails.sum())} failures, {int((~fails).sum())} successes"
    require(len(set(fails.tolist())) == 2, "--test", both, "some of each, for --report")
    members = parts.bundle.manifest["members"]
    scores, look = parts.scores(members), parts.period * RobotSpec.load(robot_dir(args.robot)).row_period * 1e-9
    report(band, members, [curve(a, scores, parts.period) for a in attempts], fails, args.alpha, look, args.report)


def _compare(before: Calibration, curves: list[FloatArray], alpha: float) -> None:
    """Say how the bands in use do on these attempts."""
    if not curves:
        print("bands in use: no other attempts to compare on")
        return
    try:
        width = before.width(before.policy, alpha)
    except ConfigError as error:
        print(f"bands in use: {error}")
        return
    alarms = sum(before.band.reached(one)[-1] > width for one in curves)
    low, high = wilson(alarms, len(curves))
    print(f"bands in use: {alarms} false alarms in {len(curves)} attempts [{low:.3f}, {high:.3f}], alpha {alpha:g}")
