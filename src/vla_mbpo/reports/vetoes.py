"""The worst vetoes: moments at which candidates were refused for what they would have done."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vla_mbpo.reports.attempt import Candidate, Look, Told

APART = 1_000_000_000  # ns between two moments of one attempt: successive looks see nearly the same


@dataclass(frozen=True)
class Moment:
    """A look with refused candidates; ``worst`` is the costliest of them."""

    attempt: Told
    look: Look
    worst: Candidate

    @property
    def time(self) -> float:
        """Seconds since the attempt's begin."""
        return (self.look.stamp - self.attempt.begin) / 1e9


def worst(attempts: Sequence[Told], count: int, apart: int = APART) -> list[Moment]:
    """At most ``count`` moments of all attempts, the worst first.

    Worse is the higher probability of a cost event of a refused candidate, as the world model saw it; then the number
    of refused candidates, which alone counts where no world model spoke; then the earlier moment.
    """
    every = [(one, look, refused) for one in attempts for look in one.looks if (refused := look.dangerous)]
    every.sort(key=lambda found: (-_cost(found[2][0]), -len(found[2]), found[1].stamp))
    chosen: list[Moment] = []
    for attempt, look, refused in every:
        near = (m for m in chosen if m.attempt is attempt and abs(m.look.stamp - look.stamp) < apart)
        if len(chosen) < count and not any(near):
            chosen.append(Moment(attempt, look, refused[0]))
    return chosen


def _cost(candidate: Candidate) -> float:
    return candidate.cost if math.isfinite(candidate.cost) else 0.0
