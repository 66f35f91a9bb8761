"""The camera node with a RealSense that is unplugged and comes back: frames, stamps, and when its absence is noticed.

The camera is librealsense's software device, 640x480 at 30 Hz, with delays of 6 ms and more; the node is a process with
it, and a subscriber in this process counts. Every picture carries its number, so that a picture can be told from a
repetition, and its stamp from the time at which it was exposed.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import parser, write
from benchmarks.software_camera import SERIAL, number_of
from vla_mbpo.core.observation import FreshnessLimits, Observation, StaleInput
from vla_mbpo.eval.report import percentiles
from vla_mbpo.paths import ros_environment

LIMITS = FreshnessLimits()
STILL = (np.zeros(7), np.zeros(7), 0.0)


class Camera:
    """The node's process, and the cable."""

    def __init__(self, folder: Path, clock: str, parameters: dict[str, Any]) -> None:
        self._log = folder / "frames.json"
        command = [sys.executable, "-m", "benchmarks.software_camera", str(self._log), f"--clock={clock}", "--ros-args"]
        for name, value in {"source": "realsense", "realsense.serial": f"'{SERIAL}'", **parameters}.items():
            command += ["-p", f"{name}:={value}"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        self._answers: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def order(self, word: str) -> int:
        """Have it done. Returns when it was [ns]."""
        assert self.process.stdin is not None
        count = len(self._answers)
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        until = time.monotonic() + 5.0
        while len(self._answers) == count:
            if time.monotonic() > until:
                raise RuntimeError(f"no answer to {word}")
            time.sleep(0.001)
        return int(self._answers[-1].split()[2])

    def frames(self) -> list[list[tuple[int, int, bool]]]:
        """Of each plug, what the camera saw: number, exposure [ns], delivered."""
        self.order("log")
        return json.loads(self._log.read_text())

    def close(self) -> int:
        """End it. Returns the exit code."""
        self.process.terminate()
        try:
            return self.process.wait(5.0)
        finally:
            self.process.kill()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("done "):
                self._answers.append(line)


@dataclass
class Heard:
    """What a subscriber hears.

    Attributes:
        images: stamp [ns], arrival [ns], number in the picture.
        infos: stamps of camera_info [ns].
        states: time [ns] and message of the node's diagnostics.
        values: what it last said beside.
        fresh: time [ns], and whether an observation of the last image could be built; whenever that changes.
    """

    images: list[tuple[int, int, int]] = field(default_factory=list)
    infos: list[int] = field(default_factory=list)
    states: list[tuple[int, str]] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)
    fresh: list[tuple[int, bool]] = field(default_factory=list)


class Watch:
    """The subscriber. One thread."""

    def __init__(self) -> None:
        import rclpy
        from lifecycle_msgs.srv import ChangeState
        from rclpy.executors import SingleThreadedExecutor

        from vla_mbpo.nodes import convert, qos
        from vla_mbpo.nodes.process import start_ros

        self._convert, self._change_state = convert, ChangeState
        start_ros(["watch"])
        self.node = rclpy.create_node("watch", use_global_arguments=False)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self.heard = Heard()
        self._last: tuple[int, Any] | None = None
        # A reader with room: what is lost then was lost by the camera node or by the middleware.
        self.node.create_subscription(qos.HEAD_IMAGE.type, qos.HEAD_IMAGE.name, self._on_image, qos.ANYBODY)
        self.node.create_subscription(qos.HEAD_INFO.type, qos.HEAD_INFO.name, self._on_info, qos.ANYBODY)
        diagnostics = qos.DIAGNOSTICS
        self.node.create_subscription(diagnostics.type, diagnostics.name, self._on_state, diagnostics.qos)
        self.node.create_timer(0.005, self._look)
        self._client = self.node.create_client(ChangeState, "/head_camera/change_state")

    def bring_up(self, timeout: float = 30.0) -> None:
        """Configure and activate the camera node. RuntimeError: it would not."""
        from lifecycle_msgs.msg import Transition

        until = time.monotonic() + timeout
        while not self._client.service_is_ready() and time.monotonic() < until:
            self.spin(0.05)
        self.spin(0.5)
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            call = self._client.call_async(self._change_state.Request(transition=Transition(id=transition)))
            while not call.done() and time.monotonic() < until:
                self.spin(0.02)
            if not (call.done() and call.result().success):
                raise RuntimeError(f"the camera node did not come up: {self.heard.states[-1:]}")

    def spin(self, seconds: float) -> None:
        """Listen for so long."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def close(self) -> None:
        """Leave."""
        import rclpy

        self.node.destroy_node()
        self._executor.shutdown(timeout_sec=0.5)
        rclpy.try_shutdown()
        rclpy.utilities.get_default_context().destroy()

    def _on_image(self, message: Any) -> None:
        stamp, image = self._convert.to_ns(message.header.stamp), self._convert.from_image(message)
        self.heard.images.append((stamp, time.time_ns(), number_of(image)))
        self._last = (stamp, image)

    def _on_info(self, message: Any) -> None:
        self.heard.infos.append(self._convert.to_ns(message.header.stamp))

    def _on_state(self, message: Any) -> None:
        for status in message.status:
            if status.name == "head_camera":
                self.heard.states.append((time.time_ns(), status.message))
                self.heard.values = {value.key: value.value for value in status.values}

    def _look(self) -> None:
        """As a node that reads images does, with everything else fresh."""
        if self._last is None:
            return
        now = time.time_ns()
        try:
            Observation.fresh(now, self._last, (self._last[0], self._last[1]), (self._last[0], *STILL), LIMITS)
            fresh = True
        except StaleInput:
            fresh = False
        if not self.heard.fresh or self.heard.fresh[-1][1] != fresh:
            self.heard.fresh.append((now, fresh))


def judge(heard: Heard, frames: list[list[tuple[int, int, bool]]], unplugged: list[int]) -> dict[str, Any]:
    """What came of it. ``frames``: what the camera saw before the end; ``unplugged``: when, [ns]."""
    exposed = {number: at for plug in frames for number, at, _ in plug}
    end = max(exposed.values()) + 17_000_000  # half a period: stamps of a device's clock are a little late
    images = [image for image in heard.images if image[0] < end]
    got = {number: at for _, at, number in images}
    lost = sent = cut = 0
    backs = []
    for count, plug in enumerate(frames):
        numbers = [number for number, _, delivered in plug if delivered]
        known = [i for i, number in enumerate(numbers) if number in got] or [len(numbers)]
        last = len(numbers) if plug is frames[-1] else known[-1] + 1
        sent, cut = sent + len(numbers[known[0] : last]), cut + len(numbers[last:])
        lost += sum(number not in got for number in numbers[known[0] : last])
        if count and known[0] < len(numbers):
            backs.append((got[numbers[known[0]]] - plug[0][1]) / 1e9 + 1 / 30)
    stamps = [stamp for stamp, _, _ in images]
    trips = []
    for at in unplugged:
        last = max((stamp for stamp in stamps if stamp <= at), default=0)
        trip = next((when for when, fresh in heard.fresh if when > last and not fresh), None)
        trips.append(None if trip is None else round((trip - last) / 1e6, 1))
    said = [
        next((when for when, text in heard.states if when > at and "camera lost" in text), None) for at in unplugged
    ]
    error = [(stamp - exposed[number]) / 1e6 for stamp, _, number in images if number in exposed]
    spacing = np.diff(error) if len(error) > 1 else np.zeros(1)
    return {
        "frames_sent": sent,
        "frames_received": len(images),
        "frames_lost": lost,
        "frames_cut_off_by_the_unplug": cut,
        "frames_lost_before_the_node": int(heard.values.get("frames_missed", -1)),
        "frames_repeated": len(images) - len(got),
        "frames_unknown": sum(number not in exposed for _, _, number in images),
        "stamps_not_rising": int((np.diff(stamps) <= 0).sum()),
        "infos_without_image": len(set(heard.infos) - {stamp for stamp, _, _ in heard.images}),
        "stamp_minus_exposure_ms": percentiles(error),
        "stamp_step_error_ms_max": round(float(np.abs(spacing).max()), 3),
        "arrival_minus_exposure_ms": percentiles([(a - exposed[n]) / 1e6 for _, a, n in images if n in exposed]),
        "freshness_limit_ms": LIMITS.max_age / 1e6,
        "freshness_trips_ms_after_last_stamp": trips,
        "diagnostics_say_lost_after_s": [
            None if w is None else round((w - at) / 1e9, 2) for w, at in zip(said, unplugged, strict=True)
        ],
        "first_image_after_plug_s": [round(back, 2) for back in backs],
        "state_at_end": heard.states[-1][1] if heard.states else "",
    }


def measure(clock: str, seconds: float, away: float, unplugs: int, parameters: dict[str, Any]) -> dict[str, Any]:
    """Run for ``seconds`` in all, with ``unplugs`` of ``away`` seconds each and the same time between them."""
    with tempfile.TemporaryDirectory() as folder:
        camera, watch = Camera(Path(folder), clock, parameters), Watch()
        try:
            watch.bring_up()
            unplugged, between = [], (seconds - unplugs * away) / (unplugs + 1)
            for _ in range(unplugs):
                watch.spin(between)
                unplugged.append(camera.order("unplug"))
                watch.spin(away)
                camera.order("plug")
            watch.spin(between)
            frames = camera.frames()
            watch.spin(1.2)  # what is on its way, and the diagnostics of it
        finally:
            watch.close()
            code = camera.close()
    return {**judge(watch.heard, frames, unplugged), "seconds": seconds, "exit_code": code}


def main() -> None:
    """Command line."""
    options = parser(__doc__ or "")
    options.add_argument("--seconds", type=float, default=60.0, help="length of each run (default: %(default)s)")
    options.add_argument("--away", type=float, default=4.0, help="s that the camera is away (default: %(default)s)")
    options.add_argument("--unplugs", type=int, default=2, help="how often (default: %(default)s)")
    options.add_argument(
        "--realtime", action="store_true", help="before all else on this machine (SCHED_RR; needs root)"
    )
    chosen = options.parse_args()
    if chosen.realtime:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(5))
    os.environ.update(ros_environment())
    runs = {clock: measure(clock, chosen.seconds, chosen.away, chosen.unplugs, {}) for clock in ("host", "device")}
    metrics = {f"{clock}_{name}": value for clock, found in runs.items() for name, value in found.items()}
    write("realsense", metrics, chosen.json)


if __name__ == "__main__":
    main()
