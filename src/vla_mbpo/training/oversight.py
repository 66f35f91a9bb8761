"""What the live stack knew of an attempt beside its motion: refused candidates, alarms, a person's part, outcome."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from vla_mbpo_msgs.msg import ActionChunkSet, CandidateVerdict, FailureRisk, GateDecision, ImaginationVerdict

from vla_mbpo.core.verdict import OF_SETS
from vla_mbpo.nodes.convert import to_ns

NOT_OF_ONE = OF_SETS | {"age", "servo_lag"}  # whatever was proposed: it came late, or the arm was held
SLACK = 25_000_000  # ns, half a row: looks lie on whole rows, their pictures beside them


def success_row(outcome: str, told: int, rows: int) -> int:
    """First row after which the task was done, -1: never. The label decides, a person may have changed it.

    Args:
        outcome: of episode.json.
        told: what the task's status said; -1: it never said so.
        rows: of the attempt.
    """
    if outcome != "succeeded":
        return -1
    return told if told >= 0 else rows - 1


def vetoed(
    sets: Mapping[int, ActionChunkSet],
    shape: Sequence[int],
    decisions: Iterable[GateDecision],
    verdicts: Iterable[ImaginationVerdict],
) -> NDArray[np.bool_]:
    """(M, K) ``shape``: candidates that the gate refused or the imagination found unsafe, by ``sets`` of each look.

    Not those that were refused because they came late, the arm was held, or nobody knew.
    """
    look_of = {message.chunk_set_id: look for look, message in sets.items()}
    found = np.zeros(tuple(shape), bool)
    against = [
        (one.chunk_set_id, one.candidate)
        for one in decisions
        if not one.accepted and not {reason.check for reason in one.reasons} & NOT_OF_ONE and not _unknown(one)
    ]
    for verdict in verdicts:
        unsafe = [one.candidate for one in verdict.candidates if one.verdict == CandidateVerdict.UNSAFE]
        against += [(verdict.chunk_set_id, candidate) for candidate in unsafe]
    for set_id, candidate in against:
        if set_id in look_of and candidate < found.shape[1]:
            found[look_of[set_id], candidate] = True
    return found


def _unknown(decision: GateDecision) -> bool:
    checks = {reason.check for reason in decision.reasons}
    return checks == {"imagination"} and decision.imagination.verdict == CandidateVerdict.UNKNOWN


def alarms(risks: Iterable[FailureRisk], sets: set[int], looks: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(M,) at which of the ``looks`` (M,) [ns] an alarm was raised; after that it stays on until somebody engages."""
    found, before = np.zeros(len(looks), bool), False
    for risk in (risk for risk in risks if risk.chunk_set_id in sets):
        if risk.alarm and not before:
            near = int(np.searchsorted(looks, to_ns(risk.observation_stamp) + SLACK, side="right")) - 1
            found[max(near, 0)] = True
        before = risk.alarm
    return found


def commanded(spans: Iterable[Mapping[str, int]], rows: NDArray[np.int64], period: int) -> NDArray[np.bool_]:
    """(T,) rows, which begin at ``rows`` [ns] and last ``period`` [ns], any part of which is in a span."""
    found = np.zeros(len(rows), bool)
    for span in spans:
        found |= (rows < span["end_ns"]) & (rows + period > span["begin_ns"])
    return found
