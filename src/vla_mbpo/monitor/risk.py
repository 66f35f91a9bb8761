"""The failure detector's risk against its band, over time: points for a plot and the same in words."""

import math
from collections import deque
from typing import Any

OLD = 5.0  # s
POINTS = 150  # a minute of looks
NONE = "No risk yet: no failure detector has spoken."


class RiskHistory:
    """Collects FailureRisk messages. One thread."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, float | None, float | None, bool]] = deque(maxlen=POINTS)
        self._words = NONE

    def add(self, message: Any) -> None:
        """A FailureRisk; what is not known is a gap in the plot."""
        stamp = message.header.stamp.sec + message.header.stamp.nanosec / 1e9
        score, band = (_number(value) if message.known else None for value in (message.score, message.band))
        self._points.append((round(stamp, 2), score, band, bool(message.alarm)))
        votes = [name for name, vote in zip(message.detectors, message.votes, strict=False) if vote]
        who = f"; voting for an alarm: {', '.join(votes)}" if votes else "; no member votes for an alarm"
        if score is None or band is None:
            self._words = f"? UNKNOWN: {message.reason or 'no number'}"
        elif message.alarm:
            self._words = f"■ ALARM: risk {score:.2f}, band {band:.2f}{who}"
        else:
            self._words = f"● no alarm: risk {score:.2f}, band {band:.2f}{who}"

    def panel(self, age: float = 0.0) -> dict[str, Any]:
        """Points (seconds before the newest one, risk, band, alarm) and words; ``age``: of the newest message [s]."""
        end = self._points[-1][0] if self._points else 0.0
        points = [[round(stamp - end, 2), *rest] for stamp, *rest in self._points]
        old = f"○ silent for more than {OLD:.0f} s; then: " if points and age > OLD else ""
        return {"words": f"{old}{self._words}", "points": points}


def _number(value: float) -> float | None:
    return round(float(value), 3) if math.isfinite(value) else None
