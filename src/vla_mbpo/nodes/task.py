"""Node `task`: the ExecuteTask action. Gives out the instruction, watches, and says how it ended."""

import time
from collections.abc import Sequence
from pathlib import Path

from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.task import Future
from std_msgs.msg import String, UInt64
from vla_mbpo_msgs.action import ExecuteTask
from vla_mbpo_msgs.msg import AttemptState, GateDecision, GateState, TaskStatus

from vla_mbpo.nodes import convert, qos
from vla_mbpo.nodes.attempt import Attempt
from vla_mbpo.nodes.base import ManagedNode
from vla_mbpo.nodes.models import RELEASE, Models
from vla_mbpo.nodes.parameters import Param
from vla_mbpo.nodes.process import run
from vla_mbpo.nodes.swapping import Swapping
from vla_mbpo.paths import bundle_dir, store_dir
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.policy.vocabulary import Instructions, Vocabulary
from vla_mbpo.releases.release import Release
from vla_mbpo.releases.store import Store

SETTLE_TIME = 5.0  # s after activation within which the gate's state must be known
GATE_PATIENCE = 2.0  # s of silence of the gate until an attempt is over; the arm stops long before
LONGEST = 3600.0  # s that an attempt may be given
_RESULT = ExecuteTask.Result


class TaskNode(ManagedNode):
    """One attempt at a time. It never moves the scene back to its start.

    An attempt goes on through a takeover and ends when it succeeds, is stopped, or its time is over.
    """

    PARAMETERS = (
        Param("bundle", "sft_full", "bundle whose vocabulary the instruction must keep to; empty: any words"),
        RELEASE,
        Param("store", "", "folder of releases: the live one is used at the start; empty: the parameter release"),
        Param("swap_nodes", ["gate", "policy"], "nodes that read models, for /task/swap"),
        Param("swap_patience", 120.0, "longest wait for a running attempt before a swap, s", 0.0, 300.0),
        Param("timeout", 60.0, "longest attempt where the goal names none, s", 1.0, LONGEST),
    )

    def configure(self) -> None:
        """Read the vocabulary and offer the action; goals are refused until the node is active."""
        store = self.parameters["store"]
        first = str(Store(store_dir(store)).find("live")) if store else self.parameters["release"]
        self._models = Models(self, self._load, self._use, first)
        nodes, patience = self.parameters["swap_nodes"], self.parameters["swap_patience"]
        self._swapping = Swapping(self, self._models, nodes, patience)
        self._instruction_out = self.publisher(qos.INSTRUCTION)
        self._attempt_out = self.publisher(qos.ATTEMPT)
        self._heartbeat = self.publisher(qos.TASK_HEARTBEAT)
        self._number = 0
        self._attempt: Attempt | None = None
        self._server: ActionServer | None = ActionServer(
            self, ExecuteTask, qos.EXECUTE_TASK, self._execute, cancel_callback=lambda _: CancelResponse.ACCEPT
        )

    def activate(self) -> None:
        """Watch, and take goals."""
        self._gate: GateState | None = None
        self._gate_at = 0.0
        self._settled: Future = Future()
        self._since = time.monotonic()
        self._status: TaskStatus | None = None
        self.subscribe(qos.GATE_STATE, self._on_gate)
        self.subscribe(qos.GATE_DECISION, self._on_decision)
        self.subscribe(qos.TASK_STATUS, self._on_status)
        self.every(0.1, self._step)
        self._swapping.listen(lambda: self._attempt is not None, self._end_attempt)
        if not self._number:  # number 0: an attempt of a task node that died is over
            self._tell(AttemptState(outcome=_RESULT.STOPPED, message="the task node was started"))
        self._instruction_out.publish(String(data=""))

    def deactivate(self) -> None:
        """End a running attempt, and the wait of a goal for the gate: it is refused."""
        self._end_attempt("the task node was deactivated")
        self._settle()
        self._instruction_out.publish(String(data=""))
        self._heartbeat.publish(UInt64())

    def cleanup(self) -> None:
        """Withdraw the action."""
        server, self._server = self._server, None
        if server is not None:
            server.destroy()

    def report(self) -> dict[str, object]:
        """Values for /diagnostics."""
        return {"instruction": self._attempt.instruction if self._attempt else "", "release": self._models.version}

    def _load(self, release: str) -> tuple[Vocabulary | Instructions | None, str]:
        """What the policy of a release may be told, all of which is verified; without one that of the bundle."""
        if release:
            found = Release.load(Path(release))
            return found.policy.instructions, found.version
        bundle = self.parameters["bundle"]
        if not bundle:
            return None, ""
        policy = Bundle.load(bundle_dir(bundle))
        return policy.instructions, policy.version

    def _use(self, instructions: Vocabulary | Instructions | None) -> None:
        self._instructions = instructions

    def _end_attempt(self, reason: str) -> None:
        if self._attempt is not None:
            self._attempt.end(_RESULT.STOPPED, reason)

    def _on_gate(self, message: GateState) -> None:
        self._gate, self._gate_at = message, time.monotonic()
        self._settle()

    def _on_decision(self, message: GateDecision) -> None:
        if self._attempt is not None:
            self._attempt.count(message)

    def _on_status(self, message: TaskStatus) -> None:
        self._status = message
        if self._attempt is not None:  # fewer: the scene was reset
            self._attempt.earlier = min(self._attempt.earlier, len(message.cost_events))

    def _events(self) -> list[str]:
        """Cost events that the scene lists."""
        return list(self._status.cost_events) if self._status else []

    async def _execute(self, goal: ServerGoalHandle) -> ExecuteTask.Result:
        if self.state == "active":
            await self._settled
            if self._attempt is None:
                await self._swapping.pause()
        if goal.is_cancel_requested:  # while it waited
            goal.canceled()
            return _RESULT(outcome=_RESULT.STOPPED, message="cancelled before it began")
        refusal = self._refusal(goal.request)
        if refusal:
            self.get_logger().warning(f"goal refused: {refusal}")
            goal.abort()
            return _RESULT(outcome=_RESULT.REFUSED, message=refusal)
        limit = goal.request.timeout or self.parameters["timeout"]
        attempt = self._attempt = Attempt(goal, self.now(), limit, len(self._events()))
        self._number += 1
        self._tell(AttemptState(running=True, instruction=attempt.instruction))
        self._heartbeat.publish(UInt64(data=self._number))  # from the first row on that anybody makes of it
        self._instruction_out.publish(String(data=attempt.instruction))
        self.get_logger().info(f"attempt begins: {attempt.instruction}")
        try:
            outcome, message = await attempt.outcome  # type: ignore[misc]
        finally:
            self._attempt = None
        if self._server is None:  # shut down meanwhile: nobody to answer to
            return _RESULT()
        self._instruction_out.publish(String(data=""))
        events = self._events()[attempt.earlier :]
        result = {"outcome": outcome, "message": message, "elapsed": attempt.elapsed, "cost_events": events}
        self._tell(AttemptState(instruction=attempt.instruction, **result))
        if outcome == _RESULT.SUCCEEDED:
            goal.succeed()
        elif goal.is_cancel_requested:
            goal.canceled()
        else:
            goal.abort()
        self.get_logger().info(f"attempt ended: {message}")
        return _RESULT(**result)

    def _tell(self, state: AttemptState) -> None:
        """Publish begin or end of an attempt."""
        state.header.stamp, state.number = convert.to_time(self.now()), self._number
        self._attempt_out.publish(state)

    def _refusal(self, goal: ExecuteTask.Goal) -> str:
        """Why a goal cannot begin, or an empty string."""
        instruction, timeout = goal.instruction, goal.timeout
        if self.state != "active":
            return "the task node is not active"
        if self._attempt is not None:
            return f"another attempt is running: {self._attempt.instruction!r}"
        if not 0.0 <= timeout <= LONGEST:  # nor NaN, which no time is beyond
            return f"timeout: {timeout} is not valid; 0 for the node's own, or up to {LONGEST:.0f} s"
        if self._instructions is not None:
            try:
                self._instructions.check(instruction)
            except ValueError as error:
                return str(error)
        if self._stopped():
            return f"{self._stopped()}; engage it with /gate/engage"
        status = self._judgement(instruction)
        if status is not None and (status.success or status.failed):
            return "the scene's attempt is over; put it back to its start with /sim/reset"
        return ""

    def _stopped(self, running: bool = False) -> str:
        """Why there can be no motion, or an empty string.

        A ``running`` attempt waits while a person has the arm, or has let go of it and not yet handed back.
        """
        if self._gate is None or time.monotonic() - self._gate_at > GATE_PATIENCE:
            return "the gate is silent"
        if running and self._gate.intervention and self._gate.mode != GateState.ESTOP:
            return ""
        if self._gate.mode in (GateState.HOLD, GateState.ESTOP):
            return f"the gate is in {convert.MODES[self._gate.mode]}: {self._gate.reason}"
        return ""

    def _judgement(self, instruction: str, since: int = 0) -> TaskStatus | None:
        """The last /task/status if it is about this instruction and not older than ``since`` [ns]."""
        status = self._status
        if status is None or status.instruction.lower().split() != instruction.lower().split():
            return None
        return status if convert.to_ns(status.header.stamp) >= since else None

    def _step(self) -> None:
        if time.monotonic() - self._since > SETTLE_TIME:
            self._settle()
        attempt = self._attempt
        self._heartbeat.publish(UInt64(data=0 if attempt is None else self._number))
        if attempt is None:
            return
        now = self.now()
        attempt.advance(now)
        elapsed = attempt.elapsed
        status = self._judgement(attempt.instruction, attempt.begin)
        if attempt.goal.is_cancel_requested:
            attempt.end(_RESULT.STOPPED, "cancelled")
        elif self._stopped(running=True):
            attempt.end(_RESULT.STOPPED, self._stopped(running=True))
        elif status is not None and status.success:
            attempt.end(_RESULT.SUCCEEDED, f"succeeded after {elapsed:.1f} s")
        elif status is not None and status.failed:
            attempt.end(_RESULT.FAILED, f"failed after {elapsed:.1f} s: cannot succeed any more")
        elif elapsed >= attempt.limit:
            attempt.end(_RESULT.TIMED_OUT, f"no success within {attempt.limit:.0f} s")
        else:
            attempt.tell(now, status.progress if status is not None else 0.0)

    def _settle(self) -> None:
        """The state of the gate is known, or it should be."""
        if not self._settled.done():
            self._settled.set_result(None)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return run(lambda: TaskNode("task"), argv)
