"""Node `teleop`: from a gamepad to a person's command for the gate."""

import time
from collections.abc import Sequence

from rclpy.client import Client
from sensor_msgs.msg import Joy
from vla_mbpo_msgs.msg import GateState, TeleopCommand
from vla_mbpo_msgs.srv import GateCommand

from vla_mbpo.nodes import convert, qos
from vla_mbpo.nodes.base import ManagedNode
from vla_mbpo.nodes.parameters import Param
from vla_mbpo.nodes.process import run
from vla_mbpo.teleop.mapping import SHARES, Mapping, Speeds

ESTOP_REPEAT = 0.3  # s; a short press is said again, so that no message more or less decides
SETTLE = 0.3  # s; what a gamepad holds when it appears may be said only some readings later
_SPEEDS = Speeds()


class TeleopNode(ManagedNode):
    """Publishes while a gamepad is heard; when it falls silent, once more with the deadman released."""

    PARAMETERS = (
        Param("linear_speed", _SPEEDS.linear, "tool speed at full stick and full share, m/s", 0.01, 0.25),
        Param("angular_speed", _SPEEDS.angular, "tool rotation, likewise, rad/s", 0.01, 1.5),
        Param("joint_speed", _SPEEDS.joint, "joint speed, likewise, rad/s", 0.01, 1.0),
        Param("gripper_speed", _SPEEDS.gripper, "gripper opening, likewise, m/s", 0.01, 0.2),
        Param("joy_timeout", 0.2, "longest silence of /joy before the deadman counts as released, s", 0.05, 1.0),
    )

    def configure(self) -> None:
        """Read the speeds."""
        names = ("linear", "angular", "joint", "gripper")
        speeds = Speeds(**{name: self.parameters[f"{name}_speed"] for name in names})
        self._spec = self.spec()
        self._mapping = Mapping(self._spec, speeds)
        self._out = self.publisher(qos.TELEOP_COMMAND)
        self._engage: Client = self.create_client(GateCommand, qos.ENGAGE)
        self.on_cleanup_do(lambda: self.destroy_client(self._engage))

    def activate(self) -> None:
        """Listen."""
        self._command: TeleopCommand | None = None
        self._gate: GateState | None = None
        self._heard, self._back, self._estop_until, self._fault = 0.0, 0.0, 0.0, ""
        self.subscribe(qos.GATE_STATE, self._on_gate)
        self.subscribe(qos.JOY, self._on_joy)
        self.every(qos.TELEOP_PERIOD, self._tick)

    def deactivate(self) -> None:
        """Whoever drives lets go."""
        self._release()

    def report(self) -> dict[str, object]:
        """Values for /diagnostics."""
        made = self._mapping
        kind = f"joint {self._spec.joints[made.joint]}" if made.joint_jog else "tool"
        frame = self._spec.tool_link if made.in_tool_frame else self._spec.base_frame
        return {
            "jogs": kind,
            "frame": frame,
            "speed": f"{SHARES[made.share]:.0%}",
            "heard": self._command is not None,
        }

    def warning(self) -> str:
        """What is wrong at the moment."""
        return self._fault

    def _on_gate(self, message: GateState) -> None:
        self._gate = message

    def _on_joy(self, message: Joy) -> None:
        try:
            self._check_time(message)
            reading = self._mapping.read(message.axes, message.buttons)
        except ValueError as error:
            self._fault = f"{qos.JOY.name}: {error}"
            self._release()
            if self._mapping.estop(message.buttons):
                self._estop_until = time.monotonic() + ESTOP_REPEAT
                stop = TeleopCommand(estop=True)
                stop.header.stamp, stop.header.frame_id = convert.to_time(self.now()), self._spec.base_frame
                self._out.publish(stop)
            return
        self._heard, self._fault = time.monotonic(), ""
        if self._command is None:
            self._back = self._heard
        if self._heard - self._back < SETTLE:
            self._mapping.forget()
        self._command = convert.to_teleop(reading, self._spec, self.now())
        if reading.estop:
            self._estop_until = self._heard + ESTOP_REPEAT
        self._command.estop = self._heard < self._estop_until
        self._out.publish(self._command)
        if reading.engage and self._gate is not None and self._engage.service_is_ready():
            self._engage.call_async(GateCommand.Request(epoch=self._gate.epoch)).add_done_callback(self._on_engaged)

    def _check_time(self, message: Joy) -> None:
        """ValueError: stamped at another time than now. Without a stamp it counts as of now."""
        stamp, limit = convert.to_ns(message.header.stamp), self.parameters["joy_timeout"]
        apart = (stamp - self.now()) / 1e9
        if stamp and abs(apart) > limit:
            raise ValueError(f"stamped {apart:+.1f} s from now, at most {limit:g}: a recording, late, or clocks apart")

    def _on_engaged(self, future: object) -> None:
        answer = future.result()  # type: ignore[attr-defined]
        if answer is not None and not answer.success:
            self.get_logger().warning(f"not engaged: {answer.message}")

    def _tick(self) -> None:
        """Say again what the stick said last: drivers of gamepads may be slower than the gate's patience."""
        if self._command is None:
            return
        if time.monotonic() - self._heard > self.parameters["joy_timeout"]:
            self._fault = f"{qos.JOY.name} is silent"
            self._release()
            return
        self._command.header.stamp = convert.to_time(self.now())
        self._out.publish(self._command)

    def _release(self) -> None:
        self._mapping.forget()
        if self._command is not None:
            self._command = None
            message = TeleopCommand()
            message.header.stamp, message.header.frame_id = convert.to_time(self.now()), self._spec.base_frame
            self._out.publish(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return run(lambda: TeleopNode("teleop"), argv)
