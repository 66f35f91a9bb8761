"""E-stop: from the press to the stop command at the controller, to zero commanded velocity, to a measured standstill.

Presses on the topic at random times while the policy moves the arm. The braking time is what the joints' deceleration
limits imply for the velocities commanded at the press.
"""

import random
import time

import numpy as np

from benchmarks.common import parser, write
from benchmarks.live import Live
from vla_mbpo.bringup import Options
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.eval.realtime import Stack, running_stack
from vla_mbpo.eval.report import percentiles
from vla_mbpo.paths import robot_dir


class Presser:
    """The button, and the reset after it."""

    def __init__(self, stack: Stack) -> None:
        from std_msgs.msg import Bool
        from vla_mbpo_msgs.srv import GateCommand

        from vla_mbpo.nodes import convert, qos

        self._stack, self._bool, self._request = stack, Bool, GateCommand.Request
        node = stack.client.node
        self._out = node.create_publisher(qos.ESTOP.type, qos.ESTOP.name, qos.ESTOP.qos)
        self._reset = node.create_client(GateCommand, qos.RESET_GATE)
        self.brakes: list[tuple[float, float, float]] = []  # stamp of the trajectory, its first and last due times [s]

        def note(message: object) -> None:
            points = message.points  # type: ignore[attr-defined]
            start = convert.to_ns(message.header.stamp) / 1e9  # type: ignore[attr-defined]
            moving = [p for p in points if np.abs(p.velocities).max() > 1e-3]
            self.brakes.append((time.time(), start, convert.to_ns(moving[-1].time_from_start) / 1e9 if moving else 0.0))

        node.create_subscription(qos.TRAJECTORY.type, qos.TRAJECTORY.name, note, qos.TRAJECTORY.qos)

    def press(self) -> float:
        """Returns the time of the press [s]."""
        now = time.time()
        self._out.publish(self._bool(data=True))
        return now

    def release(self) -> None:
        """Let go, and reset the latch after its cool-down."""
        client = self._stack.client
        self._out.publish(self._bool(data=False))
        call: list = []

        def done() -> bool:
            if client.gate.mode != client.gate.ESTOP:
                return True
            if not call or call[-1].done():
                call[:] = [self._reset.call_async(self._request(epoch=client.gate.epoch))]
            return False

        self._stack.wait(done, 10.0, "reset")


def main() -> None:
    """Measure and write."""
    cli = parser(__doc__ or "")
    cli.add_argument("--presses", type=int, default=200)
    args = cli.parse_args()
    spec = RobotSpec.load(robot_dir("sim_panda"))
    heard, zero, rest, over, implied, speeds = [], [], [], [], [], []
    draw = random.Random(0)
    with running_stack("sim_panda", Options(page=False, joy=False)) as stack:
        live, button = Live(stack), Presser(stack)
        while len(zero) < args.presses:
            live.forget()
            live.move()
            stack.client.spin(draw.uniform(0.02, 0.4))
            velocity = np.abs(live.commitments[-1].commanded_velocities)
            if velocity.max() < 0.05:
                continue
            button.brakes.clear()
            pressed = button.press()
            by_command, by_measurement = live.to_rest(pressed, 0.8)
            brake = float((velocity / spec.acceleration).max())
            stops = [b for b in button.brakes if b[1] >= live.dropped(pressed)]
            heard.append(1e3 * (stops[0][0] - pressed) if stops else float("nan"))
            zero.append(1e3 * by_command)
            rest.append(1e3 * by_measurement)
            implied.append(1e3 * brake)
            over.append(1e3 * (by_measurement - brake))
            speeds.append(float(velocity.max()))
            button.release()
    metrics = {
        "presses": len(zero),
        "stop_at_controller_ms": percentiles(heard),
        "zero_commanded_velocity_ms": percentiles(zero),
        "measured_rest_ms": percentiles(rest),
        "braking_time_by_limits_ms": percentiles(implied),
        "measured_rest_beyond_braking_time_ms": percentiles(over),
        "speed_at_press_rad_s": percentiles(speeds),
        "samples": {"zero": np.round(zero, 1).tolist(), "implied": np.round(implied, 1).tolist()},
    }
    write("estop", metrics, args.json)


if __name__ == "__main__":
    main()
