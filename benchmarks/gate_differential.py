"""Gate against an independent judge of contacts (benchmarks.oracle), and false stops on the experts' motions."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import parser, write
from benchmarks.gate_experts import experts
from benchmarks.gate_motions import Case, motion, obstructed, poses, standing
from benchmarks.oracle import CHECKS, Contact, Oracle, margin
from benchmarks.separation import Separation
from vla_mbpo.core.chunk import JointRows
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.eval.statistics import wilson
from vla_mbpo.gate.checks import CHECKS as GATE_CHECKS
from vla_mbpo.gate.checks import Stage
from vla_mbpo.gate.config import GateConfig
from vla_mbpo.gate.gate import Gate
from vla_mbpo.paths import robot_dir

CLEARLY = 0.005  # a refusal this far [m] beyond the margin is a false stop
REACH = 0.026  # of distances that the oracle reports [m]: the largest margin and CLEARLY
GEOMETRY = {check.name for checks in GATE_CHECKS.values() for check in checks if check.stage == Stage.GEOMETRY}


@dataclass(frozen=True)
class Finding:
    """What gate and oracle say of one case.

    Attributes:
        passed: the gate let it pass.
        named: checks that refused it.
        straight, curve: deepest contact of each kind along either path, see Case.
    """

    passed: bool
    named: frozenset[str]
    straight: dict[str, Contact]
    curve: dict[str, Contact]

    @property
    def unjudged(self) -> bool:
        """Refused before the gate looked at geometry."""
        return not self.passed and not self.named <= GEOMETRY

    def missed(self, kind: str) -> float:
        """Depth [m] of a contact on the straight path that the check ``kind`` did not name; 0: none missed."""
        found = self.straight.get(kind)
        return 0.0 if found is None or kind in self.named or self.unjudged else -found.distance


def judge(gate: Gate, oracle: Oracle, case: Case) -> Finding:
    """Ask both."""
    verdict = gate.vet(case.chunk, case.state, case.commanded, case.now)
    passed = isinstance(verdict, JointRows)
    named = frozenset() if isinstance(verdict, JointRows) else frozenset(reason.check for reason in verdict)
    straight = _deepest(oracle, case.straight)
    return Finding(passed, named, straight, straight if case.curve is case.straight else _deepest(oracle, case.curve))


def _deepest(oracle: Oracle, path: NDArray[np.float64]) -> dict[str, Contact]:
    found: dict[str, Contact] = {}
    for pose in path:
        for kind, contact in oracle.contacts(pose).items():
            if kind not in found or contact.distance < found[kind].distance:
                found[kind] = contact
    return found


def summary(spec: RobotSpec, findings: list[Finding]) -> dict[str, Any]:
    """Counts over all findings. ``missed`` does not need the chunk to pass: another check may have refused it."""
    n = len(findings)
    deeper = {kind: sum(f.missed(kind) > margin(spec, kind) for f in findings) for kind in CHECKS}
    passed = [finding for finding in findings if finding.passed]
    deep = sum(any(f.missed(kind) > margin(spec, kind) for kind in CHECKS) for f in passed)
    return {
        "n": n,
        "in_contact": sum(bool(f.straight) for f in findings),
        "contacts": {kind: sum(kind in f.straight for f in findings) for kind in CHECKS},
        "unjudged": sum(f.unjudged for f in findings),
        "passed": len(passed),
        "passed_deeper_than_margin": deep,
        "interval": wilson(deep, sum(bool(f.straight) for f in findings)),
        "passed_in_contact": sum(bool(f.straight) for f in passed),
        "passed_in_contact_on_curve": sum(bool(f.curve) for f in passed),
        "passed_deepest_mm": _deepest_mm(f.straight for f in passed),
        "passed_deepest_on_curve_mm": _deepest_mm(f.curve for f in passed),
        "missed": {kind: sum(f.missed(kind) > 0 for f in findings) for kind in CHECKS},
        "missed_deeper_than_margin": deeper,
        "missed_deepest_mm": round(1e3 * max((f.missed(k) for f in findings for k in CHECKS), default=0.0), 3),
    }


def _deepest_mm(contacts: Iterable[dict[str, Contact]]) -> dict[str, float]:
    deepest: dict[str, float] = {}
    for found in contacts:
        for kind, contact in found.items():
            deepest[kind] = round(max(deepest.get(kind, 0.0), -1e3 * contact.distance), 3)
    return deepest


def false_stops(spec: RobotSpec, clear: Oracle, cases: list[Case], findings: list[Finding]) -> dict[str, Any]:
    """Refusals of poses by each check that has a margin, by the true distance."""
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in CHECKS}
    separation = Separation(clear)
    for case, finding in zip(cases, findings, strict=True):
        pose = case.straight[0]
        for kind in finding.named & set(CHECKS):
            if kind in finding.straight:
                counts[kind]["contact"] += 1
                continue
            near = clear.contacts(pose).get(kind)
            beyond = (np.inf if near is None else near.distance) - margin(spec, kind)
            if beyond >= 0:
                beyond = min(beyond, separation.at_most(pose, kind) - margin(spec, kind))
            counts[kind][_where(beyond)] += 1
    result: dict[str, Any] = {kind: dict(count) for kind, count in counts.items()}
    wrong = sum(count["clearly_beyond"] for count in counts.values())
    apart = sum(not finding.straight for finding in findings)
    return result | {"beyond_margin_by_5_mm": wrong, "apart": apart, "interval": wilson(wrong, apart)}


def _where(beyond: float) -> str:
    """Class of a distance ``beyond`` the margin [m]."""
    if beyond < 0:
        return "within_margin"
    return "beyond" if beyond <= CLEARLY else "clearly_beyond"


def differential(spec: RobotSpec, rng: np.random.Generator, n_poses: int, n_chunks: int) -> dict[str, Any]:
    """Poses and chunks of one robot."""
    gate, oracle, clear = Gate(spec, GateConfig()), Oracle(spec), Oracle(spec, REACH)
    cases = [standing(spec, pose) for pose in poses(spec, oracle, rng, n_poses)]
    still = [judge(gate, oracle, case) for case in cases]
    moving = [judge(gate, oracle, motion(spec, oracle, clear, rng)) for _ in range(n_chunks)]
    refusals = false_stops(spec, clear, cases, still)
    return {"poses": summary(spec, still) | {"refusals": refusals}, "chunks": summary(spec, moving)}


def main() -> None:
    """Measure and write."""
    cli = parser(__doc__ or "")
    cli.add_argument("--poses", type=int, default=20_000)
    cli.add_argument("--chunks", type=int, default=2_000)
    cli.add_argument("--seeds", type=int, default=30, help="expert attempts per task")
    args = cli.parse_args()
    spec, rng = RobotSpec.load(robot_dir("sim_panda")), np.random.default_rng(0)
    metrics: dict[str, Any] = {}
    for name, robot in (("shipped", spec), ("obstructed", obstructed(spec))):
        metrics[name] = differential(robot, rng, args.poses, args.chunks)
    metrics["experts"] = experts(spec, args.seeds)
    write("gate_differential", metrics, args.json)


if __name__ == "__main__":
    main()
