"""One running ExecuteTask goal and what is counted for its feedback."""

from dataclasses import dataclass, field

from rclpy.action.server import ServerGoalHandle
from rclpy.task import Future
from vla_mbpo_msgs.action import ExecuteTask
from vla_mbpo_msgs.msg import GateDecision

FEEDBACK_PERIOD = 200_000_000  # ns


@dataclass
class Attempt:
    """One goal.

    Attributes:
        goal: as accepted.
        begin: node time of the start [ns]; of what the clock was set back to, where it was set back.
        limit: longest duration [s].
        elapsed: since the start, without what the clock was set back by [s].
        earlier: cost events of the scene before, which the simulator lists until it is reset.
        outcome: becomes (outcome, message).
    """

    goal: ServerGoalHandle
    begin: int
    limit: float
    earlier: int = 0
    outcome: Future = field(default_factory=Future)
    accepted: int = 0
    rejected: int = 0
    reason: str = ""
    elapsed: float = 0.0
    _latest: int = 0
    _told: int = 0

    @property
    def instruction(self) -> str:
        """What is to be done."""
        return self.goal.request.instruction

    def advance(self, now: int) -> None:
        """Time passes. A clock that is set back neither makes an attempt longer nor hides what is said from then on."""
        latest = self._latest or self.begin
        self.elapsed += max(0, now - latest) / 1e9
        self._latest, self.begin, self._told = now, min(self.begin, now), min(self._told, now)

    def end(self, outcome: int, message: str) -> None:
        """Set the outcome; the first one counts."""
        if not self.outcome.done():
            self.outcome.set_result((outcome, message))

    def count(self, decision: GateDecision) -> None:
        """Note a decision of the gate."""
        self.accepted += decision.accepted
        self.rejected += not decision.accepted
        self.reason = decision.reasons[0].text if decision.reasons else ""

    def tell(self, now: int, progress: float) -> None:
        """Publish feedback, if it is time for it."""
        if now - self._told < FEEDBACK_PERIOD:
            return
        self._told = now
        feedback = ExecuteTask.Feedback(
            progress=progress,
            elapsed=self.elapsed,
            chunks_accepted=self.accepted,
            chunks_rejected=self.rejected,
            message=self.reason,
        )
        self.goal.publish_feedback(feedback)
