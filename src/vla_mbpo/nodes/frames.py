"""From messages to observations: images paired by stamp, joint states of the same moment."""

import time
from collections import deque

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image, JointState

from vla_mbpo.core.observation import FreshnessLimits, Observation, PixelCheck, StaleInput
from vla_mbpo.core.verdict import Reason
from vla_mbpo.nodes.convert import JointStateReader, from_image, to_ns
from vla_mbpo.nodes.parameters import Param

FRAMES = tuple(
    Param(f"{view}_frame", f"{view}_camera", f"what the frame_id of {view} images begins with; empty: any")
    for view in ("head", "wrist")
)

DEAF_PAIRS, DEAF_AFTER = 100, 5.0  # image pairs, over so many seconds, without a single joint state
DEAF = "no joint states though others hear them: this process has no connection to them, and is to be started again"


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


class ObservationBuilder:
    """Collects images and joint states and makes observations of them. One thread.

    Attributes:
        pairs: image pairs so far.
        stamp: what the last image belongs to, taken or refused: the head's of its pair, or its own without one [ns].
    """

    def __init__(self, reader: JointStateReader, limits: FreshnessLimits, frames: dict[str, str]) -> None:
        """``frames``: what the frame_id of each view's images begins with, so that swapped cameras are noticed."""
        self._reader, self._limits, self._frame_ids = reader, limits, frames
        self._frames = FramePairs(limits.max_skew // 2)
        self._pixels = {view: PixelCheck(view, limits.max_frozen) for view in ("head", "wrist")}
        self._joints: deque[JointState] = deque(maxlen=64)
        self._last: tuple[tuple[int, NDArray[np.uint8]], tuple[int, NDArray[np.uint8]]] | None = None
        self.pairs, self.stamp, self._began = 0, 0, time.monotonic()

    @property
    def deaf(self) -> bool:
        """Whether images have come for long and never a joint state.

        Where others hear the joint states (the gate is engaged, chunks are made of them), this process and their
        publisher have missed each other. It was seen once, on a busy machine: the middleware did not mend it in 20 s.
        """
        long = time.monotonic() - self._began >= DEAF_AFTER
        return self.pairs >= DEAF_PAIRS and long and not self._joints

    def add_joints(self, message: JointState) -> None:
        """Take joint states; they are read when needed. Those of other joints are passed over."""
        if self._reader.reads(message):
            self._joints.append(message)

    def add_image(self, view: str, image: Image) -> int | None:
        """Take an image. Returns the stamp of the pair that it completes [ns], or None.

        Raises:
            StaleInput: the pixels are frozen or without contrast, or it is another camera's image.
        """
        self.stamp = to_ns(image.header.stamp)
        if not image.header.frame_id.startswith(self._frame_ids[view]):
            raise StaleInput(Reason("observation_frame", -1, view, 0.0, 0.0, f"from {image.header.frame_id!r}"))
        pair = self._frames.add(view, image)
        if pair is None:
            return None
        self.stamp = to_ns(pair[0].header.stamp)
        head, wrist = ((to_ns(message.header.stamp), from_image(message)) for message in pair)
        if not self.pairs:
            self._began = time.monotonic()
        self.pairs += 1
        self._last = (head, wrist)
        self._pixels["head"].check(*head)
        self._pixels["wrist"].check(*wrist)
        return head[0]

    def observation(self, now: int) -> Observation:
        """The observation of the last pair. Raises StaleInput when an input is missing, too old or from the future."""
        if self._last is None:
            raise StaleInput(Reason("observation_missing", -1, "images", 0.0, 1.0))
        head, wrist = self._last
        nearest = min(self._joints, key=lambda m: abs(to_ns(m.header.stamp) - head[0]), default=None)
        state = None if nearest is None else self._reader.read(nearest)
        if state is None:
            raise StaleInput(Reason("observation_missing", -1, "joint_states", 0.0, 1.0))
        measured = (state.stamp, state.positions, state.velocities, state.gripper)
        return Observation.fresh(now, head, wrist, measured, self._limits)
