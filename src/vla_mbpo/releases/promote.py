"""``vla-mbpo promote``: a candidate goes live if it is better than the incumbent, paired on the same start states."""

import argparse
import getpass
import json
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from vla_mbpo.bringup import DEFAULT_ROBOT
from vla_mbpo.core.errors import require
from vla_mbpo.eval.command import SCENES
from vla_mbpo.eval.report import machine, now
from vla_mbpo.paths import store_dir
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.policy.signature import SigningKey
from vla_mbpo.releases import evaluation, recorded
from vla_mbpo.releases.decision import Check, Comparison, Limits, accepted, compare, decide
from vla_mbpo.releases.parts import Parts, adopted, as_they_are, policy_bundle
from vla_mbpo.releases.release import Release, assemble
from vla_mbpo.releases.report import page
from vla_mbpo.releases.running import running_stack
from vla_mbpo.releases.store import Store
from vla_mbpo.sim.instructions import tasks_of

EXIT_OK, EXIT_REFUSED = 0, 1
UNKNOWN_SHARE = 0.05  # of the chunk sets, above which a world model knows too little of the candidate's
_LIMITS = Limits()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--candidate", help="policy bundle, name or folder; without it the incumbent becomes the first release")
    add("--incumbent", default="live", help="live, or a policy bundle where no release is live yet")
    add("--world-model", default="", help="world model of the candidate (of the incumbent without --candidate)")
    add("--detector", default="", help="failure detector, likewise")
    add("--bands", default="", help="its bands for the candidate's version, or give --rollouts")
    add("--rollouts", nargs="+", default=[], help="folders of the candidate's rollouts to fit the bands on")
    add("--alpha", type=float, default=0.1, help="false-alarm rate of those bands")
    add("--incumbent-world-model", default="", help="where no release is live yet: its world model")
    add("--incumbent-detector", default="", help="its failure detector, with the bands in calibration/")
    add("--recorded", nargs="+", default=[], metavar="FOLDER", help="compare recorded attempts of both; no simulator")
    add("--tasks", default="all", help="all, or names separated by commas")
    add("--episodes", type=int, default=_LIMITS.episodes, help="attempts per task and side")
    add("--seed", type=int, default=0, help="first seed")
    add("--scenes", choices=SCENES, default="calibration", help="the test scenes are for numbers that are quoted")
    add("--workers", type=int, default=2, help="processes")
    add("--k", type=int, default=8, help="candidate chunks per inference")
    add("--robot", default=DEFAULT_ROBOT)
    add("--store", default="", help="folder of the releases; default: releases/ below VLA_MBPO_HOME")
    add("--evaluations", type=Path, help="folder of outcomes that are not made again; default: beside the store")
    add("--no-swap", action="store_true", help="leave a running stack as it is")
    add("--sign", type=Path, metavar="KEY", help="sign the release and its parts (vla-mbpo security key)")
    for name, value in asdict(_LIMITS).items():
        if name != "parity":
            add(f"--limit-{name.replace('_', '-')}", type=type(value), default=value, help="default %(default)s")
    parser.epilog = "exit code: 0 live, 1 refused by a limit or by the running stack, 64 usage or configuration"


@dataclass(frozen=True)
class Incumbent:
    """What the candidate is compared with: the live release, or parts that become the first one."""

    parts: Parts
    release: Release | None = None

    @property
    def name(self) -> str:
        """Of the live release in the store; empty: none."""
        return self.release.path.name if self.release is not None else ""


def run(args: argparse.Namespace) -> int:
    """Compare, decide, and make the candidate live. Returns the exit code."""
    store = Store(store_dir(args.store))
    if args.candidate is None:
        parts = _first_parts(args, args.world_model, args.detector, args.bands)
        with store.locked():
            require(not store.state().live, "--candidate", None, f"{store.state().live} is live: give a candidate")
            name = _first(store, parts, args)
        print(f"{name} is live: the first release of {store.folder}")
        return EXIT_OK
    candidate = policy_bundle(args.candidate, "--candidate")
    version = candidate.version
    if _went_live(store, version, args):
        print(f"{version} is live already: {store.find('live')}")
        return EXIT_OK
    incumbent = _incumbent(store, args)
    require(version != incumbent.parts.policy.version, "--candidate", version, "is the incumbent itself")
    evaluations = args.evaluations or store.folder.parent / "evaluations"
    evaluations.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=evaluations) as work:
        parts = _candidate_parts(args, candidate, Path(work))
        if args.sign:
            SigningKey.load(args.sign).sign_all(Path(work))  # the copies that were made for the candidate
        report = _report(args, incumbent.parts, parts, evaluations)
        _write_report(evaluations / version.replace("@", "-"), report)
        for check in report["checks"]:
            print(f"{'ok     ' if check['ok'] else 'REFUSED'} {Check(**check)}")
        if not report["accepted"]:
            print(f"{version} is refused; {incumbent.parts.policy.version} stays", file=sys.stderr)
            return EXIT_REFUSED
        return _go_live(args, store, incumbent, parts, report)


def _went_live(store: Store, version: str, args: argparse.Namespace) -> bool:
    """Whether the candidate has already taken the place of the incumbent that is named.

    So it is where whoever called was killed before it had noted the end.
    """
    if args.incumbent == "live" or not store.state().live:
        return False
    return store.release("live").policy.version == version != policy_bundle(args.incumbent, "--incumbent").version


def _incumbent(store: Store, args: argparse.Namespace) -> Incumbent:
    """ConfigError: another policy than the live one is named, which would be an easier opponent."""
    if args.incumbent == "live" or store.state().live:
        live = store.release("live")
        if args.incumbent != "live":
            named = policy_bundle(args.incumbent, "--incumbent").version
            require(named == live.policy.version, "--incumbent", named, f"{live.policy.version} is live: say live")
        return Incumbent(Parts(live.policy, live.world_model, live.detector), live)
    return Incumbent(_first_parts(args, args.incumbent_world_model, args.incumbent_detector))


def _first_parts(args: argparse.Namespace, world_model: str, detector: str, bands: str = "") -> Parts:
    require(args.incumbent != "live", "--incumbent", "live", "no release is live yet: name a policy bundle")
    return as_they_are(policy_bundle(args.incumbent, "--incumbent"), world_model, detector, bands)


def _candidate_parts(args: argparse.Namespace, policy: Bundle, work: Path) -> Parts:
    unknown = f"{args.world_model} with --recorded"
    require(
        not (args.recorded and args.world_model), "--world-model", unknown, "evaluated in the simulator, or left out"
    )
    require(not (args.bands and args.rollouts), "--rollouts", args.rollouts, "either --bands or --rollouts")
    if args.detector and not args.rollouts:
        require(bool(args.bands), "--detector", args.detector, "with --bands or --rollouts of the candidate")
        return as_they_are(policy, args.world_model, args.detector, args.bands)
    return adopted(policy, args.world_model, args.detector, args.rollouts, args.alpha, work, args.robot)


def _report(args: argparse.Namespace, before: Parts, after: Parts, folder: Path) -> dict[str, Any]:
    """Evaluate both sides, or read what was evaluated, and hold the result to the limits."""
    tasks = tasks_of(args.robot)
    if args.recorded:
        sides = recorded.sides(args.recorded, [before.policy.version, after.policy.version], tasks)
    else:
        asked = [evaluation.options(parts.policy, parts.world_model, folder, args) for parts in (before, after)]
        sides = [evaluation.evaluate(side) for side in asked]
    (old, old_facts), (new, new_facts) = sides
    found = compare(old, new, [name for name, task in tasks.items() if task.held_out])
    limits = Limits(**{k: getattr(args, f"limit_{k}") for k in asdict(_LIMITS) if k != "parity"})
    further = _as_much(before, after)
    if after.world_model is not None:
        further.append(_knows(new_facts["unknown_share"]))
    checks = decide(found, limits, after.policy.manifest.get("parity", {}), further)
    return _facts(args, limits, found, checks) | {
        "incumbent": {"version": before.policy.version, "versions": _versions(before), **old_facts},
        "candidate": {"version": after.policy.version, "versions": _versions(after), **new_facts},
    }


def _as_much(before: Parts, after: Parts) -> list[Check]:
    """What vets the incumbent's chunks may be exchanged, and not left out."""
    parts = (
        ("world model", before.world_model, after.world_model),
        ("failure detector", before.detector, after.detector),
    )
    return [
        Check(name, "with one" if new else "without", "with one, as the incumbent", new is not None)
        for name, old, new in parts
        if old is not None
    ]


def _knows(share: float) -> Check:
    name = "chunk sets that the world model knows nothing of"
    return Check(name, f"{share:.1%}", f"at most {UNKNOWN_SHARE:.0%}", share <= UNKNOWN_SHARE)


def _facts(args: argparse.Namespace, limits: Limits, found: Comparison, checks: list[Check]) -> dict[str, Any]:
    return {
        "accepted": accepted(checks),
        "checks": [asdict(check) for check in checks],
        "limits": asdict(limits),
        "comparison": asdict(found),
        "scenes": {
            "kind": "recorded" if args.recorded else args.scenes,
            "seed": args.seed,
            "episodes": args.episodes,
            "tasks": args.tasks,
        },
        **_signature(),
    }


def _signature() -> dict[str, str]:
    """Who or what signs off."""
    command = "vla-mbpo " + " ".join(sys.argv[1:])
    return {"command": command, "machine": machine(), "date": now(), "signed_off_by": f"{_user()} on {platform.node()}"}


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name
        return "unknown"


def _versions(parts: Parts) -> dict[str, str]:
    return {b.manifest["kind"]: b.version for b in (parts.policy, parts.world_model, parts.detector) if b is not None}


def _write_report(folder: Path, report: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    (folder / "report.html").write_text(page(report))


def _build(
    parts: Parts, decision: dict[str, Any], report: dict[str, Any] | None = None, sign: Path | None = None
) -> Callable[[Path], Release]:
    key = SigningKey.load(sign) if sign else None

    def build(folder: Path) -> Release:
        if report is not None:
            _write_report(folder, report)
        return assemble(folder, parts.policy, decision, parts.world_model, parts.detector, parts.bands, key)

    return build


def _first(store: Store, parts: Parts, args: argparse.Namespace) -> str:
    """Make the parts the first release; nothing is there to compare them with."""
    reason = "first release, compared with nothing"
    made = store.add(_build(parts, {"reason": reason, **_signature()}, sign=args.sign))
    store.promote(made.path.name, reason)
    return made.path.name


def _go_live(args: argparse.Namespace, store: Store, incumbent: Incumbent, parts: Parts, report: dict[str, Any]) -> int:
    """Into the store, then into the running stack, then live: whoever refuses leaves the incumbent live."""
    gain = report["comparison"]["gain"]
    reason = f"success {gain[0]:+.3f} ({gain[1]:+.3f} to {gain[2]:+.3f}) against {incumbent.parts.policy.version}"
    decision = {key: report[key] for key in ("checks", "limits", "command", "machine", "date", "signed_off_by")}
    with store.locked():
        live = store.state().live
        require(live == incumbent.name, "live release", live, f"{incumbent.name or 'none'}, as at the comparison")
        if not live:
            live = _first(store, incumbent.parts, args)
        made = store.add(_build(parts, {"reason": reason, **decision}, report, args.sign))
        with running_stack(store.folder, not args.no_swap) as stack:
            swapped = stack.swap(made.path, now=False)
        print(swapped.message)
        if swapped.refused:
            print(f"{made.path.name} does not go live; {live} stays", file=sys.stderr)
            return EXIT_REFUSED
        store.promote(made.path.name, reason)
    print(f"{made.path.name} is live: {reason}; report: {made.path / 'report.html'}")
    return EXIT_OK
