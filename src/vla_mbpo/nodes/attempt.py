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
        begin: node time of the start [ns].
        limit: longest duration [s].
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
    _told: int = 0

    @property
    def instruction(self) -> str:
        """What is to be done."""
        return self.goal.request.instruction

    def elapsed(self, now: int) -> float:
        """Seconds since the start."""
        return (now - self.begin) / 1e9

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
            elapsed=self.elapsed(now),
            chunks_accepted=self.accepted,
            chunks_rejected=self.rejected,
            message=self.reason,
        )
        self.goal.publish_feedback(feedback)
