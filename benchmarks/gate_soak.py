"""The gate in its own process: chunks of 50 rows at 30 Hz, idle and beside a CPU hog and a policy that infers.

Per phase: time in the checks (from the gate's decisions), time from publishing a chunk to its decision, and chunks that
were lost, reordered or stopped without need. Chunks are swings from home among obstacles; a gate has accepted them
before.
"""

import multiprocessing
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml

from benchmarks.common import parser, write
from benchmarks.gate_motions import make_chunk, obstructed, speeds, swings
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.state import RobotState
from vla_mbpo.eval.realtime import free_domain
from vla_mbpo.eval.report import percentiles
from vla_mbpo.gate.config import GateConfig
from vla_mbpo.gate.gate import Gate
from vla_mbpo.paths import bundle_dir, robot_dir, ros_environment

ROWS, RATE = 50, 30.0
SAY = "put the red cube in the bin"


def long_robot(folder: Path) -> Path:
    """The simulated arm with a horizon of 50 rows, among obstacles."""
    source, robot = robot_dir("sim_panda"), folder / "long"
    robot.mkdir()
    text = yaml.safe_load((source / "robot.yaml").read_text()) | {"horizon": ROWS, "urdf": str(source / "robot.urdf")}
    around = obstructed(RobotSpec.load(source)).obstacles
    text["obstacles"]["boxes"] = {o.name: {"lower": o.lower.tolist(), "upper": o.upper.tolist()} for o in around}
    (robot / "robot.yaml").write_text(yaml.safe_dump(text))
    return robot


def hog() -> None:
    """Keeps one core busy."""
    while True:
        pass


def infer() -> None:
    """A policy at work: inference after inference of the shipped bundle, 2.5 a second, as in the stack."""
    from vla_mbpo.core.observation import Observation
    from vla_mbpo.policy.runtime import PolicySession

    os.nice(5)
    session, rng = PolicySession.load(bundle_dir("sft_full")), np.random.default_rng(0)
    picture = rng.integers(0, 255, (session.image_size, session.image_size, 3), dtype=np.uint8)
    seen = Observation(0, picture, picture, np.zeros(7), np.zeros(7), 0.08)
    while True:
        begin = time.monotonic()
        session.infer(seen, SAY, np.zeros((0, 7)), np.zeros(0), 8, rng)
        time.sleep(max(0.0, 0.4 - (time.monotonic() - begin)))


class Feeder:
    """What the gate hears: joint states, commitments, chunks; and what it decides."""

    def __init__(self, spec: RobotSpec) -> None:
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.node import Node
        from std_msgs.msg import String

        from vla_mbpo.nodes import convert, qos
        from vla_mbpo.nodes.process import start_ros

        start_ros([])
        self.spec, self._convert = spec, convert
        self._swings = swings(spec, Gate(spec, GateConfig()), np.random.default_rng(0), 64)
        self.node = Node("feeder")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        made = [self.node.create_publisher(t.type, t.name, t.qos) for t in (qos.JOINT_STATES, qos.COMMITMENT)]
        self._joints, self._commit = made
        topic = qos.ACTION_CHUNKS
        self._chunks = self.node.create_publisher(topic.type, topic.name, topic.qos)
        self._instruct = self.node.create_publisher(qos.INSTRUCTION.type, qos.INSTRUCTION.name, qos.INSTRUCTION.qos)
        self._instruct.publish(String(data=SAY))
        self._writer = convert.JointStateWriter(spec)
        self.decisions: list[tuple[int, bool, float, float]] = []  # id, accepted, checks [ms], round trip [ms]
        self.gate: Any = None
        decision, state = qos.GATE_DECISION, qos.GATE_STATE
        self.node.create_subscription(decision.type, decision.name, self._on_decision, decision.qos)
        self.node.create_subscription(state.type, state.name, lambda m: setattr(self, "gate", m), state.qos)
        self.node.create_timer(0.01, self._feed)

    def _feed(self) -> None:
        from vla_mbpo.arm.commitment import Commitment

        now, n, still = time.time_ns(), len(self.spec.joints), np.zeros(len(self.spec.joints))
        self._joints.publish(self._writer.write(RobotState(now, self.spec.home, still, 0.08)))
        none = np.zeros((0, n))
        holding = Commitment(
            now, self.spec.joints, 0, 0, self.spec.row_period, none, np.zeros(0), self.spec.home, still
        )  # fmt: skip
        self._commit.publish(self._convert.to_commitment(holding, "base"))

    def _on_decision(self, message: Any) -> None:
        took = self._convert.to_ns(message.latency) / 1e6
        trip = (time.time_ns() - message.chunk_set_id) / 1e6
        self.decisions.append((message.chunk_set_id, message.accepted, took, trip))

    def spin(self, seconds: float) -> None:
        """Handle messages for so long."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=min(left, 0.005))

    def phase(self, chunks: int) -> dict[str, Any]:
        """Send so many good chunks and count what becomes of them."""
        period = self.spec.row_period
        self.decisions.clear()
        sent, begin = [], time.monotonic()
        for k in range(chunks):
            self.spin(begin + k / RATE - time.monotonic())
            now = time.time_ns()
            chunk = make_chunk(self.spec, self._swings[k % len(self._swings)], self.spec.home, now)
            chunk = replace(chunk, chunk_set_id=now, expiry=now + ROWS * period)
            message = self._convert.to_chunk_set([chunk], now, self.spec.base_frame)
            message.instruction = SAY
            self._chunks.publish(message)
            sent.append(now)
        self.spin(1.0)
        ids = [decision[0] for decision in self.decisions]
        return {
            "chunks": chunks,
            "checks_ms": percentiles([d[2] for d in self.decisions]),
            "publish_to_decision_ms": percentiles([d[3] for d in self.decisions]),
            "lost": len(set(sent) - set(ids)),
            "reordered": sum(b < a for a, b in zip(ids, ids[1:], strict=False)),
            "false_stops": sum(not d[1] for d in self.decisions),
        }


def start_gate(robot: Path) -> subprocess.Popen:
    """The gate's process."""
    words = ["-p", f"robot:={robot}", "-p", "start_engaged:=true", "-p", "checks.max_state_age:=0.2"]
    for name in ("imagination", "failure_detector"):
        words += ["-p", f'vetting.{name}:="off"']
    return subprocess.Popen(
        [sys.executable, "-m", "vla_mbpo.nodes", "gate", "--ros-args", *words], env=ros_environment()
    )


def bring_up(feeder: Feeder) -> None:
    """Configure, activate, and wait until it is engaged."""
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState

    client = feeder.node.create_client(ChangeState, "/gate/change_state")
    while not client.service_is_ready():
        feeder.spin(0.1)
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        call = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
        while not call.done():
            feeder.spin(0.05)
    while feeder.gate is None or feeder.gate.mode != feeder.gate.AUTONOMOUS:
        feeder.spin(0.1)


def main() -> None:
    """Measure and write."""
    cli = parser(__doc__ or "")
    cli.add_argument("--chunks", type=int, default=500)
    args = cli.parse_args()
    with ExitStack() as stack:
        lock = free_domain()
        os.environ.update(ros_environment())
        robot = long_robot(Path(stack.enter_context(TemporaryDirectory())))
        gate = start_gate(robot)
        stack.callback(gate.terminate)
        feeder = Feeder(RobotSpec.load(robot))
        bring_up(feeder)
        feeder.phase(60)  # warm
        metrics = {"rows": ROWS, "joints": len(feeder.spec.joints), **speeds(feeder.spec, feeder._swings)}
        metrics["idle"] = feeder.phase(args.chunks)
        context = multiprocessing.get_context("spawn")
        for work in (hog, infer):
            process = context.Process(target=work, daemon=True)
            process.start()
            stack.callback(process.kill)
        feeder.spin(8.0)
        metrics["soak"] = feeder.phase(args.chunks)
        if lock is not None:
            lock.close()
    write("gate_soak", metrics, args.json)


if __name__ == "__main__":
    main()
