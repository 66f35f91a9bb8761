"""Node `joy`: a gamepad on /joy, for machines without ROS's game_controller_node."""

from array import array
from collections.abc import Sequence

from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import Joy

from vla_mbpo.core.errors import require
from vla_mbpo.nodes import convert, qos
from vla_mbpo.nodes.base import ManagedNode
from vla_mbpo.nodes.parameters import Param
from vla_mbpo.nodes.process import run
from vla_mbpo.teleop.gamepad import Gamepad, GamepadState

SILENCE = 0.3  # s after a gamepad has appeared: another one, whose deadman is held, is not taken for the one before


class JoyNode(ManagedNode):
    """Publishes every change and repeats the state in between; silent while no gamepad is connected."""

    PARAMETERS = (
        Param("deadzone", 0.05, "part of an axis's range around 0 that counts as 0", 0.0, 0.9),
        Param("rate", 100.0, "readings of the gamepad per s", 10.0, 1000.0),
        Param("autorepeat", 50.0, "messages per s, at least, while nothing changes", 1.0, 1000.0),
    )

    def configure(self) -> None:
        """Check the rates against each other."""
        rate, autorepeat = self.parameters["rate"], self.parameters["autorepeat"]
        valid = f"expected at most the rate, {rate}"
        require(autorepeat <= rate, f"{self.get_name()}.autorepeat", autorepeat, valid)
        self._repeat = int(rate / autorepeat + 1e-9)  # readings from one message to the next
        self._silence = int(SILENCE * rate)  # readings
        self._gamepad = Gamepad(self.parameters["deadzone"])
        self._joy = self.publisher(qos.JOY)

    def activate(self) -> None:
        """Start SDL and read."""
        self._gamepad.open()
        self._name, self._since, self._new = "", 0, 0
        self._last: GamepadState | None = None
        # Not `every`: a hand moves in real time, whatever /clock does.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = self.create_timer(1.0 / self.parameters["rate"], self._read, clock=steady)

    def deactivate(self) -> None:
        """Stop reading."""
        self.destroy_timer(self._timer)
        self._gamepad.close()

    def report(self) -> dict[str, object]:
        """Values for /diagnostics."""
        return {"gamepad": self._gamepad.name, "connected": bool(self._gamepad.name)}

    def warning(self) -> str:
        """What is wrong at the moment."""
        return "" if self._gamepad.name else "no gamepad"

    def _read(self) -> None:
        state = self._gamepad.poll()
        if self._gamepad.name != self._name:
            self.get_logger().info(f"gamepad: {self._gamepad.name or 'none'}")
            self._name = self._gamepad.name
        self._since += 1
        self._new = 0 if state is None else self._new + 1
        if state is not None and self._new > self._silence and (state != self._last or self._since >= self._repeat):
            self._publish(state)
            self._since = 0
        self._last = state

    def _publish(self, state: GamepadState) -> None:
        message = Joy(axes=convert.to_floats(state.axes), buttons=array("i", state.buttons))
        message.header.stamp = convert.to_time(self.now())
        message.header.frame_id = "joy"
        self._joy.publish(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return run(lambda: JoyNode("joy"), argv)
