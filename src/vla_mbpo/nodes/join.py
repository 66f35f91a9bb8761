"""Brings together what belongs to one chunk set: the set, the world model's verdict and the failure detector's risk."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from vla_mbpo_msgs.msg import ActionChunkSet, CandidateVerdict, FailureRisk, ImaginationVerdict

from vla_mbpo.core.verdict import Reason, Verdict
from vla_mbpo.nodes.convert import alarm_text

FIT = (int(Verdict.SAFE), int(Verdict.RISKY))


@dataclass(frozen=True)
class Vetted:
    """A chunk set that may be decided on.

    Attributes:
        message: the set.
        order: candidates that the world model would have executed, the preferred one first.
        verdicts: of all candidates; empty when there are none.
        unknown: what is not known of the set, or an empty string: then nothing may be executed at full speed.
        alarm: what the failure detector says, or an empty string.
    """

    message: ActionChunkSet
    order: Sequence[int]
    verdicts: Sequence[CandidateVerdict]
    unknown: str
    alarm: str = ""

    @property
    def not_refused(self) -> list[int]:
        """Candidates that nothing is known against: those of ``order``, then those whose own verdict is UNKNOWN."""
        every, lost = range(len(self.message.chunks)), CandidateVerdict.UNKNOWN
        silent = [k for k in every if not self.verdicts or self.verdicts[k].verdict == lost]
        return [*self.order, *(k for k in silent if k not in self.order)]


def inconsistent(message: ActionChunkSet) -> Reason | None:
    """Why the chunks are not the candidates of this set, in order, made from its observation."""
    stamp = message.observation_stamp
    for k, chunk in enumerate(message.chunks):
        if (chunk.candidate, chunk.chunk_set_id, chunk.observation_stamp) != (k, message.chunk_set_id, stamp):
            text = "number, chunk set or observation are not those of the set"
            return Reason("chunks", -1, f"candidate {k}", chunk.candidate, k, text)
    return None


class VettingJoin:
    """Waits for what was asked about the newest chunk set. Times are monotonic [s]; one thread.

    A verdict or risk counts only if it is of this set, this observation and this model version or calibration, speaks
    of every candidate and comes within the deadline. Whatever else comes is UNKNOWN; what one
    voice has said stands when the other says nothing. An alarm that ends the attempt waits for nobody and is never too
    late for the motion under way.
    """

    def __init__(self, deadline: float, version: str = "", calibration: str = "", alarm_ends: bool = True) -> None:
        """``version``: of the world model whose verdicts are waited for; ``calibration``: of the risks. Empty: none.

        ``alarm_ends``: an alarm ends the attempt; otherwise it is one fact among others.
        """
        self._deadline, self._version, self._calibration = deadline, version, calibration
        self._alarm_ends = alarm_ends
        self._wanted = {kind for kind, of in ((ImaginationVerdict, version), (FailureRisk, calibration)) if of}
        self.drop()

    def drop(self) -> None:
        """Forget what is waited for: motion has been stopped."""
        self._waiting: tuple[ActionChunkSet, float] | None = None
        self._decided: ActionChunkSet | None = None  # the last one, which a late alarm may be about
        self._heard: dict[type, Any] = {}

    def add_set(self, message: ActionChunkSet, now: float) -> tuple[Vetted | None, Vetted | None]:
        """Take a chunk set. Returns the one whose place it takes, as UNKNOWN, and itself if all that was asked came."""
        before = None
        if self._waiting is not None:
            before = self._settled(f"no {self._missing()} before the next chunk set came")
        self._waiting = message, now
        self._heard = {k: said for k, said in self._heard.items() if said.chunk_set_id == message.chunk_set_id}
        return before, self._join()

    def add(self, said: ImaginationVerdict | FailureRisk, now: float) -> Vetted | None:
        """Take an answer; one of another set than that waited for is kept in case it came first."""
        if (alarm := self._ends(said)) is not None:
            return alarm
        late = self.expire(now)  # nobody had the time to ask; this answer comes too late for that set
        self._heard[type(said)] = said
        if late is not None or self._waiting is None or said.chunk_set_id != self._waiting[0].chunk_set_id:
            return late
        return self._join()

    def expire(self, now: float) -> Vetted | None:
        """The set that has waited too long, as UNKNOWN."""
        if self._waiting is None or now - self._waiting[1] <= self._deadline:
            return None
        return self._settled(f"no {self._missing()} within {self._deadline:g} s ({now - self._waiting[1]:.3f} s)")

    def _ends(self, said: ImaginationVerdict | FailureRisk) -> Vetted | None:
        """The set that an alarm is about, if that alarm ends the attempt."""
        if not (self._alarm_ends and isinstance(said, FailureRisk) and said.alarm):
            return None
        about = [self._waiting and self._waiting[0], self._decided]
        for message in about:
            if (
                message is not None
                and said.chunk_set_id == message.chunk_set_id
                and not self._risk_fault(message, said)
            ):
                self._waiting = None
                return Vetted(message, (), (), "", alarm_text(said))
        return None

    def _missing(self) -> str:
        assert self._waiting is not None
        names = {ImaginationVerdict: "verdict", FailureRisk: "risk"}
        return " and no ".join(sorted(names[kind] for kind in self._wanted - set(self._of_waiting())))

    def _of_waiting(self) -> dict[type, Any]:
        """What was heard about the set waited for."""
        assert self._waiting is not None
        return {k: said for k, said in self._heard.items() if said.chunk_set_id == self._waiting[0].chunk_set_id}

    def _join(self) -> Vetted | None:
        """The set waited for, if everything about it is there, or if what is there ends the attempt."""
        assert self._waiting is not None
        if (risk := self._of_waiting().get(FailureRisk)) is not None and (ends := self._ends(risk)) is not None:
            return ends
        return None if self._missing() else self._settled("")

    def _settled(self, lacking: str) -> Vetted:
        """What is known of the set waited for, which is waited for no longer; ``lacking``: what never came."""
        assert self._waiting is not None
        (message, _), heard = self._waiting, self._of_waiting()
        self._waiting, self._decided = None, message
        self._heard = {k: said for k, said in self._heard.items() if k not in heard}
        risk, verdict = heard.get(FailureRisk), heard.get(ImaginationVerdict)
        found = Vetted(message, () if self._version else range(len(message.chunks)), (), "")
        if verdict is not None and self._version:
            found = self._by_verdict(message, verdict)
        fault = self._risk_fault(message, risk) if risk is not None else ""
        alarm = alarm_text(risk) if risk is not None and risk.alarm and not fault else ""
        return replace(found, unknown=lacking or fault or found.unknown, alarm=alarm)

    def _risk_fault(self, message: ActionChunkSet, risk: FailureRisk) -> str:
        """Why nothing is known of the risk, or an empty string."""
        if risk.calibration_id != self._calibration:
            return f"risk by {risk.calibration_id!r}, expected {self._calibration!r}"
        if risk.observation_stamp != message.observation_stamp:
            return "risk of another observation"
        if not risk.known:
            return f"failure detector: {risk.reason or 'unknown'}"
        return "" if math.isfinite(risk.score) and math.isfinite(risk.band) else "risk is not finite"

    def _by_verdict(self, message: ActionChunkSet, verdict: ImaginationVerdict) -> Vetted:
        candidates, k = verdict.candidates, len(message.chunks)
        if verdict.model_version != self._version:
            return unknown(message, f"verdict of {verdict.model_version!r}, expected {self._version!r}")
        if verdict.observation_stamp != message.observation_stamp:
            return unknown(message, "verdict on another observation")
        if [one.candidate for one in candidates] != list(range(k)):
            return unknown(message, f"verdicts on {len(candidates)} candidates of {k}")
        order = list(verdict.order)
        if len(set(order)) != len(order) or not all(c < k and candidates[c].verdict in FIT for c in order):
            return Vetted(message, (), candidates, f"order {order} names candidates that are not fit")
        lost = [one for one in candidates if one.verdict == CandidateVerdict.UNKNOWN]
        if not order and lost:
            return Vetted(message, (), candidates, "; ".join(lost[0].reasons) or "unknown")
        return Vetted(message, order, candidates, "")


def unknown(message: ActionChunkSet, reason: str) -> Vetted:
    """A set of which nothing is known."""
    return Vetted(message, (), (), reason)
