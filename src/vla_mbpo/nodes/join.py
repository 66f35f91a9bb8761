"""Brings together what belongs to one chunk set: the set and the world model's verdict on it."""

from collections.abc import Sequence
from dataclasses import dataclass

from vla_mbpo_msgs.msg import ActionChunkSet, CandidateVerdict, ImaginationVerdict

from vla_mbpo.core.verdict import Reason, Verdict

FIT = (int(Verdict.SAFE), int(Verdict.RISKY))


@dataclass(frozen=True)
class Vetted:
    """A chunk set that may be decided on.

    Attributes:
        message: the set.
        order: candidates that may be executed, the preferred one first.
        verdicts: of all candidates; empty when nothing is known.
        unknown: why nothing is known, or an empty string.
    """

    message: ActionChunkSet
    order: Sequence[int]
    verdicts: Sequence[CandidateVerdict]
    unknown: str

    @property
    def not_judged(self) -> list[int]:
        """Candidates that nothing is known against, where ``unknown``: all, or those whose own verdict is UNKNOWN."""
        every = range(len(self.message.chunks))
        return [k for k in every if not self.verdicts or self.verdicts[k].verdict == CandidateVerdict.UNKNOWN]


def inconsistent(message: ActionChunkSet) -> Reason | None:
    """Why the chunks are not the candidates of this set, in order, made from its observation."""
    stamp = message.observation_stamp
    for k, chunk in enumerate(message.chunks):
        if (chunk.candidate, chunk.chunk_set_id, chunk.observation_stamp) != (k, message.chunk_set_id, stamp):
            text = "number, chunk set or observation are not those of the set"
            return Reason("chunks", -1, f"candidate {k}", chunk.candidate, k, text)
    return None


class VerdictJoin:
    """Waits for the verdict on the newest chunk set. Times are monotonic [s]; one thread.

    A verdict counts only if it is of this set, this observation and this model version, speaks of every candidate and
    comes within the deadline. Whatever else comes is UNKNOWN (DESIGN invariant 1).
    """

    def __init__(self, deadline: float, version: str) -> None:
        self._deadline, self._version = deadline, version
        self._waiting: tuple[ActionChunkSet, float] | None = None
        self._early: ImaginationVerdict | None = None

    def drop(self) -> None:
        """Forget what is waited for: motion has been stopped."""
        self._waiting = self._early = None

    def add_set(self, message: ActionChunkSet, now: float) -> tuple[Vetted | None, Vetted | None]:
        """Take a chunk set. Returns the one whose place it takes, as UNKNOWN, and itself if its verdict was first."""
        before = None
        if self._waiting is not None:
            before = Vetted(self._waiting[0], (), (), "no verdict before the next chunk set came")
        self._waiting = message, now
        early, self._early = self._early, None
        fits = early is not None and early.chunk_set_id == message.chunk_set_id
        return before, self._join(early) if early is not None and fits else None

    def add_verdict(self, verdict: ImaginationVerdict, now: float) -> Vetted | None:
        """Take a verdict; one of another set than that waited for is kept in case it came first."""
        if (late := self.expire(now)) is not None:  # nobody had the time to ask
            return late
        if self._waiting is None or verdict.chunk_set_id != self._waiting[0].chunk_set_id:
            self._early = verdict
            return None
        return self._join(verdict)

    def expire(self, now: float) -> Vetted | None:
        """The set that has waited too long, as UNKNOWN."""
        if self._waiting is None or now - self._waiting[1] <= self._deadline:
            return None
        (message, since), self._waiting = self._waiting, None
        return Vetted(message, (), (), f"no verdict within {self._deadline:g} s ({now - since:.3f} s)")

    def _join(self, verdict: ImaginationVerdict) -> Vetted:
        assert self._waiting is not None
        (message, _), self._waiting = self._waiting, None
        candidates, k = verdict.candidates, len(message.chunks)
        if verdict.model_version != self._version:
            return Vetted(message, (), (), f"verdict of {verdict.model_version!r}, expected {self._version!r}")
        if verdict.observation_stamp != message.observation_stamp:
            return Vetted(message, (), (), "verdict on another observation")
        if [one.candidate for one in candidates] != list(range(k)):
            return Vetted(message, (), (), f"verdicts on {len(candidates)} candidates of {k}")
        order = list(verdict.order)
        if len(set(order)) != len(order) or not all(c < k and candidates[c].verdict in FIT for c in order):
            return Vetted(message, (), candidates, f"order {order} names candidates that are not fit")
        lost = [one for one in candidates if one.verdict == CandidateVerdict.UNKNOWN]
        if not order and lost:
            return Vetted(message, (), candidates, "; ".join(lost[0].reasons) or "unknown")
        return Vetted(message, order, candidates, "")
