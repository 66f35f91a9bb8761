"""What the gate counts of its decisions, for /diagnostics."""

import time
from collections import Counter, deque
from collections.abc import Sequence

import numpy as np

from vla_mbpo.core.verdict import Reason

MANY = 3  # sets without an accepted candidate in a row, from which on it is said


class Counts:
    """Since the gate was configured.

    Attributes:
        arrivals: of chunk sets, monotonic [s].
        sets_in_a_row: without an accepted candidate.
    """

    def __init__(self) -> None:
        self._accepted = self.sets_in_a_row = 0
        self._vetoes: Counter[str] = Counter()
        self._latency: deque[float] = deque(maxlen=500)  # ms
        self.arrivals: deque[float] = deque(maxlen=1000)

    def add(self, reasons: Sequence[Reason], took: int) -> None:
        """One decision; no reasons: accepted. ``took`` [ns] in the checks, 0 where none were made."""
        if took:
            self._latency.append(took / 1e6)
        if reasons:
            self._vetoes[reasons[0].check] += 1
        else:
            self._accepted += 1

    def report(self) -> dict[str, object]:
        """Values for /diagnostics."""
        p50, p99 = np.percentile(self._latency, [50, 99]) if self._latency else (0.0, 0.0)
        lately = [at for at in self.arrivals if time.monotonic() - at < 5.0]
        return {
            "accepted": self._accepted,
            "rejected": self._vetoes.total(),
            "sets_in_a_row": self.sets_in_a_row,
            "sets_per_s": f"{len(lately) / 5.0:.1f}",
            "latency_p50_ms": f"{p50:.2f}",
            "latency_p99_ms": f"{p99:.2f}",
            **{f"vetoes.{check}": count for check, count in self._vetoes.most_common()},
        }

    def warning(self) -> str:
        """What is wrong, or an empty string."""
        return f"{self.sets_in_a_row} chunk sets rejected in a row" if self.sets_in_a_row >= MANY else ""
