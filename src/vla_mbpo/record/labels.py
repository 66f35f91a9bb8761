"""What an episode was: instruction, policy, decisions, a person's part, outcome."""

from collections import Counter
from typing import Any

from vla_mbpo.record.message import Approved, Attempt, Decided, Message, Person, Proposed, Release, Rows

OUTCOMES = ("succeeded", "failed", "aborted")
SETTLED = 1_000_000_000  # ns; a chunk is 0.8 s long: rows executed later were decided on after the begin


class Labels:
    """Collects the notes of an episode's messages. One thread."""

    def __init__(self, instruction: str = "") -> None:
        self.instruction, self.outcome, self.message = instruction, "", ""
        self.spans: list[list[int]] = []  # begin, end [ns]; an end of 0: still open
        self._policies: list[str] = []
        self._releases: list[str] = []
        self._cost_events: tuple[str, ...] = ()
        self._decisions: Counter[str] = Counter()
        self._vetoes: Counter[str] = Counter()
        self._accepted: set[tuple[int, int]] = set()
        self._approved: set[tuple[int, int]] = set()
        self._sets = 0
        self._first_rows: Rows | None = None
        self._rows: Rows | None = None
        self._executed: dict[int, int] = {}  # chunk set -> when its rows were first seen to be executed [ns]
        self._begin = 0

    def add(self, message: Message) -> None:
        """Note what a message says."""
        note = message.note
        self._begin = self._begin or message.received
        if isinstance(note, Decided):
            self._decide(note)
        elif isinstance(note, Rows):
            self._first_rows = self._first_rows or note
            self._rows = note
            if note.set_id:
                self._executed.setdefault(note.set_id, message.received)
        elif isinstance(note, Proposed):
            self._sets += 1
            _add_new(self._policies, note.policy_version)
        elif isinstance(note, Approved):
            self._approved.add((note.set_id, note.candidate))
        elif isinstance(note, Person):
            self._person(note)
        elif isinstance(note, Release):
            _add_new(self._releases, note.version)
        elif isinstance(note, Attempt):
            self._attempt(note)

    def close(self, time: int) -> None:
        """The episode ends at ``time`` [ns]; so does a span that is still open."""
        for span in self.spans:
            span[1] = span[1] or time

    def unexplained(self) -> list[str]:
        """Rows without a recorded decision. Rows from the first second may have been decided on before it."""
        found = []
        later = {number for number, time in self._executed.items() if time - self._begin > SETTLED}
        sets = sorted(later - {number for number, _ in self._approved})
        if sets:
            found.append(f"rows of chunk sets that no recorded chunk has: {', '.join(map(str, sets[:8]))}")
        pairs = sorted(self._approved - self._accepted)
        if pairs:
            listed = ", ".join(f"{number}/{candidate}" for number, candidate in pairs[:8])
            found.append(f"approved chunks without a recorded decision (set/candidate): {listed}")
        return found

    def report(self) -> dict[str, Any]:
        """For episode.json."""
        rows = {}
        if self._first_rows is not None and self._rows is not None:
            for name in ("executed", "dropped_late", "executed_late"):
                rows[name] = getattr(self._rows, name) - getattr(self._first_rows, name)
        return {
            "instruction": self.instruction,
            "outcome": self.outcome,
            "message": self.message,
            "cost_events": list(self._cost_events),
            "policy_versions": self._policies,
            "releases": self._releases,
            "interventions": [{"begin_ns": begin, "end_ns": end} for begin, end in self.spans],
            "chunk_sets": self._sets,
            "decisions": {"accepted": self._decisions["accepted"], "rejected": self._decisions["rejected"]},
            "vetoes": dict(self._vetoes.most_common()),
            "rows": rows,
        }

    def _decide(self, note: Decided) -> None:
        self._decisions["accepted" if note.accepted else "rejected"] += 1
        self._vetoes.update(note.checks[:1])
        if note.accepted:
            self._accepted.add((note.set_id, note.candidate))

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
        elif note.instruction == self.instruction or (self.instruction and not note.number):  # 0: no attempt runs
            self.outcome, self.message, self._cost_events = note.outcome, note.message, note.cost_events


def _add_new(values: list[str], value: str) -> None:
    if value and value not in values:
        values.append(value)
