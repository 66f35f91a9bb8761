"""What the recorder needs to know of some messages, for labels and audit."""

from collections.abc import Callable
from typing import Any

from vla_mbpo_msgs.action import ExecuteTask

from vla_mbpo.nodes import qos
from vla_mbpo.nodes.convert import to_ns
from vla_mbpo.record.message import Approved, Attempt, Decided, Person, Proposed, Release, Rows

_RESULT = ExecuteTask.Result
OUTCOME = {  # of ExecuteTask
    _RESULT.SUCCEEDED: "succeeded",
    _RESULT.FAILED: "failed",
    _RESULT.TIMED_OUT: "failed",
    _RESULT.STOPPED: "aborted",
}


def _attempt(message: Any) -> Attempt:
    return Attempt(
        to_ns(message.header.stamp),
        message.number,
        message.running,
        message.instruction,
        "" if message.running else OUTCOME.get(message.outcome, ""),
        message.message,
        tuple(message.cost_events),
    )


def _decided(message: Any) -> Decided:
    checks = tuple(reason.check for reason in message.reasons)
    return Decided(message.chunk_set_id, message.candidate, message.accepted, () if message.accepted else checks)


NOTES: dict[str, Callable[[Any], object]] = {  # by topic
    qos.ATTEMPT.name: _attempt,
    qos.GATE_DECISION.name: _decided,
    qos.APPROVED_CHUNK.name: lambda m: Approved(m.chunk_set_id, m.candidate),
    qos.ACTION_CHUNKS.name: lambda m: Proposed(m.chunk_set_id, m.policy_version),
    qos.GATE_STATE.name: lambda m: Person(to_ns(m.header.stamp), m.intervention),
    qos.RELEASE.name: lambda m: Release(m.version),
    qos.COMMITMENT.name: lambda m: Rows(m.chunk_set_id, m.rows_executed, m.rows_dropped_late, m.rows_executed_late),
}
