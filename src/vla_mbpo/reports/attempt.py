"""What a recorded attempt says of itself, as plain numbers. Messages are read by their fields: no ROS here."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vla_mbpo.core.verdict import OF_SETS, Verdict

ACCEPTED, REFUSED, PASSED_OVER = "accepted", "refused", "not looked at"
AS_A_WHOLE = OF_SETS | {"message"}  # a set with a malformed chunk counts as one that was not looked at
OLD = "age"  # check of how old a chunk is
MS = 1e6  # ns
# Topics whose first message of a chunk set ends a stage, and the stages; the first is the set itself.
LATER = ("/imagination/verdict", "/failure_detector/risk", "/gate/approved_chunk", "/arm_driver/commitment")
STAGES = ("chunk set", "world model's verdict", "risk", "approved rows", "rows in command")

Heard = Mapping[str, Sequence[Any]]  # messages by topic, in their order


@dataclass(frozen=True)
class Candidate:
    """One candidate of a chunk set.

    Attributes:
        number: in its set.
        verdict: of the world model; UNKNOWN where it said nothing.
        cost, success: probabilities by the world model; NaN where nothing is known.
        decision: ACCEPTED, REFUSED or PASSED_OVER, of the gate.
        checks, reasons: of the gate against it, or else the world model's reasons; names and texts.
    """

    number: int
    verdict: Verdict = Verdict.UNKNOWN
    cost: float = math.nan
    success: float = math.nan
    decision: str = PASSED_OVER
    checks: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def dangerous(self) -> bool:
        """Whether it was refused for what it would have done: not for its age, or because nobody knew."""
        unknown = self.verdict == Verdict.UNKNOWN and self.checks[:1] == ("imagination",)
        return self.decision == REFUSED and self.checks[:1] != (OLD,) and not unknown


@dataclass(frozen=True)
class Look:
    """One chunk set and what became of it.

    Attributes:
        set_id: of the chunk set.
        stamp: of the observation that it was made from [ns].
        candidates: by number.
        vetted: whether the world model spoke.
        whole: text of the reason why the gate refused the set as a whole, or an empty string.
        ages: by STAGES, time from the observation to that message's stamp [ms].
    """

    set_id: int
    stamp: int
    candidates: tuple[Candidate, ...]
    vetted: bool = False
    whole: str = ""
    ages: dict[str, float] = field(default_factory=dict)

    @property
    def dangerous(self) -> list[Candidate]:
        """The refused ones, the costliest first."""
        return sorted((c for c in self.candidates if c.dangerous), key=lambda c: (-_known(c.cost), c.number))


@dataclass(frozen=True)
class Told:
    """One attempt. Times are seconds since its begin.

    Attributes:
        name: of its folder.
        labels: its episode.json.
        begin: [ns].
        looks: in order.
        risk: (time, risk, band, alarm); risk and band are None where they are not known.
        motion: (time, fastest commanded joint [rad/s], opening [cm], None where there is none).
        costs: (time, name) of the cost events.
        takeovers: (begin, end) of a person in command.
        world_models: versions that spoke.
        fault: why its bag could not be read, or an empty string: then there are labels only.
    """

    name: str
    labels: Mapping[str, Any]
    begin: int = 0
    looks: tuple[Look, ...] = ()
    risk: tuple[tuple[float, float | None, float | None, bool], ...] = ()
    motion: tuple[tuple[float, float, float | None], ...] = ()
    costs: tuple[tuple[float, str], ...] = ()
    takeovers: tuple[tuple[float, float], ...] = ()
    world_models: tuple[str, ...] = ()
    fault: str = ""

    @property
    def alarm(self) -> float | None:
        """When the failure detector raised its first alarm."""
        return next((time for time, _, _, alarm in self.risk if alarm), None)

    def verdicts(self) -> Counter[str]:
        """Candidates by the world model's verdict, of the sets that it spoke on."""
        return Counter(c.verdict.name for look in self.looks if look.vetted for c in look.candidates)


def told(name: str, labels: Mapping[str, Any], heard: Heard) -> Told:
    """Of an attempt's messages: topics as in ``nodes/qos.py``, those that are missing say nothing."""
    states = [m for m in heard.get("/task/attempt", ()) if m.running and m.instruction == labels["instruction"]]
    begin = _ns(states[-1].header.stamp) if states else int(labels["begin_ns"])

    def at(stamp: Any) -> float:
        return (_ns(stamp) - begin) / 1e9

    risks = [m for m in heard.get("/failure_detector/risk", ()) if _ns(m.header.stamp) >= begin]
    versions = (m.model_version for m in heard.get("/imagination/verdict", ()))
    return Told(
        name,
        labels,
        begin,
        _looks(heard, begin),
        tuple(_risk(at(m.header.stamp), m) for m in risks),
        tuple(
            (at(m.header.stamp), max(map(abs, m.commanded_velocities)), 100 * m.gripper[0] if len(m.gripper) else None)
            for m in heard.get("/arm_driver/commitment", ())
            if len(m.commanded_velocities)
        ),
        tuple(_costs((at(m.header.stamp), m.cost_events) for m in heard.get("/task/status", ()))),
        tuple(
            ((s["begin_ns"] - begin) / 1e9, ((s["end_ns"] or labels["end_ns"]) - begin) / 1e9)
            for s in labels["interventions"]
        ),
        tuple(dict.fromkeys(filter(None, versions))),
    )


def _looks(heard: Heard, begin: int) -> tuple[Look, ...]:
    """The chunk sets that were published in the attempt: the second before it may be of another one."""
    verdicts = {m.chunk_set_id: m for m in heard.get("/imagination/verdict", ())}
    decisions: dict[int, list[Any]] = {}
    for message in heard.get("/gate/decision", ()):
        decisions.setdefault(message.chunk_set_id, []).append(message)
    later = [_first(heard.get(topic, ())) for topic in LATER]
    found = []
    for message in heard.get("/policy/action_chunks", ()):
        if _ns(message.header.stamp) < begin:
            continue
        number, stamp = message.chunk_set_id, _ns(message.observation_stamp)
        stamps = [_ns(message.header.stamp), *(stage.get(number) for stage in later)]
        ages = {name: (s - stamp) / MS for name, s in zip(STAGES, stamps, strict=True) if s is not None}
        found.append(_look(message, stamp, verdicts.get(number), decisions.get(number, ()), ages))
    return tuple(found)


def _look(message: Any, stamp: int, verdict: Any, decisions: Iterable[Any], ages: dict[str, float]) -> Look:
    candidates = {c.candidate: Candidate(c.candidate) for c in message.chunks}
    for one in verdict.candidates if verdict is not None else ():
        candidates[one.candidate] = _imagined(one)
    whole = ""
    for decision in decisions:
        checks = tuple(reason.check for reason in decision.reasons)
        texts = tuple(reason.text or reason.check for reason in decision.reasons)
        if checks[:1] and checks[0] in AS_A_WHOLE:
            whole = texts[0]
            continue
        before = candidates.get(decision.candidate, Candidate(decision.candidate))
        if decision.imagination.verdict:
            before = _imagined(decision.imagination, decision.candidate)
        # The gate repeats what the world model said against a candidate.
        reasons = before.reasons if checks[:1] == ("imagination",) and before.reasons else texts or before.reasons
        made = ACCEPTED if decision.accepted else REFUSED
        candidates[decision.candidate] = replace(before, decision=made, checks=checks, reasons=reasons)
    spoke = verdict is not None and len(verdict.candidates) > 0
    return Look(message.chunk_set_id, stamp, tuple(candidates[k] for k in sorted(candidates)), spoke, whole, ages)


def _imagined(one: Any, number: int | None = None) -> Candidate:
    verdict = Verdict(one.verdict)
    cost, success = float(one.cost_probability), float(one.success_probability)
    number = one.candidate if number is None else number
    return Candidate(number, verdict, cost, success, reasons=tuple(one.reasons))


def _risk(time: float, message: Any) -> tuple[float, float | None, float | None, bool]:
    score, band = (_number(value) if message.known else None for value in (message.score, message.band))
    return time, score, band, bool(message.alarm)


def _first(messages: Iterable[Any]) -> dict[int, int]:
    """Stamp [ns] of the first message of each chunk set."""
    found: dict[int, int] = {}
    for message in messages:
        if message.chunk_set_id:
            found.setdefault(message.chunk_set_id, _ns(message.header.stamp))
    return found


def _costs(said: Iterable[tuple[float, Sequence[str]]]) -> Iterable[tuple[float, str]]:
    """When each cost event was first listed; what was listed before the begin, or at first, is of another attempt."""
    known: int | None = None
    for time, events in said:
        if time >= 0 and known is not None:
            yield from ((time, name) for name in events[known:])
        known = len(events)  # fewer: the scene was reset


def _known(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _ns(stamp: Any) -> int:
    return stamp.sec * 1_000_000_000 + stamp.nanosec
