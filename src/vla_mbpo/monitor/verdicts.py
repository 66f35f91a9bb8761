"""What was said about each candidate of the newest chunk set: by imagination, and by the gate."""

import math
from typing import Any

from vla_mbpo.core.verdict import Verdict

# Words first; the shape tells them apart, too, and the colour only repeats it.
SHAPES = {Verdict.UNKNOWN: "?", Verdict.SAFE: "●", Verdict.RISKY: "▲", Verdict.UNSAFE: "■"}
KEPT = 4  # chunk sets
MOST = 64  # candidates of one
UNSEEN = "– not looked at"
IMAGINATION = "imagination"  # the check that says in a decision what imagination has against a candidate


class Verdicts:
    """Collects decisions and verdicts as messages. One thread."""

    def __init__(self) -> None:
        self._sets: dict[int, dict[int, dict[str, Any]]] = {}
        self._newest = 0
        self._accepted = self._rejected = 0
        self._rejection = "none"

    def imagined(self, message: Any) -> None:
        """An ImaginationVerdict."""
        for one in message.candidates[:MOST]:
            row, found = self._candidate(message.chunk_set_id, one.candidate), _imagined(one)
            if row["decision"] != UNSEEN:  # the gate has said why
                found.pop("why", None)
            row.update(found)

    def decided(self, message: Any) -> None:
        """A GateDecision."""
        self._accepted += message.accepted
        self._rejected += not message.accepted
        reason = "; ".join(reason.text for reason in message.reasons[:3])
        if not message.accepted:
            self._rejection = f"candidate {message.candidate}: {reason or 'no reason given'}"
        row = self._candidate(message.chunk_set_id, message.candidate)
        row["decision"] = "✓ accepted" if message.accepted else "✗ rejected"
        row["why"] = reason or ("passed all checks" if message.accepted else "no reason given")
        if message.imagination.verdict != Verdict.UNKNOWN:
            imagined = _imagined(message.imagination)
            if any(reason.check != IMAGINATION for reason in message.reasons):
                imagined.pop("why", None)  # what imagination has against it is not why it was refused
            row.update(imagined)

    def of(self, set_id: int, candidate: int) -> dict[str, Any]:
        """What was said about one candidate of a recent set, as in the panel; empty: nothing."""
        return self._sets.get(set_id, {}).get(candidate, {})

    def decided_on(self, set_id: int) -> bool:
        """Whether the gate has said something about a recent set."""
        return any(row["decision"] != UNSEEN for row in self._sets.get(set_id, {}).values())

    def panel(self) -> dict[str, Any]:
        """Rows of the newest set in order of the candidates, and counts since the page was started."""
        rows = [row for _, row in sorted(self._sets.get(self._newest, {}).items())]
        counts = [
            ["Chunk set", str(self._newest or "none yet")],
            ["Accepted", f"{self._accepted} chunks"],
            ["Rejected", f"{self._rejected} candidates"],
            ["Last rejection", self._rejection],
        ]
        return {"rows": counts, "candidates": rows}

    def _candidate(self, set_id: int, candidate: int) -> dict[str, Any]:
        if set_id not in self._sets:
            self._sets[set_id] = {}
            while len(self._sets) > KEPT:
                del self._sets[next(iter(self._sets))]
        self._newest = set_id
        nothing = {
            "verdict": "UNKNOWN",
            "shape": "?",
            "success": "–",
            "cost": "–",
            "decision": UNSEEN,
            "why": "",
        }
        kept = self._sets[set_id]
        if candidate not in kept and len(kept) >= MOST:
            return {}
        return kept.setdefault(candidate, {"candidate": candidate, **nothing})


def _imagined(one: Any) -> dict[str, Any]:
    verdict = Verdict(one.verdict)
    found = {
        "verdict": verdict.name,
        "shape": SHAPES[verdict],
        "success": _percent(one.success_probability),
        "cost": _percent(one.cost_probability),
    }
    if one.reasons:
        found["why"] = "; ".join(one.reasons[:3])
    return found


def _percent(share: float) -> str:
    return f"{share:.0%}" if math.isfinite(share) else "–"
