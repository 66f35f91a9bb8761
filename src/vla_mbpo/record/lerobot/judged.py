"""What gate, imagination and failure detector said of each row of an attempt."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.nodes import qos
from vla_mbpo.nodes.convert import to_ns
from vla_mbpo.record.lerobot.layout import NO_CHUNK

Heard = dict[str, list[Any]]  # messages by topic, in their order


def judged(heard: Heard, begin: int, rows: int, period: int) -> dict[str, NDArray[Any]]:
    """Columns (T,) ``verdict``, ``vetoed``, ``alarm``: as it was at the end of each row.

    Args:
        heard: commitments, decisions of the gate, risks.
        begin: of the first row [ns].
        rows: T.
        period: of a row [ns].
    """
    due = begin + (1 + np.arange(rows)) * period
    commitments, decisions = heard[qos.COMMITMENT.name], heard[qos.GATE_DECISION.name]
    told = {m.chunk_set_id: m.imagination.verdict for m in decisions if m.accepted} | {0: NO_CHUNK}
    verdicts = [told.get(m.chunk_set_id, 0) for m in commitments]  # no decision was recorded: unknown
    risks = [m for m in heard[qos.RISK.name] if to_ns(m.header.stamp) >= begin]  # of no attempt before
    refused = np.array([to_ns(m.header.stamp) for m in decisions if not m.accepted], dtype=np.int64)
    at = (refused - begin) // period
    return {
        "verdict": _latest(commitments, verdicts, due, NO_CHUNK).astype(np.int64),
        "vetoed": np.bincount(at[(at >= 0) & (at < rows)], minlength=rows).astype(np.int64),
        "alarm": _latest(risks, [m.alarm for m in risks], due, False),
    }


def _latest(messages: Iterable[Any], values: list[Any], due: NDArray[np.int64], before: Any) -> NDArray[Any]:
    """The last value that was said by each moment [ns]; ``before`` the first."""
    stamps = np.array([to_ns(m.header.stamp) for m in messages], dtype=np.int64)
    order = np.argsort(stamps, kind="stable")
    known = np.array([before, *values])[np.concatenate([[0], 1 + order])]
    return known[np.searchsorted(stamps[order], due, side="right")]
