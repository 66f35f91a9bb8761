"""Pairs the images of two cameras by stamp."""

from collections import deque

from sensor_msgs.msg import Image

from vla_mbpo.nodes.convert import to_ns


class FramePairs:
    """Keeps the last images of both cameras and gives out each pair of matching stamps once."""

    def __init__(self, max_skew: int) -> None:
        """``max_skew``: largest difference of the stamps of one pair [ns]."""
        self._max_skew = max_skew
        self._waiting: dict[str, deque[Image]] = {"head": deque(maxlen=3), "wrist": deque(maxlen=3)}

    def add(self, view: str, image: Image) -> tuple[Image, Image] | None:
        """Take an image of ``head`` or ``wrist``; the pair (head, wrist) that it completes, or None."""
        mine, others = self._waiting[view], self._waiting["wrist" if view == "head" else "head"]
        stamp = to_ns(image.header.stamp)
        best = min(others, key=lambda other: abs(to_ns(other.header.stamp) - stamp), default=None)
        if best is None or abs(to_ns(best.header.stamp) - stamp) > self._max_skew:
            mine.append(image)
            return None
        mine.clear()
        while others and to_ns(others[0].header.stamp) <= to_ns(best.header.stamp):
            others.popleft()
        return (image, best) if view == "head" else (best, image)
