"""What policy, imagination, failure detector and gate said, by the observation that it is about. No rclpy."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.verdict import Verdict
from vla_mbpo.nodes.convert import from_chunk, to_ns

FloatArray = NDArray[np.float64]
Value = TypeVar("Value")


@dataclass(frozen=True)
class Proposal:
    """A chunk set.

    Attributes:
        version: of the policy that made it.
        positions: (K, H, n) [rad].
        gripper: (K, H) [m].
        measured: (n,) joints as the policy saw them [rad].
        committed: first rows that repeat what the arm was committed to.
    """

    version: str
    positions: FloatArray
    gripper: FloatArray
    measured: FloatArray
    committed: int = 0


@dataclass(frozen=True)
class Judgement:
    """A world model's verdict on a chunk set.

    Attributes:
        version: of the world model.
        verdicts, scores: by candidate.
        order: candidates that may be executed, the preferred one first.
        reason: why it knows nothing about the first candidate, or what speaks against it.
    """

    version: str
    verdicts: tuple[Verdict, ...]
    scores: tuple[float, ...]
    order: tuple[int, ...]
    reason: str = ""


@dataclass(frozen=True)
class Risk:
    """A failure detector's judgement of the attempt up to a chunk set. ``calibration``: id of its bands."""

    calibration: str
    known: bool
    score: float
    alarm: bool


@dataclass
class Said:
    """Everything by stamp of the observation [ns]. One thread at a time.

    Attributes:
        sets, verdicts, risks: of policy, imagination and failure detector.
        chosen: the candidate that the gate accepted.
        malformed: chunk sets whose sizes disagree; they are in nothing else.
    """

    sets: dict[int, Proposal] = field(default_factory=dict)
    verdicts: dict[int, Judgement] = field(default_factory=dict)
    risks: dict[int, Risk] = field(default_factory=dict)
    chosen: dict[int, int] = field(default_factory=dict)
    malformed: int = 0

    def __len__(self) -> int:
        return len(self.sets) + len(self.verdicts) + len(self.risks)

    def about(self, stamps: Collection[int]) -> "Said":
        """What is about these observations."""

        def kept(said: dict[int, Value]) -> dict[int, Value]:
            return {stamp: one for stamp, one in said.items() if stamp in stamps}

        return Said(kept(self.sets), kept(self.verdicts), kept(self.risks), kept(self.chosen), self.malformed)

    def add_set(self, message: Any) -> None:
        """An ActionChunkSet."""
        try:
            chunks = [from_chunk(chunk) for chunk in message.chunks]
            positions = np.stack([chunk.positions for chunk in chunks])
            gripper = np.stack([chunk.gripper for chunk in chunks])
        except ValueError:
            self.malformed += 1
            return
        seen, committed = chunks[0].reference, chunks[0].committed_rows
        proposal = Proposal(message.policy_version, positions, gripper, seen, committed)
        self.sets[to_ns(message.observation_stamp)] = proposal

    def add_verdict(self, message: Any) -> None:
        """An ImaginationVerdict."""
        said = message.candidates
        verdicts, scores = tuple(Verdict(one.verdict) for one in said), tuple(float(one.score) for one in said)
        order = tuple(int(k) for k in message.order)
        reason = next(iter(said[0].reasons), "") if said else ""
        judgement = Judgement(message.model_version, verdicts, scores, order, reason)
        self.verdicts[to_ns(message.observation_stamp)] = judgement

    def add_risk(self, message: Any) -> None:
        """A FailureRisk."""
        risk = Risk(message.calibration_id, message.known, float(message.score), message.alarm)
        self.risks[to_ns(message.observation_stamp)] = risk

    def add_decision(self, message: Any) -> None:
        """A GateDecision."""
        if message.accepted:
            self.chosen[to_ns(message.observation_stamp)] = int(message.candidate)


ADD = {"sets": Said.add_set, "verdicts": Said.add_verdict, "risks": Said.add_risk}  # by attribute of Said
