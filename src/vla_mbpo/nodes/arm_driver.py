"""Node `arm_driver`: approved rows become trajectories at 50 Hz, and a controlled stop when anything is amiss."""

import time
from collections.abc import Sequence

from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, String, UInt64
from vla_mbpo_msgs.msg import ApprovedChunk, GateState

from vla_mbpo.arm.config import RANGES, DriverConfig
from vla_mbpo.arm.driver import ArmDriver
from vla_mbpo.core.verdict import Reason
from vla_mbpo.nodes import convert, qos
from vla_mbpo.nodes.base import ManagedNode
from vla_mbpo.nodes.grippers import GRIPPERS
from vla_mbpo.nodes.outputs import OUTPUTS
from vla_mbpo.nodes.parameters import Param
from vla_mbpo.nodes.process import run

REST_TIME = 1.0  # s until the arm rests after a deactivation, at most
GRIPPER_REPEAT = 10  # ticks after which an unchanged opening is sent again
_MOVING = (GateState.AUTONOMOUS, GateState.TELEOP)
_DEFAULTS = DriverConfig()


class ArmDriverNode(ManagedNode):
    """Executes what the gate approved, under the gate's present epoch, as long as gate and joint states are heard."""

    PARAMETERS = (
        Param("output", "joint_trajectory", "what the controller takes (nodes/outputs.py)", choices=tuple(OUTPUTS)),
        Param("gripper_output", "opening", "what the gripper takes (nodes/grippers.py)", choices=tuple(GRIPPERS)),
        Param("gripper_action", "/gripper_controller/gripper_cmd", "its GripperCommand server, for output command"),
        Param("gripper_effort", 20.0, "largest effort of such a command, the server's unit", 0.0, 200.0),
        Param("gate_timeout", qos.HEARTBEAT_DEADLINE, "longest silence of the gate, s", qos.HEARTBEAT_DEADLINE, 1.0),
        *(Param(name, getattr(_DEFAULTS, name), f"DriverConfig.{name}", *RANGES[name]) for name in RANGES),
    )

    def configure(self) -> None:
        """Read the settings."""
        self._spec = self.spec()
        self._config = DriverConfig(**{name: self.parameters[name] for name in RANGES})
        self._reader = convert.JointStateReader(self._spec)
        self._output = OUTPUTS[self.parameters["output"]](self, self._on_other)
        self._gripper = GRIPPERS[self.parameters["gripper_output"]](self, self._spec)
        self._commitment = self.publisher(qos.COMMITMENT)
        self._taken = self._refused = self._stops = 0

    def activate(self) -> None:
        """Start without rows; nothing that was planned before is taken, since the arm may have moved then."""
        self._driver = ArmDriver(self._spec, self._config)
        self._driver.restart(self.now(), "")
        self._joints: JointState | None = None
        self._gate: GateState | None = None
        self._estop = False
        self._estop_epoch = 0
        self._instruction: str | None = None
        self._opening: float | None = None
        self._ticks = 0
        self._ahead: int | None = None  # of the steady clock is the node's, at most [ns]
        self._silent = True  # the gate
        self._output.listen()
        self.subscribe(qos.GATE_STATE, self._on_gate)  # before the rows: callbacks run in this order
        self.subscribe(qos.APPROVED_CHUNK, self._on_approved)
        heartbeat = qos.with_deadline(qos.HEARTBEAT, self.parameters["gate_timeout"])
        self.subscribe(heartbeat, self._on_heartbeat, on_deadline=self._on_gate_silent)
        self.subscribe(qos.JOINT_STATES, self._on_joints)
        for topic in qos.ESTOPS:
            self.subscribe(topic, self._on_estop)
        self.subscribe(qos.INSTRUCTION, self._on_instruction)
        self.every(self._config.tick, self._tick)

    def deactivate(self) -> None:
        """Brake. The last trajectory ends at rest by itself; a position stream has to be led there."""
        self._stop("deactivated")
        self._tick()
        until = time.monotonic() + REST_TIME
        while self._output.stream and not self._driver.at_rest(self.now()) and time.monotonic() < until:
            time.sleep(self._config.tick)
            self._tick()

    def report(self) -> dict[str, object]:
        """Values for /diagnostics."""
        clock = self._driver.clock
        return {
            "chunks_taken": self._taken,
            "chunks_refused": self._refused,
            "stops": self._stops,
            "stop_reason": self._driver.stop_reason,
            "rows_queued": len(clock.grid(self.now())[1]),
            "rows_executed": clock.executed,
            "rows_dropped_late": clock.dropped_late,
            "seams": self._driver.seams,
            "worst_seam_ratio": f"{self._driver.worst_seam_ratio:.3f}",
        }

    def warning(self) -> str:
        """What is wrong at the moment."""
        return self._output.warning or ("the gate is silent" if self._silent else "")

    def _on_joints(self, message: JointState) -> None:
        """Keep the newest. One of other joints, or an old one of a recording, does not take its place."""
        if not self._reader.reads(message):
            return
        newest = 0 if self._joints is None else convert.to_ns(self._joints.header.stamp)
        if not convert.to_ns(message.header.stamp) <= newest <= self.now():
            self._joints = message

    def _on_gate(self, message: GateState) -> None:
        self._gate = message
        if message.mode not in _MOVING:
            self._stop(f"gate {message.reason}")
        elif not self._estop and message.epoch > self._estop_epoch:
            self._driver.release()
        self._driver.enter_epoch(message.epoch)

    def _on_heartbeat(self, _: UInt64) -> None:
        self._silent = False

    def _on_gate_silent(self) -> None:
        self._silent = True
        self._stop("gate silent")

    def _on_estop(self, message: Bool) -> None:
        self._estop = message.data
        if message.data:
            self._estop_epoch = self._gate.epoch if self._gate is not None else 0
            self._stop("e-stop", latch=True)

    def _on_instruction(self, message: String) -> None:
        if self._instruction not in (None, message.data) and self._driver.clock.first_due(self.now()) is not None:
            self._stop("instruction changed")
        self._instruction = message.data

    def _on_other(self) -> None:
        """What the controller gets and this node has not sent makes its plan worthless."""
        self._stop(f"another publisher on {self._output.name}")

    def _stop(self, reason: str, latch: bool = False) -> None:
        """Drop what is committed and brake, now and not with the next tick."""
        moving = self._driver.clock.first_due(self.now()) is not None
        self._driver.stop(reason, latch)
        if moving:
            self._stops += 1
            self._tick()
            self.get_logger().info(f"stop: {reason}")

    def _on_approved(self, message: ApprovedChunk) -> None:
        reasons = self._refusal(message)
        if not reasons:
            self._measure()
            try:
                reasons = self._driver.offer(convert.from_approved(message), self.now())
            except ValueError as error:
                reasons = (Reason("message", -1, qos.APPROVED_CHUNK.name, 0.0, 0.0, str(error)),)
        if reasons:
            self._refused += 1
            self.get_logger().warning(f"chunk refused: {reasons[0]}", throttle_duration_sec=1.0)
        else:
            self._taken += 1

    def _refusal(self, message: ApprovedChunk) -> tuple[Reason, ...]:
        """Why the gate's present state forbids the chunk."""
        if self._output.left:
            return (Reason("alone", -1, self._output.name, self._output.left, 0.0, self._output.warning),)
        gate = self._gate
        if gate is None or self._silent:
            return (Reason("mode", -1, "gate", -1.0, float(GateState.AUTONOMOUS), "silent"),)
        if gate.mode not in _MOVING:
            return (Reason("mode", -1, "gate", gate.mode, float(GateState.AUTONOMOUS), gate.reason),)
        if message.epoch != gate.epoch:
            return (Reason("epoch", -1, "gate", float(message.epoch), float(gate.epoch), "stale"),)
        return ()

    def _measure(self) -> None:
        """Read the newest joint states; most are overtaken by newer ones before anybody needs them."""
        if self._joints is None:
            return
        state, self._joints = self._reader.read(self._joints), None
        if state is not None:
            self._driver.measure(state)

    def _checked_now(self) -> int:
        """Node time. Once it has been set forward, the arm is not where the plan has it by now: all is dropped."""
        before, now, after = time.monotonic_ns(), self.now(), time.monotonic_ns()
        was, self._ahead = self._ahead, now - before
        forward = was is not None and now - after - was > self._config.max_future * 1e9
        if forward and not self.get_parameter("use_sim_time").value:
            self._driver.restart(now, "clock went forward")
        return now

    def _tick(self) -> None:
        now = self._checked_now()
        self._measure()
        trajectory = self._driver.tick(now)
        if trajectory is not None:
            self._output.send(trajectory)
        opening = self._driver.gripper(now)
        self._ticks += 1
        if opening is not None and (opening != self._opening or self._ticks % GRIPPER_REPEAT == 0):
            self._opening = opening
            self._gripper.send(opening)
        if self._driver.stop_reason:
            self._gripper.drop()
        self._gripper.tick()
        self._commitment.publish(convert.to_commitment(self._driver.commitment(now), self._spec.base_frame))


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return run(lambda: ArmDriverNode("arm_driver"), argv)
