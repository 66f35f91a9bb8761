"""What an episode was: instruction, policy, decisions, a person's part, outcome."""

from collections import Counter
from typing import Any

from vla_mbpo.record.message import Approved, Attempt, Decided, Message, Person, Proposed, Release, Rows

ROWS = ("executed", "dropped_late", "executed_late")
OUTCOMES = ("succeeded", "failed", "aborted")
SETTLED = 1_000_000_000  # ns; a chunk is 0.8 s long: rows executed later were decided on after the begin
EDGE = 100_000_000  # ns


class Labels:
    """Collects the notes of an episode's messages. One thread.

    An episode of one attempt holds what came shortly before and after it, too. That is recorded, and counts for nothing
    here but a person's spans, of which ``began`` and ``ended`` [ns, 0: not known] say whether they are in it.
    """

    def __init__(self, instruction: str = "", one_attempt: bool = False) -> None:
        self._one, self.began, self.ended = one_attempt, 0, 0
        self.instruction, self.outcome, self.message = instruction, "", ""
        self.spans: list[list[int]] = []  # begin, end [ns]; an end of 0: still open
        self._policies: list[str] = []
        self._releases: list[str] = []
        self._cost_events: tuple[str, ...] = ()
        self._decisions: Counter[str] = Counter()
        self._vetoes: Counter[str] = Counter()
        self._accepted: set[tuple[int, int]] = set()
        self._approved: dict[tuple[int, int], int] = {}  # when [ns]
        self._sets = 0
        self._rows: Rows | None = None
        self._counted: Counter[str] = Counter()
        self._executed: dict[int, int] = {}  # chunk set -> when its rows were first seen to be executed [ns]
        self._begin, self._end = 0, 2**63

    def add(self, message: Message) -> None:
        """Note what a message says."""
        note = message.note
        self._begin = self._begin or message.received
        if isinstance(note, Rows):
            self._count(note)
            if note.set_id:
                self._executed.setdefault(note.set_id, message.received)
        elif isinstance(note, Approved):
            self._approved[note.set_id, note.candidate] = message.received
        elif isinstance(note, Person):
            self._person(note)
        elif isinstance(note, Attempt):
            self._attempt(note)
        elif isinstance(note, Decided):
            self._decide(note)
        elif self.ended:
            return
        elif isinstance(note, Proposed):
            self._sets += 1
            _add_new(self._policies, note.policy_version)
        elif isinstance(note, Release):
            _add_new(self._releases, note.version)

    def close(self, time: int) -> None:
        """The episode ends at ``time`` [ns]; so does a span that is still open."""
        self._end = time
        for span in self.spans:
            span[1] = span[1] or time

    def unexplained(self) -> list[str]:
        """Rows without a recorded decision. Rows from the first second may have been decided on before it.

        So may a decision and its approval, which come one after the other, be on two sides of the episode's edges.
        """
        found = []
        later = {number for number, time in self._executed.items() if time - self._begin > SETTLED}
        sets = sorted(later - {number for number, _ in self._approved})
        if sets:
            found.append(f"rows of chunk sets that no recorded chunk has: {', '.join(map(str, sets[:8]))}")
        within = {pair for pair, time in self._approved.items() if self._begin + EDGE < time < self._end - EDGE}
        pairs = sorted(within - self._accepted)
        if pairs:
            listed = ", ".join(f"{number}/{candidate}" for number, candidate in pairs[:8])
            found.append(f"approved chunks without a recorded decision (set/candidate): {listed}")
        return found

    def report(self) -> dict[str, Any]:
        """For episode.json."""
        rows = {} if self._rows is None else {name: self._counted[name] for name in ROWS}
        return {
            "instruction": self.instruction,
            "outcome": self.outcome,
            "message": self.message,
            "cost_events": list(self._cost_events),
            "policy_versions": self._policies,
            "releases": self._releases,
            "interventions": [{"begin_ns": begin, "end_ns": end} for begin, end in self.spans],
            "began_ns": self.began,
            "ended_ns": self.ended,
            "chunk_sets": self._sets,
            "decisions": {"accepted": self._decisions["accepted"], "rejected": self._decisions["rejected"]},
            "vetoes": dict(self._vetoes.most_common()),
            "rows": rows,
        }

    def _count(self, note: Rows) -> None:
        """Rows since the message before; an arm driver that is activated anew counts from 0."""
        if self._rows is not None and not self.ended:
            again = any(getattr(note, name) < getattr(self._rows, name) for name in ROWS)
            for name in ROWS:
                self._counted[name] += getattr(note, name) - (0 if again else getattr(self._rows, name))
        self._rows = note

    def _decide(self, note: Decided) -> None:
        if note.accepted:
            self._accepted.add((note.set_id, note.candidate))
        if not self.ended:
            self._decisions["accepted" if note.accepted else "rejected"] += 1
            self._vetoes.update(note.checks[:1])

    def _person(self, note: Person) -> None:
        is_open = bool(self.spans) and not self.spans[-1][1]
        if note.intervention and not is_open:
            self.spans.append([note.stamp, 0])
        elif not note.intervention and is_open:
            self.spans[-1][1] = note.stamp

    def _attempt(self, note: Attempt) -> None:
        if note.running:
            self.instruction = self.instruction or note.instruction
            self.outcome, self.message, self._cost_events = "", "", ()  # of an attempt before, even of the same task
            if self._one:
                self._start_counting(note.stamp)
        elif note.instruction == self.instruction or (self.instruction and not note.number):  # 0: no attempt runs
            self.outcome, self.message, self._cost_events = note.outcome, note.message, note.cost_events
            self.ended = note.stamp if self._one else 0

    def _start_counting(self, stamp: int) -> None:
        """What was before the attempt is none of it; a release is said once."""
        self.began, self.ended, self._sets = stamp, 0, 0
        self._policies, self._releases = [], self._releases[-1:]
        self._decisions.clear()
        self._counted.clear()
        self._vetoes.clear()


def _add_new(values: list[str], value: str) -> None:
    if value and value not in values:
        values.append(value)
