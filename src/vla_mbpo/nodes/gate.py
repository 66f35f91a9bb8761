"""Node `gate`: the only way from a chunk to the arm. Owns mode, epoch and e-stop latch."""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, String, UInt64
from std_srvs.srv import Trigger
from vla_mbpo_msgs.msg import (
    ActionChunkSet,
    CandidateVerdict,
    Commitment,
    FailureRisk,
    GateState,
    ImaginationVerdict,
    TeleopCommand,
)
from vla_mbpo_msgs.srv import GateCommand

from vla_mbpo.core.chunk import ActionChunk, JointRows
from vla_mbpo.core.state import RobotState
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.gate import Gate
from vla_mbpo.gate.inputs import ARM_DRIVER, JOINT_STATES, Inputs
from vla_mbpo.gate.machine import Mode, StateMachine
from vla_mbpo.gate.pendant import Pendant
from vla_mbpo.nodes import checking, convert, qos
from vla_mbpo.nodes.base import ManagedNode
from vla_mbpo.nodes.counts import Counts
from vla_mbpo.nodes.exclusive import ExclusiveTopic
from vla_mbpo.nodes.join import Vetted, VettingJoin, inconsistent
from vla_mbpo.nodes.models import Models
from vla_mbpo.nodes.parameters import Param
from vla_mbpo.nodes.prefix import set_point, told_opening
from vla_mbpo.nodes.process import run
from vla_mbpo.nodes.vetting import PARAMETERS, VETTING, join_of, switched_off
from vla_mbpo.teleop.jog import Jogger

MAX_CANDIDATES = 64  # as policy.k
MISSING = Reason("measured_state", -1, "joint_states", 0.0, 1.0, "missing or incomplete")
_ESTOP_TOPIC = f"topic {qos.ESTOP.name}"


class GateNode(ManagedNode):
    """Vets chunk sets, publishes every decision, and the rows of the first candidate that passes."""

    PARAMETERS = (
        *PARAMETERS,
        Param("start_engaged", False, "go to AUTONOMOUS once all inputs are there (simulation only)"),
        Param("input_timeout", 0.3, "longest silence of joint states or arm driver before HOLD, s", 0.05, 2.0),
        Param("task_timeout", 1.0, "longest silence of the task node in an attempt before HOLD, s", 0.3, 10.0),
        Param("pendant_timeout", 0.0, "longest silence of a hardware pendant before ESTOP, s; 0: none", 0.0, 2.0),
        Param("state_file", "", "file that keeps e-stop latch and epoch over restarts; empty: not kept"),
        *checking.PARAMETERS,
    )

    def configure(self) -> None:
        """Build the checks; a type without a complete set is refused here."""
        self._spec = self.spec()
        self._gate = checking.gate_of(self._spec, self.parameters)
        self._off = switched_off(self.parameters)
        self._off_text = f"{', '.join(self._off)} off" if self._off else ""
        self._models = Models(self, lambda release: join_of(self.parameters, release), self._use)
        self._slow: Gate | None = None  # for what imagination does not know
        if self._join is not None and self.parameters["vetting.on_unknown"] == "slow":
            self._slow = checking.gate_of(self._spec, self.parameters, self.parameters["vetting.slow"])
        self._reader = convert.JointStateReader(self._spec)
        self._jogger = Jogger(self._spec)
        self._approved = ExclusiveTopic(self, qos.APPROVED_CHUNK, self._on_other)
        self._resample = self.publisher(qos.RESAMPLE)
        self._decision = self.publisher(qos.GATE_DECISION)
        self._heartbeat = self.publisher(qos.HEARTBEAT)
        self._state_out = self.publisher(qos.GATE_STATE)
        self._state_message = GateState(vetting_off=self._off)
        file = Path(path).expanduser() if (path := self.parameters["state_file"]) else None
        self._last_observation = 0
        self._pending_engage = self._let_go = self._asked = False
        before = getattr(self, "_machine", None)  # a latch outlives a cleanup too
        self._machine = StateMachine(self.now(), file, on_change=self._on_change, before=before)
        self._pendant = Pendant(self._machine, self.parameters["pendant_timeout"])
        self._counts = Counts()

    def activate(self) -> None:
        """Listen, and say what the mode is."""
        self._measured: RobotState | None = None
        self._commitment: Commitment | None = None
        self._opening: float | None = None
        self._inputs = Inputs(self.parameters["input_timeout"], self.parameters["task_timeout"])
        self._let_go = self._asked = False
        self._instruction = ""
        self._pending_engage = self.parameters["start_engaged"]
        self.subscribe(qos.JOINT_STATES, self._on_joints)
        self.subscribe(qos.COMMITMENT, self._on_commitment)
        self.subscribe(qos.INSTRUCTION, self._on_instruction)
        self.subscribe(qos.TASK_HEARTBEAT, lambda message: self._inputs.attempt(message.data))
        for topic in qos.ESTOPS:
            self.subscribe(topic, self._on_estop)
        self.subscribe(qos.ACTION_CHUNKS, self._on_chunks)
        if self._join is not None:
            for name, topic in zip(VETTING, (qos.VERDICT, qos.RISK), strict=True):
                if name not in self._off:
                    self.subscribe(topic, self._on_answer)
            self.every(0.01, self._expire)
        self.subscribe(qos.TELEOP_COMMAND, self._on_teleop, on_deadline=lambda: self._machine.release("teleop silent"))
        self._approved.listen()
        self._models.listen()
        self._pendant.restart()
        if self.parameters["pendant_timeout"]:
            self.subscribe(qos.PENDANT, self._on_pendant)
        self.serve(GateCommand, qos.ENGAGE, lambda q, a: self._command(self._machine.engage, q, a))
        self.serve(GateCommand, qos.RESET_GATE, lambda q, a: self._command(self._machine.reset, q, a))
        self.serve(Trigger, qos.ESTOP_SERVICE, self._on_estop_service)
        self.every(qos.GATE_STATE_PERIOD, self._tick)
        self.every(qos.HEARTBEAT_PERIOD, self._beat)
        self._publish_state()

    def deactivate(self) -> None:
        """Nothing is approved any more."""
        self._machine.hold("gate deactivated")

    def report(self) -> dict[str, object]:
        """Values for /diagnostics."""
        machine = self._machine
        mode = {"mode": machine.mode.name, "epoch": machine.epoch, "reason": machine.reason}
        return mode | self._counts.report()

    def warning(self) -> str:
        """What is wrong at the moment."""
        if self._machine.mode == Mode.ESTOP:
            return f"ESTOP: {self._machine.reason}"
        if self._machine.save_error:
            return f"state_file: {self._machine.save_error}"
        if self._approved.warning:
            return self._approved.warning
        return self._counts.warning()

    def _use(self, join: VettingJoin | None) -> None:
        self._join = join

    def _on_joints(self, message: JointState) -> None:
        # What says nothing new of the arm is no sign of life: it was overtaken, comes from a recording, is repeated by
        # a frozen publisher, or is about other joints, as what a gripper's own node says.
        newest = 0 if self._measured is None else self._measured.stamp
        if convert.to_ns(message.header.stamp) <= newest <= self.now():
            return
        state = self._reader.read(message)
        if state is not None:
            self._measured = state
            self._inputs.hear(JOINT_STATES)

    def _on_commitment(self, message: Commitment) -> None:
        self._commitment, self._opening = message, told_opening(message, self._opening)
        self._inputs.hear(ARM_DRIVER)

    def _on_instruction(self, message: String) -> None:
        self._instruction = message.data

    def _on_estop(self, message: Bool) -> None:
        if message.data:
            self._machine.estop(_ESTOP_TOPIC, self.now())
        else:
            self._machine.clear(_ESTOP_TOPIC)

    def _on_pendant(self, message: Bool) -> None:
        """A pendant's heartbeat: true while its button is not pressed."""
        self._pendant.beat(message.data, self.now())

    def _on_estop_service(self, _: Trigger.Request, answer: Trigger.Response) -> Trigger.Response:
        self._machine.estop(f"service {qos.ESTOP_SERVICE}", self.now(), present=False)
        answer.success, answer.message = True, "stopped and latched"
        return answer

    def _command(
        self, act: Callable[[int, int], str | None], request: GateCommand.Request, answer: GateCommand.Response
    ) -> GateCommand.Response:
        blocked = self._blocked() if act == self._machine.engage else ""
        why = blocked or act(request.epoch, self.now())
        answer.success, answer.message, answer.epoch = why is None, why or self._machine.reason, self._machine.epoch
        self._pending_engage = False
        return answer

    def _blocked(self, autonomy: bool = True) -> str:
        """Why autonomy, or else a takeover, cannot begin whatever the mode, or an empty string."""
        silent = self._inputs.silent(autonomy)
        return f"no message of {silent}" if silent else self._approved.warning

    def _tick(self) -> None:
        self._pendant.tick(self.now())
        lost = self._inputs.lost(self._machine.mode == Mode.AUTONOMOUS)
        if lost:
            self._machine.hold(f"no message of {lost}")
        elif self._machine.mode == Mode.AUTONOMOUS and self._machine.save_error:  # a latch would not outlive a restart
            self._machine.hold(f"state_file: {self._machine.save_error}")
        elif self._pending_engage and not self._blocked():
            self._pending_engage = False
            self._machine.engage(self._machine.epoch, self.now())
        self._publish_state()

    def _beat(self) -> None:
        self._heartbeat.publish(UInt64(data=self._machine.epoch))

    def _on_change(self) -> None:
        self._last_observation, self._pending_engage, self._let_go, self._asked = 0, False, False, False
        if self._join is not None:
            self._join.drop()
        self._publish_state()
        self.get_logger().info(f"{self._machine.mode.name}: {self._machine.reason}")

    def _publish_state(self) -> None:
        message, machine = self._state_message, self._machine
        message.header.stamp = convert.to_time(self.now())
        message.mode, message.epoch, message.reason = int(machine.mode), machine.epoch, machine.reason
        message.intervention = machine.intervention
        self._state_out.publish(message)

    def _on_other(self) -> None:
        """Rows that this node has not approved are on their way to the arm driver."""
        self._machine.hold(f"another publisher on {self._approved.name}")

    def _on_teleop(self, message: TeleopCommand) -> None:
        """A person goes before the policy, at once; whoever lets go of the deadman stops the arm.

        After any stop the deadman has to be pressed anew: one that is held all the time, or stuck, moves nothing.
        """
        machine, now = self._machine, self.now()
        fresh = abs(now - convert.to_ns(message.header.stamp)) <= qos.TELEOP_DEADLINE * 1e9
        if message.estop:
            machine.estop("joystick", now, present=False)
        elif not message.deadman or not fresh:
            machine.release("deadman released")
            self._let_go |= fresh
        elif machine.mode == Mode.TELEOP:
            self._drive(message, now)
        elif self._let_go and not self._blocked(autonomy=False) and machine.takeover(now) is None:
            self._jogger.reset(self._opening)
            self._drive(message, now)

    def _drive(self, message: TeleopCommand, now: int) -> None:
        state, stamp = self._measured, convert.to_time(now)
        try:
            if state is None:
                raise ValueError("joint_states: missing or incomplete")
            point = set_point(self._commitment, now)
            q, v = (state.positions, np.zeros_like(state.positions)) if point is None else point
            chunks = self._jogger.chunks(convert.from_teleop(message, self._spec), q, v, state, now)
        except ValueError as error:
            self._decide(now, stamp, 0, (Reason("message", -1, qos.TELEOP_COMMAND.name, 0.0, 0.0, str(error)),))
            return
        if chunks and state is not None:
            self._approve_first(now, stamp, chunks, state, convert.TELEOP)

    def _on_chunks(self, message: ActionChunkSet) -> None:
        self._counts.arrivals.append(time.monotonic())
        refusal, state = self._refusal(message), self._measured
        if refusal is None and state is None:
            refusal = MISSING
        if refusal is not None or state is None:
            self._decide(message.chunk_set_id, message.observation_stamp, 0, (refusal,) if refusal else ())
            return
        if self._join is not None:
            for vetted in self._join.add_set(message, time.monotonic()):
                self._decide_vetted(vetted)
            return
        self._approve_first(message.chunk_set_id, message.observation_stamp, message.chunks, state, "gate")

    def _on_answer(self, message: ImaginationVerdict | FailureRisk) -> None:
        assert self._join is not None
        self._decide_vetted(self._join.add(message, time.monotonic()))

    def _expire(self) -> None:
        assert self._join is not None
        self._decide_vetted(self._join.expire(time.monotonic()))

    def _decide_vetted(self, vetted: Vetted | None) -> None:
        """Decide on a set that imagination has spoken on, or failed to."""
        if vetted is None:
            return
        message, state = vetted.message, self._measured
        set_id, stamp = message.chunk_set_id, message.observation_stamp
        ends = vetted.alarm and self.parameters["vetting.on_alarm"] != "note"
        if ends and self._machine.mode == Mode.AUTONOMOUS and message.instruction == self._instruction:
            self._decide(set_id, stamp, 0, (Reason("failure_detector", -1, "risk", 1.0, 0.0, vetted.alarm),))
            self._machine.hold(vetted.alarm, intervention=self.parameters["vetting.on_alarm"] == "human")
            return
        refusal = self._refusal(message)
        if refusal is not None or state is None:
            self._decide(set_id, stamp, 0, (refusal,) if refusal else (MISSING,))
            return
        if vetted.unknown:
            self._asked = False
            if self._slow is not None:
                rest = self._fit(vetted, vetted.not_refused)
                self._approve_first(set_id, stamp, rest, state, "gate", vetted, self._slow)
                return
            text = f"UNKNOWN: {vetted.unknown}"
            self._decide(set_id, stamp, 0, (Reason("vetting", -1, "answers", 0.0, 0.0, text),))
            self._counts.sets_in_a_row += 1
            return
        if self._approve_first(set_id, stamp, self._fit(vetted, vetted.order), state, "gate", vetted):
            self._asked = False
        else:  # once other samples, then the arm comes to a stop
            if not self._asked:
                self._resample.publish(UInt64(data=set_id))
            self._asked = not self._asked

    def _fit(self, vetted: Vetted, order: Sequence[int]) -> list:
        """The chunks of ``order``; what imagination says against the others is decided on."""
        message = vetted.message
        for one in vetted.verdicts:
            if one.candidate not in order:
                reason = Reason("imagination", -1, "verdict", one.cost_probability, 0.0, "; ".join(one.reasons))
                self._decide(message.chunk_set_id, message.observation_stamp, one.candidate, (reason,), verdict=one)
        return [message.chunks[c] for c in order]

    def _refusal(self, message: ActionChunkSet) -> Reason | None:
        """Why the set as a whole is not looked at."""
        mode = self._machine.mode
        if mode != Mode.AUTONOMOUS:
            return Reason("mode", -1, mode.name, float(mode), float(Mode.AUTONOMOUS), self._machine.reason)
        if not self._instruction or message.instruction != self._instruction:
            text = f"{message.instruction!r} is not the current instruction {self._instruction!r}"
            return Reason("instruction", -1, qos.INSTRUCTION.name, 0.0, 0.0, text)
        if not 1 <= len(message.chunks) <= MAX_CANDIDATES:
            return Reason("chunks", -1, qos.ACTION_CHUNKS.name, len(message.chunks), MAX_CANDIDATES, "from 1")
        stamp = convert.to_ns(message.observation_stamp)
        if stamp <= self._last_observation:
            behind = (self._last_observation - stamp) / 1e9
            return Reason("order", -1, "observation_stamp", behind, 0.0, "this or a newer one was here")
        return inconsistent(message)

    def _approve_first(
        self,
        set_id: int,
        stamp: Time,
        chunks: Iterable,
        state: RobotState,
        by: str,
        vetted: Vetted | None = None,
        gate: Gate | None = None,
    ) -> bool:
        """Decide on the candidates in turn and send the rows of the first that passes to the arm driver."""
        for chunk in chunks:
            begin = time.monotonic_ns()
            verdict = self._vet(chunk, state, gate or self._gate)
            took = time.monotonic_ns() - begin
            imagined = vetted.verdicts[chunk.candidate] if vetted and vetted.verdicts else None
            if isinstance(verdict, JointRows):
                self._decide(set_id, stamp, chunk.candidate, (), took, imagined)
                slowly = f"slowly; vetting UNKNOWN: {vetted.unknown}" if vetted and vetted.unknown else ""
                reason = "; ".join(filter(None, ("passed all checks", slowly, self._off_text)))
                self._approved.publish(convert.to_approved(verdict, self.now(), self._spec.base_frame, by, reason))
                self._counts.sets_in_a_row, self._last_observation = 0, convert.to_ns(stamp)
                return True
            self._decide(set_id, stamp, chunk.candidate, verdict, took, imagined)
            self._beat()  # a set of many candidates takes longer than the arm driver's patience
        self._counts.sets_in_a_row += 1
        return False

    def _vet(self, chunk: ActionChunk | object, state: RobotState, gate: Gate) -> JointRows | tuple[Reason, ...]:
        now = self.now()
        try:
            if not isinstance(chunk, ActionChunk):
                chunk = convert.from_chunk(chunk, self._spec.base_frame)
            point = set_point(self._commitment, now)
        except ValueError as error:
            return (Reason("message", -1, qos.ACTION_CHUNKS.name, 0.0, 0.0, str(error)),)
        q, v = (None, None) if point is None else point
        return gate.vet(chunk, state, q, now, self._machine.epoch, v)

    def _decide(
        self,
        set_id: int,
        stamp: Time,
        candidate: int,
        reasons: Sequence[Reason],
        took: int = 0,
        verdict: CandidateVerdict | None = None,
    ) -> None:
        """Publish one decision; no reasons means accepted."""
        message = convert.to_decision(set_id, stamp, candidate, self._state_message, reasons, self.now(), took)
        if verdict is not None:
            message.imagination = verdict
        self._decision.publish(message)
        self._counts.add(reasons, took)
        if reasons:
            self.get_logger().info(f"candidate {candidate} rejected: {reasons[0]}", throttle_duration_sec=1.0)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return run(lambda: GateNode("gate"), argv)
