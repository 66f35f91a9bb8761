"""Typed reasons and verdicts of everything that may refuse an action chunk."""

from dataclasses import dataclass
from enum import IntEnum

# Checks by which the gate refuses a set as a whole: they say nothing of the candidate that the decision names.
OF_SETS = frozenset({"mode", "instruction", "chunks", "order", "vetting", "failure_detector", "measured_state"})
NOT_DECIDED = frozenset({"mode", "instruction"})  # those of them that refuse a set before anybody looks at it


class Verdict(IntEnum):
    """Judgement of a candidate. UNKNOWN is never treated as SAFE. Values equal CandidateVerdict.msg."""

    UNKNOWN = 0
    SAFE = 1
    RISKY = 2
    UNSAFE = 3


@dataclass(frozen=True)
class Reason:
    """Why something was refused: the first value that broke a limit.

    Attributes:
        check: name of the check, e.g. ``joint_velocity``.
        row: row of the chunk, -1 where none applies.
        subject: joint, link, topic or field.
        value: the measured value, SI units.
        limit: the limit it broke, SI units.
        note: words where the numbers do not say enough.
    """

    check: str
    row: int
    subject: str
    value: float
    limit: float
    note: str = ""

    def __str__(self) -> str:
        where = f" row {self.row}" if self.row >= 0 else ""
        text = f"{self.check}:{where} {self.subject} {self.value:.4g} (limit {self.limit:.4g})"
        return f"{text}; {self.note}" if self.note else text
