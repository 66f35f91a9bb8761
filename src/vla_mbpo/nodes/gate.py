"""Node `gate`: the only way from a chunk to the arm. Owns mode, epoch and e-stop latch."""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, String
from std_srvs.srv import Trigger
from vla_mbpo_msgs.msg import ActionChunkSet, Commitment, GateState
from vla_mbpo_msgs.srv import GateCommand

from vla_mbpo.core.chunk import JointRows
from vla_mbpo.core.state import RobotState
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.config import RANGES, GateConfig
from vla_mbpo.gate.gate import Gate
from vla_mbpo.gate.machine import Mode, StateMachine
from vla_mbpo.nodes import convert, qos
from vla_mbpo.nodes.base import ManagedNode
from vla_mbpo.nodes.parameters import Param
from vla_mbpo.nodes.process import run

VETTING = ("imagination", "failure_detector")
_DEFAULTS = GateConfig()
_ESTOP_TOPIC = f"topic {qos.ESTOP.name}"


class GateNode(ManagedNode):
    """Vets chunk sets, publishes every decision, and the rows of the first candidate that passes."""

    PARAMETERS = (
        *(Param(f"vetting.{name}", "", "whether to ask it; must be stated", choices=("off",)) for name in VETTING),
        Param("start_engaged", False, "go to AUTONOMOUS once all inputs are there (simulation only)"),
        Param("input_timeout", 0.3, "longest silence of joint states or arm driver before HOLD, s", 0.05, 2.0),
        Param("pendant_timeout", 0.0, "longest silence of a hardware pendant before ESTOP, s; 0: none", 0.0, 2.0),
        Param("state_file", "", "file that keeps e-stop latch and epoch over restarts; empty: not kept"),
        *(Param(f"checks.{name}", getattr(_DEFAULTS, name), f"GateConfig.{name}", *RANGES[name]) for name in RANGES),
    )

    def configure(self) -> None:
        """Build the checks; a type without a complete set is refused here."""
        self._spec = self.spec()
        self._gate = Gate(self._spec, GateConfig(**{name: self.parameters[f"checks.{name}"] for name in RANGES}))
        path = self.parameters["state_file"]
        self._machine = StateMachine(self.now(), Path(path).expanduser() if path else None)
        self._reader = convert.JointStateReader(self._spec)
        self._approved = self.publisher(qos.APPROVED_CHUNK)
        self._decision = self.publisher(qos.GATE_DECISION)
        self._state_out = self.publisher(qos.GATE_STATE)
        self._state_message = GateState(vetting_off=list(VETTING))
        self._accepted = self._rejected = self._rejected_sets = 0

    def activate(self) -> None:
        """Listen, and say what the mode is."""
        self._joints: JointState | None = None
        self._commitment: Commitment | None = None
        self._heard = {"joint_states": 0, "arm_driver": 0}
        self._instruction = self._was_silent = ""
        self._pending_engage = self.parameters["start_engaged"]
        self.subscribe(qos.JOINT_STATES, self._on_joints)
        self.subscribe(qos.COMMITMENT, self._on_commitment)
        self.subscribe(qos.INSTRUCTION, self._on_instruction)
        self.subscribe(qos.ESTOP, self._on_estop)
        self.subscribe(qos.ACTION_CHUNKS, self._on_chunks)
        self._pendant_heard = time.monotonic()
        if self.parameters["pendant_timeout"]:
            self.subscribe(qos.PENDANT, self._on_pendant)
        self.serve(GateCommand, qos.ENGAGE, lambda q, a: self._command(self._machine.engage, q, a))
        self.serve(GateCommand, qos.RESET_GATE, lambda q, a: self._command(self._machine.reset, q, a))
        self.serve(Trigger, qos.ESTOP_SERVICE, self._on_estop_service)
        self.every(qos.GATE_STATE_PERIOD, self._tick)
        self._publish_state()

    def deactivate(self) -> None:
        """Nothing is approved any more."""
        self._machine.hold("gate deactivated")
        self._publish_state()

    def report(self) -> dict[str, object]:
        """Values for /diagnostics."""
        machine = self._machine
        mode = {"mode": machine.mode.name, "epoch": machine.epoch, "reason": machine.reason}
        return {**mode, "accepted": self._accepted, "rejected": self._rejected, "sets_in_a_row": self._rejected_sets}

    def warning(self) -> str:
        """What is wrong at the moment."""
        if self._machine.mode == Mode.ESTOP:
            return f"ESTOP: {self._machine.reason}"
        return f"{self._rejected_sets} chunk sets rejected in a row" if self._rejected_sets >= 3 else ""

    def _on_joints(self, message: JointState) -> None:
        self._joints, self._heard["joint_states"] = message, time.monotonic_ns()

    def _on_commitment(self, message: Commitment) -> None:
        self._commitment, self._heard["arm_driver"] = message, time.monotonic_ns()

    def _on_instruction(self, message: String) -> None:
        self._instruction = message.data

    def _on_estop(self, message: Bool) -> None:
        if message.data:
            self._machine.estop(_ESTOP_TOPIC, self.now())
        else:
            self._machine.clear(_ESTOP_TOPIC)
        self._publish_state()

    def _on_pendant(self, message: Bool) -> None:
        """A pendant's heartbeat: true while its button is not pressed."""
        self._pendant_heard = time.monotonic()
        self._pendant("pressed", not message.data)
        self._pendant("silent", False)

    def _pendant(self, what: str, present: bool) -> None:
        cause = f"pendant {what}"
        if present:
            self._machine.estop(cause, self.now())
        else:
            self._machine.clear(cause)

    def _on_estop_service(self, _: Trigger.Request, answer: Trigger.Response) -> Trigger.Response:
        self._machine.estop(f"service {qos.ESTOP_SERVICE}", self.now(), present=False)
        self._publish_state()
        answer.success, answer.message = True, "stopped and latched"
        return answer

    def _command(
        self, act: Callable[[int, int], str | None], request: GateCommand.Request, answer: GateCommand.Response
    ) -> GateCommand.Response:
        silent = self._silent() if act == self._machine.engage else ""
        why = f"no message of {silent}" if silent else act(request.epoch, self.now())
        answer.success, answer.message, answer.epoch = why is None, why or self._machine.reason, self._machine.epoch
        self._pending_engage = False
        self._publish_state()
        return answer

    def _silent(self) -> str:
        """The first input that has been silent for too long, or an empty string."""
        limit = time.monotonic_ns() - round(self.parameters["input_timeout"] * 1e9)
        return next((name for name, last in self._heard.items() if last < limit), "")

    def _tick(self) -> None:
        patience = self.parameters["pendant_timeout"]
        if patience and time.monotonic() - self._pendant_heard > patience:
            self._pendant("silent", True)
        silent, before = self._silent(), self._was_silent
        self._was_silent = silent
        if silent and before:  # twice: after a stall of this process the first tick comes before the waiting messages
            self._machine.hold(f"no message of {silent}")
        elif self._pending_engage and not silent:
            self._pending_engage = False
            self._machine.engage(self._machine.epoch, self.now())
        self._publish_state()

    def _publish_state(self) -> None:
        message, machine = self._state_message, self._machine
        if message.epoch != machine.epoch:
            self.get_logger().info(f"{machine.mode.name}: {machine.reason}")
        message.header.stamp = convert.to_time(self.now())
        message.mode, message.epoch, message.reason = int(machine.mode), machine.epoch, machine.reason
        self._state_out.publish(message)

    def _on_chunks(self, message: ActionChunkSet) -> None:
        refusal = self._refusal(message)
        state = self._reader.read(self._joints) if self._joints is not None and refusal is None else None
        if refusal is None and state is None:
            refusal = Reason("measured_state", -1, "joint_states", 0.0, 1.0, "missing or incomplete")
        if refusal is not None or state is None:
            self._decide(message, 0, (refusal,) if refusal else (), time.monotonic_ns())
            return
        for chunk in message.chunks:
            begin = time.monotonic_ns()
            verdict = self._vet(chunk, state)
            if isinstance(verdict, JointRows):
                self._decide(message, chunk.candidate, (), begin)
                reason = f"passed all checks; {', '.join(VETTING)} off"
                self._approved.publish(convert.to_approved(verdict, self.now(), self._spec.base_frame, "gate", reason))
                self._rejected_sets = 0
                return
            self._decide(message, chunk.candidate, verdict, begin)
        self._rejected_sets += 1

    def _refusal(self, message: ActionChunkSet) -> Reason | None:
        """Why the set as a whole is not looked at."""
        mode = self._machine.mode
        if mode != Mode.AUTONOMOUS:
            return Reason("mode", -1, mode.name, float(mode), float(Mode.AUTONOMOUS), self._machine.reason)
        if message.instruction != self._instruction:
            text = f"{message.instruction!r} is not the current instruction {self._instruction!r}"
            return Reason("instruction", -1, qos.INSTRUCTION.name, 0.0, 0.0, text)
        if not message.chunks:
            return Reason("chunks", -1, qos.ACTION_CHUNKS.name, 0.0, 1.0, "empty set")
        return None

    def _vet(self, message: object, state: RobotState) -> JointRows | tuple[Reason, ...]:
        commanded = None
        if self._commitment is not None and len(self._commitment.commanded_positions):
            commanded = convert.from_doubles(self._commitment.commanded_positions)
        try:
            chunk = convert.from_chunk(message)
        except ValueError as error:
            return (Reason("message", -1, qos.ACTION_CHUNKS.name, 0.0, 0.0, str(error)),)
        return self._gate.vet(chunk, state, commanded, self.now(), self._machine.epoch)

    def _decide(self, of: ActionChunkSet, candidate: int, reasons: Sequence[Reason], begin: int) -> None:
        """Publish one decision; no reasons means accepted."""
        took, mode = time.monotonic_ns() - begin, int(self._machine.mode)
        self._decision.publish(convert.to_decision(of, candidate, mode, reasons, self.now(), took))
        if reasons:
            self._rejected += 1
            self.get_logger().info(f"candidate {candidate} rejected: {reasons[0]}", throttle_duration_sec=1.0)
        else:
            self._accepted += 1


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return run(lambda: GateNode("gate"), argv)


if __name__ == "__main__":
    sys.exit(main())
