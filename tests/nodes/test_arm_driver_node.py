import copy
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Header, String, UInt64
from vla_mbpo_msgs.msg import GateState

from vla_mbpo.core.chunk import JointRows
from vla_mbpo.nodes import convert, qos
from vla_mbpo.nodes.arm_driver import ArmDriverNode
from vla_mbpo.nodes.sim import SimNode

PERIOD = 50_000_000
SPEED = 0.3  # rad/s of the last joint


class Bench:
    """A driver that moves the simulated arm, under a gate played by the test."""

    def __init__(self, graph, spec, output="joint_trajectory"):
        self.graph, self.spec = graph, spec
        # Generous: the machine may be busy.
        slow = {"arm_driver.max_state_age": 0.3, "arm_driver.gate_timeout": 0.3, "arm_driver.output": output}
        self.node = graph.start(lambda: SimNode("sim"), lambda: ArmDriverNode("arm_driver"), parameters=slow)
        graph.activate()
        graph.listen(qos.JOINT_STATES, qos.TRAJECTORY, qos.COMMITMENT)
        self._state, self.approve = graph.talk(qos.GATE_STATE), graph.talk(qos.APPROVED_CHUNK)
        self.mode, self.epoch = GateState.AUTONOMOUS, 1
        self.reader = convert.JointStateReader(spec)
        self._heart = graph.talk(qos.HEARTBEAT)
        self.beat = graph.probe.create_timer(0.02, self.tell)
        self.say()
        graph.until(lambda: bool(graph.heard["/joint_states"]) and self.node.warning() == "")

    def say(self):
        self._state(GateState(mode=self.mode, epoch=self.epoch, reason="test"))

    def tell(self):
        """As the gate does, but the state more often."""
        self._heart(UInt64(data=self.epoch))
        self.say()

    def change(self, mode):
        self.mode, self.epoch = mode, self.epoch + 1
        self.say()

    @property
    def measured(self):
        return self.reader.read(self.graph.heard["/joint_states"][-1])

    @property
    def commitment(self):
        return self.graph.heard["/arm_driver/commitment"][-1]

    def rows(self, epoch=None, committed=0, stamp=None):
        stamp = stamp or time.time_ns() - 20_000_000
        start = self.measured.positions
        positions = np.tile(start, (16, 1))
        positions[:, -1] += SPEED * 0.05 * np.arange(1, 17)
        epoch = self.epoch if epoch is None else epoch
        return JointRows(
            stamp, 0, stamp, stamp + 16 * PERIOD, self.spec.joints, PERIOD, positions, np.full(16, 0.04), committed,
            epoch,
        )  # fmt: skip

    def go(self):
        """Send rows until the arm moves: on a busy machine some come too late."""
        for _ in range(10):
            self.approve(convert.to_approved(self.rows(), time.time_ns(), "base", "gate", ""))
            end = time.monotonic() + 0.5
            while time.monotonic() < end:
                self.graph.spin(0.01)
                if abs(self.measured.velocities[-1]) > 0.5 * SPEED:
                    return
        raise AssertionError("the arm does not move")

    def time_to_rest(self, limit=2.0):
        begin = time.monotonic()
        self.graph.until(lambda: np.abs(self.measured.velocities).max() < 0.02, limit)
        return time.monotonic() - begin


@pytest.fixture
def bench(graph, spec):
    return Bench(graph, spec)


def test_rows_become_a_trajectory_every_tick_and_a_commitment(bench, graph):
    bench.go()
    graph.spin(0.3)
    sent = graph.heard[qos.TRAJECTORY.name]
    ticks = np.diff([convert.to_ns(m.header.stamp) for m in sent])
    assert len(ticks) > 5 and abs(np.median(ticks) / 1e6 - 20.0) < 2.0
    assert bench.commitment.chunk_set_id > 0 and len(bench.commitment.positions) > 7
    graph.until(lambda: bench.commitment.chunk_set_id == 0)  # the rows have run out
    assert bench.time_to_rest() < 1.0
    told = bench.commitment
    assert told.rows_executed + told.rows_dropped_late >= 14 and told.rows_executed_late == 0
    assert abs(bench.measured.gripper - 0.04) < 0.01


def test_rows_of_another_epoch_are_refused(bench, graph):
    bench.change(GateState.AUTONOMOUS)
    graph.spin(0.1)
    rows = convert.to_approved(bench.rows(epoch=bench.epoch - 1), time.time_ns(), "base", "gate", "")
    bench.approve(rows)
    graph.spin(0.2)
    assert bench.node.report()["chunks_refused"] == 1 and bench.commitment.chunk_set_id == 0


def test_malformed_rows_are_refused(bench, graph):
    message = convert.to_approved(bench.rows(), time.time_ns(), "base", "gate", "")
    message.horizon = 15
    bench.approve(message)
    graph.spin(0.2)
    assert bench.node.report()["chunks_refused"] == 1


@pytest.mark.parametrize("mode", [GateState.HOLD, GateState.ESTOP])
def test_any_mode_without_motion_stops_the_arm(bench, mode):
    bench.go()
    bench.change(mode)
    assert bench.time_to_rest() < 0.4
    assert bench.commitment.chunk_set_id == 0


def test_a_new_epoch_drops_what_was_committed(bench, graph):
    bench.go()
    bench.change(GateState.AUTONOMOUS)
    assert bench.time_to_rest() < 0.4
    bench.go()  # a new observation under the new epoch is taken


def test_the_estop_topic_stops_without_the_gate_and_stays(bench, graph):
    estop = graph.talk(qos.ESTOP)
    bench.go()
    estop(Bool(data=True))
    assert bench.time_to_rest() < 0.4
    estop(Bool(data=False))
    graph.spin(0.2)
    bench.approve(convert.to_approved(bench.rows(), time.time_ns(), "base", "gate", ""))
    graph.spin(0.3)
    assert np.abs(bench.measured.velocities).max() < 0.02  # still the epoch in which it was stopped
    bench.change(GateState.AUTONOMOUS)
    graph.spin(0.1)
    bench.go()


def test_silence_of_the_gate_stops_the_arm(bench, graph):
    bench.go()
    graph.probe.destroy_timer(bench.beat)
    assert bench.time_to_rest() < 0.8
    graph.until(lambda: bench.node.warning() == "the gate is silent", 1.0)
    assert bench.node.report()["stop_reason"] == "gate silent"


def test_another_instruction_stops_the_arm(bench, graph):
    instruct = graph.talk(qos.INSTRUCTION)
    instruct(String(data="press the button"))
    graph.spin(0.1)
    bench.go()
    instruct(String(data=""))
    assert bench.time_to_rest() < 0.4


def test_a_clock_that_is_set_forward_stops_the_arm(bench, graph, monkeypatch):
    """The plan was taken for executed, and the arm was sent where it would have been by then, faster than it may go."""
    bench.go()
    monkeypatch.setattr(bench.node, "now", lambda: time.time_ns() + 400_000_000)
    graph.until(lambda: bench.node.report()["stop_reason"] == "clock went forward", 1.0)


def test_silence_of_the_joint_states_stops_the_arm(bench, graph):
    bench.go()
    sim = graph.nodes[0]
    sim.deactivate()
    graph.until(lambda: bench.commitment.chunk_set_id == 0, 1.0)
    assert "measured state" in bench.node.report()["stop_reason"]
    sim._running.set()
    sim._thread = threading.Thread(target=sim._loop, daemon=True)
    sim._thread.start()


def test_joint_states_of_other_joints_or_of_a_recording_do_not_take_the_arms_place(bench, graph):
    """Incident (review): the driver kept whatever came last, and with it between the ticks there was no state."""
    graph.until(lambda: bench.node._joints is not None)
    arm = bench.node._joints
    other = JointState(name=["another_joint"], position=[0.0], velocity=[0.0])
    other.header.stamp = convert.to_time(time.time_ns())
    recorded = copy.copy(arm)
    recorded.header = Header(stamp=convert.to_time(convert.to_ns(arm.header.stamp) - 10**9))
    for message in (other, recorded):
        bench.node._on_joints(message)
        assert bench.node._joints is arm


@pytest.mark.parametrize("kind", [qos.LATEST, qos.SENSOR], ids=["reliable", "best effort"])
def test_another_publisher_on_the_controllers_topic_stops_the_arm(bench, graph, kind):
    """Incident: what was sent with best effort reached the controller, and nobody but it."""
    other = graph.talk(replace(qos.TRAJECTORY, qos=kind))
    bench.go()
    wrong = convert.to_trajectory(bench.node._driver._plan.trajectory(bench.spec.joints, 3))
    wrong.header.stamp.nanosec ^= 1
    other(wrong)
    bench.time_to_rest()
    assert "another publisher" in bench.node.report()["stop_reason"]
    assert "somebody else" in bench.node.warning()
    refused = bench.node.report()["chunks_refused"]
    bench.approve(convert.to_approved(bench.rows(), time.time_ns(), "base", "gate", ""))
    graph.until(lambda: bench.node.report()["chunks_refused"] > refused)
    graph.until(lambda: bench.node.warning() == "")
    bench.go()  # alone again


def test_the_drivers_own_trajectories_are_not_anothers(bench, graph):
    bench.go()
    graph.spin(0.5)
    assert bench.node.warning() == "" and bench.node.report()["stops"] == 0
