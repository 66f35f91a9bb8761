"""Takeover: from the motion of a stick to the person's command at the controller, and the step when autonomy returns.

A gamepad's messages on /joy at random times while the policy moves the arm. After half a second the deadman is let go;
once the arm stands, the pad's start button hands back.
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

DEADMAN, START = 10, 6
RATE = 50.0  # Hz, as node joy


class Pad:
    """A gamepad in a person's hands: repeats what is held."""

    def __init__(self, stack: Stack) -> None:
        from sensor_msgs.msg import Joy

        from vla_mbpo.nodes import qos

        self._message = Joy(axes=[0.0] * 6, buttons=[0] * 15)
        node = stack.client.node
        self._out = node.create_publisher(qos.JOY.type, qos.JOY.name, qos.JOY.qos)
        node.create_timer(1 / RATE, self._send)

    def _send(self) -> None:
        self._out.publish(self._message)

    def hold(self, axes: dict[int, float], *buttons: int) -> float:
        """Push these axes and buttons and no others. Returns the time of it [s]."""
        self._message.axes = [axes.get(i, 0.0) for i in range(6)]
        self._message.buttons = [int(i in buttons) for i in range(15)]
        now = time.time()
        self._send()
        return now


class Person:
    """Takes over and hands back."""

    def __init__(self, live: Live, spec: RobotSpec) -> None:
        from vla_mbpo.nodes import qos

        self.live, self.client, self.spec = live, live.stack.client, spec
        self.pad = Pad(live.stack)
        self.approved: set[int] = set()
        topic = qos.APPROVED_CHUNK
        self.client.node.create_subscription(topic.type, topic.name, self._on_approved, topic.qos)

    def _on_approved(self, message: object) -> None:
        if message.approved_by == "teleop":  # type: ignore[attr-defined]
            self.approved.add(message.chunk_set_id)  # type: ignore[attr-defined]

    def take_over(self, axes: dict[int, float]) -> float:
        """Stick and deadman at once. Returns seconds to the first trajectory made of the person's rows.

        Infinite when the checks refuse the command for two seconds, as near a limit.
        """
        self.approved.clear()
        seen = len(self.live.commitments)
        begin = self.pad.hold(axes, DEADMAN)
        found: list[float] = []

        def mine() -> bool:
            for message in self.live.commitments[seen:]:
                if message.chunk_set_id in self.approved:
                    found.append(message.header.stamp.sec + message.header.stamp.nanosec / 1e9)
            return bool(found) or time.time() - begin > 2.0

        self.live.stack.wait(mine, 5.0, "takeover")
        return found[0] - begin if found else float("inf")

    def hand_back(self) -> float:
        """Returns the largest velocity step per tick of the first second, as a share of the acceleration limit."""
        self.pad.hold({})
        self.client.spin(0.6)
        gate = self.client.gate
        assert gate.mode == gate.HOLD and gate.intervention, (gate.mode, gate.reason)
        self.live.forget()
        self.pad.hold({}, START)
        self.live.stack.wait(lambda: self.client.gate.mode == gate.AUTONOMOUS, 5.0, "hand-back")
        self.pad.hold({})
        self.live.stack.wait(lambda: self.live.commanded[-1][1] > 0.05 or not self.live.running, 20.0, "motion")
        self.client.spin(1.0)
        return self._worst_step()

    def _worst_step(self) -> float:
        messages = [m for m in self.live.commitments if len(m.commanded_velocities)]
        if len(messages) < 2:
            return 0.0
        times = np.array([m.header.stamp.sec + m.header.stamp.nanosec / 1e9 for m in messages])
        velocities = np.array([m.commanded_velocities for m in messages])
        steps = np.abs(np.diff(velocities, axis=0)) / np.diff(times)[:, None] / self.spec.acceleration
        return float(steps.max())


def main() -> None:
    """Measure and write."""
    cli = parser(__doc__ or "")
    cli.add_argument("--takeovers", type=int, default=100)
    args = cli.parse_args()
    spec = RobotSpec.load(robot_dir("sim_panda"))
    draw = random.Random(0)
    waits, steps, speeds, stops, refused = [], [], [], 0, 0
    with running_stack("sim_panda", Options(page=False, joy=False)) as stack:
        live = Live(stack)
        person = Person(live, spec)
        while len(waits) < args.takeovers:
            live.forget()
            live.move()
            stack.client.spin(draw.uniform(0.02, 0.4))
            if not live.running:
                continue
            speeds.append(live.commanded[-1][1])
            axis = draw.choice([0, 1, 2, 3])
            took = person.take_over({axis: draw.choice([-1.0, 1.0])})
            if took < float("inf"):
                waits.append(1e3 * took)
            else:
                refused += 1
            stack.client.spin(0.5)
            stops += live.commanded[-1][1] < 0.01
            if live.running:
                steps.append(person.hand_back())
            else:
                person.pad.hold({})
                stack.client.spin(0.6)
    metrics = {
        "takeovers": len(waits),
        "stick_refused_by_the_checks": refused,
        "stick_to_controller_ms": percentiles(waits),
        "speed_at_takeover_rad_s": percentiles(speeds),
        "standing_after_half_a_second": stops,
        "hand_backs": len(steps),
        "hand_back_worst_share_of_acceleration_limit": round(max(steps, default=0.0), 4),
        "hand_back_share": percentiles(steps),
    }
    write("takeover", metrics, args.json)


if __name__ == "__main__":
    main()
