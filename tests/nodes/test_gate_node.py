import copy
import time
from dataclasses import replace

import numpy as np
import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, String, UInt64
from std_srvs.srv import Trigger
from vla_mbpo_msgs.msg import ActionChunkSet, GateState
from vla_mbpo_msgs.srv import GateCommand

from vla_mbpo.arm.commitment import Commitment
from vla_mbpo.core.chunk import ActionChunk, ActionType
from vla_mbpo.core.errors import ConfigError
from vla_mbpo.core.state import RobotState
from vla_mbpo.nodes import convert, qos
from vla_mbpo.nodes.gate import GateNode

OFF = {"gate.vetting.imagination": "off", "gate.vetting.failure_detector": "off"}
PERIOD = 50_000_000
SAY = "press the button"


class Bench:
    """A gate with live inputs."""

    def __init__(self, graph, spec, **parameters):
        self.graph, self.spec = graph, spec
        # Generous: the machine may be busy.
        slow = {"gate.checks.max_state_age": 1.0, "gate.checks.max_chunk_age": 1.0}
        values = {**OFF, **slow, **{f"gate.{key}": value for key, value in parameters.items()}}
        self.node = graph.start(lambda: GateNode("gate"), parameters=values)
        graph.activate()
        graph.listen(qos.GATE_STATE, qos.GATE_DECISION, qos.APPROVED_CHUNK)
        self.writer = convert.JointStateWriter(spec)
        self.joints, self.commitment = graph.talk(qos.JOINT_STATES), graph.talk(qos.COMMITMENT)
        self.chunks, self.instruct = graph.talk(qos.ACTION_CHUNKS), graph.talk(qos.INSTRUCTION)
        self.instruct(String(data=SAY))
        graph.until(lambda: self.node._instruction == SAY)
        self.feeding = graph.probe.create_timer(0.01, self.feed)
        self.feed()

    def feed(self):
        n, now = len(self.spec.joints), time.time_ns()
        self.joints(self.sense())
        none = np.zeros((0, n))
        holding = Commitment(
            now, self.spec.joints, 0, 0, PERIOD, none, np.zeros(0), self.spec.home, np.zeros(n), 0, 0, 0
        )
        self.commitment(convert.to_commitment(holding, "base"))

    def sense(self):
        """Joint states of this moment."""
        return self.writer.write(RobotState(time.time_ns(), self.spec.home, np.zeros(len(self.spec.joints)), 0.08))

    @property
    def state(self):
        return self.graph.heard["/gate/state"][-1]

    @property
    def decisions(self):
        return self.graph.heard["/gate/decision"]

    @property
    def approved(self):
        return self.graph.heard["/gate/approved_chunk"]

    def until_mode(self, mode):
        self.graph.until(lambda: bool(self.graph.heard["/gate/state"]) and self.state.mode == mode)

    def send(self, *speeds, instruction=SAY, age=0.05, frame=None):
        """A set with one candidate per speed [rad/s] of the last joint."""
        stamp = time.time_ns() - round(age * 1e9)
        message = ActionChunkSet(chunk_set_id=stamp, instruction=instruction)
        message.observation_stamp = convert.to_time(stamp)
        chunks = []
        for i, speed in enumerate(speeds):
            rows = np.tile(self.spec.home, (16, 1))
            rows[:, -1] += speed * 0.05 * np.arange(1, 17)
            chunk = ActionChunk(
                stamp, i, stamp, stamp + 16 * PERIOD, ActionType.JOINT_POSITION, self.spec.joints, self.spec.home,
                PERIOD, rows, np.full(16, 0.08),
            )  # fmt: skip
            chunks.append(convert.to_chunk(chunk, stamp, frame or self.spec.base_frame))
        message.chunks = chunks
        before = len(self.decisions)
        self.chunks(message)
        self.graph.until(lambda: len(self.decisions) > before)
        self.graph.spin(0.05)
        return self.decisions[before:]

    def command(self, name, epoch=None):
        request = GateCommand.Request(epoch=self.state.epoch if epoch is None else epoch)
        return self.graph.call(GateCommand, name, request)

    def engage(self):
        """As an operator does it: again, if a pause of a busy machine was in the way."""
        self.graph.until(lambda: self.command("/gate/engage").success)


@pytest.mark.parametrize("missing", list(OFF))
def test_vetting_must_be_stated(graph, missing):
    stated = {key: value for key, value in OFF.items() if key != missing}
    with pytest.raises(ConfigError, match=f"{missing}: '' is not valid; choose one of: off"):
        graph.start(lambda: GateNode("gate"), parameters=stated)


def test_a_wrong_limit_is_refused(graph):
    with pytest.raises(ConfigError, match="gate.checks.max_chunk_age: 50.0 is not valid"):
        graph.start(lambda: GateNode("gate"), parameters={**OFF, "gate.checks.max_chunk_age": 50.0})


def test_the_first_candidate_that_passes_is_approved_and_every_decision_published(graph, spec):
    bench = Bench(graph, spec, start_engaged=True)
    bench.until_mode(GateState.AUTONOMOUS)
    assert list(bench.state.vetting_off) == ["imagination", "failure_detector"]
    decisions = bench.send(-3.0, 0.2, 0.1)
    assert [(d.candidate, d.accepted) for d in decisions] == [(0, False), (1, True)]
    assert decisions[0].reasons[0].check == "joint_velocity"
    assert convert.to_ns(decisions[0].latency) > 0
    (approved,) = bench.approved
    assert (approved.candidate, approved.epoch, approved.approved_by) == (1, bench.state.epoch, "gate")
    np.testing.assert_allclose(np.diff(convert.from_doubles(approved.positions, 7)[:, -1]), 0.01, atol=1e-9)


def test_a_set_without_a_good_candidate_moves_nothing(graph, spec):
    bench = Bench(graph, spec, start_engaged=True)
    bench.until_mode(GateState.AUTONOMOUS)
    for _ in range(3):
        assert not any(d.accepted for d in bench.send(9.0, -9.0))
    assert not bench.approved and "3 chunk sets rejected" in bench.node.warning()
    assert bench.state.mode == GateState.AUTONOMOUS
    assert bench.send(0.1)[0].accepted and bench.node.warning() == ""


@pytest.mark.parametrize(
    ("send", "check"),
    [
        ({"age": 1.5}, "age"),
        ({"age": -0.5}, "age"),
        ({"instruction": "do something"}, "instruction"),
        ({"frame": "panda_hand"}, "message"),  # incident: nobody looked at it, and rows count from the base
    ],
)
def test_old_future_and_foreign_sets_are_rejected(graph, spec, send, check):
    bench = Bench(graph, spec, start_engaged=True)
    bench.until_mode(GateState.AUTONOMOUS)
    decisions = bench.send(0.1, **send)
    assert [d.accepted for d in decisions] == [False] and decisions[0].reasons[0].check == check
    assert not bench.approved


def test_the_current_instruction_passes(graph, spec):
    bench = Bench(graph, spec, start_engaged=True)
    bench.until_mode(GateState.AUTONOMOUS)
    assert bench.send(0.1, instruction=SAY)[0].accepted
    assert not bench.send(0.1, instruction="open the drawer")[0].accepted


def test_between_attempts_nothing_moves_the_arm(graph, spec):
    """The empty instruction was one like any other, so a policy that names none drove without a task."""
    bench = Bench(graph, spec, start_engaged=True)
    bench.until_mode(GateState.AUTONOMOUS)
    bench.instruct(String(data=""))
    graph.until(lambda: bench.node._instruction == "")
    (decision,) = bench.send(0.1, instruction="")
    assert not decision.accepted and decision.reasons[0].check == "instruction" and not bench.approved


def test_engage_needs_the_present_epoch(graph, spec):
    bench = Bench(graph, spec)
    bench.until_mode(GateState.HOLD)
    assert bench.send(0.1)[0].reasons[0].check == "mode"
    stale = bench.command("/gate/engage", bench.state.epoch + 1)
    assert not stale.success and "stale epoch" in stale.message
    bench.engage()
    bench.until_mode(GateState.AUTONOMOUS)
    assert bench.send(0.1)[0].accepted


def test_the_estop_latches_and_is_reset_by_hand(graph, spec):
    bench = Bench(graph, spec, start_engaged=True)
    bench.until_mode(GateState.AUTONOMOUS)
    estop = graph.talk(qos.ESTOP)
    estop(Bool(data=True))
    bench.until_mode(GateState.ESTOP)
    assert bench.send(0.1)[0].reasons[0].check == "mode"
    assert "still present" in bench.command("/gate/reset").message
    estop(Bool(data=False))
    graph.spin(0.2)
    assert bench.state.mode == GateState.ESTOP  # clearing the cause does not reset
    assert not bench.command("/gate/engage").success
    graph.spin(0.5)  # the cool-down
    assert bench.command("/gate/reset").success
    bench.until_mode(GateState.HOLD)
    bench.engage()


@pytest.mark.parametrize("how", ["pressed", "silent"])
def test_a_pendant_that_is_pressed_or_silent_is_an_estop(graph, spec, how):
    bench = Bench(graph, spec, start_engaged=True, pendant_timeout=1.0)
    pendant, beat = graph.talk(qos.PENDANT), [Bool(data=True)]
    timer = graph.probe.create_timer(0.05, lambda: [pendant(message) for message in beat])
    bench.until_mode(GateState.AUTONOMOUS)
    graph.spin(1.2)
    assert bench.state.mode == GateState.AUTONOMOUS
    beat[:] = [Bool(data=False)] if how == "pressed" else []
    bench.until_mode(GateState.ESTOP)
    assert bench.state.reason == f"pendant {how}"
    graph.spin(0.6)  # the cool-down
    assert "still present" in bench.command("/gate/reset").message
    beat[:] = [Bool(data=True)]
    graph.spin(0.8)
    assert bench.command("/gate/reset").success
    timer.cancel()


def test_the_estop_service_latches(graph, spec):
    bench = Bench(graph, spec, start_engaged=True)
    bench.until_mode(GateState.AUTONOMOUS)
    assert graph.call(Trigger, "/gate/estop", Trigger.Request()).success
    bench.until_mode(GateState.ESTOP)
    assert "cool-down" in bench.command("/gate/reset").message


@pytest.mark.parametrize("kept", [True, False], ids=["with a state file", "without"])
def test_a_latched_estop_survives_a_cleanup(graph, spec, tmp_path, kept):
    """Incident: without a state file, which was the default, deactivate and cleanup ended in AUTONOMOUS."""
    file = {"state_file": str(tmp_path / "new" / "gate.json")} if kept else {}
    bench = Bench(graph, spec, start_engaged=True, **file)
    bench.until_mode(GateState.AUTONOMOUS)
    graph.call(Trigger, "/gate/estop", Trigger.Request())
    bench.until_mode(GateState.ESTOP)
    epoch = bench.state.epoch
    assert bench.node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    assert bench.node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    graph.activate()
    graph.spin(0.5)
    assert bench.state.mode == GateState.ESTOP and bench.state.epoch > epoch


def test_without_a_place_for_its_state_the_gate_is_not_engaged(graph, spec, tmp_path):
    (tmp_path / "file").write_text("")
    bench = Bench(graph, spec, start_engaged=True, state_file=str(tmp_path / "file" / "gate.json"))
    graph.spin(0.5)
    assert bench.state.mode == GateState.HOLD
    assert "state_file" in bench.command("/gate/engage").message


def test_a_state_that_cannot_be_written_any_more_ends_autonomy(graph, spec, tmp_path):
    bench = Bench(graph, spec, start_engaged=True, state_file=str(tmp_path / "gate.json"))
    bench.until_mode(GateState.AUTONOMOUS)
    bench.node._machine.save_error = "disk full"  # while engaging
    bench.until_mode(GateState.HOLD)
    assert bench.state.reason == "state_file: disk full"
    bench.engage()  # the disk is well again


def test_an_estop_of_any_quality_of_service_is_heard(graph, spec):
    """Incident (review): of a best-effort publisher gate and driver heard nothing."""
    bench = Bench(graph, spec, start_engaged=True)
    bench.until_mode(GateState.AUTONOMOUS)
    graph.talk(replace(qos.ESTOP, qos=qos.SENSOR))(Bool(data=True))
    bench.until_mode(GateState.ESTOP)


def test_a_stall_of_the_gate_does_not_make_a_beating_pendant_silent(graph, spec):
    """Incident: after a stall the timer came before the waiting beats, and the gate latched."""
    bench = Bench(graph, spec, start_engaged=True, pendant_timeout=1.0)
    pendant = graph.talk(qos.PENDANT)
    timer = graph.probe.create_timer(0.05, lambda: pendant(Bool(data=True)))
    bench.until_mode(GateState.AUTONOMOUS)
    for _ in range(3):
        pendant(Bool(data=True))
        time.sleep(1.3)  # nothing of this process runs
        graph.spin(0.5)
        assert bench.state.mode != GateState.ESTOP, bench.state.reason
    graph.probe.destroy_timer(timer)
    bench.until_mode(GateState.ESTOP)


def test_silence_of_an_input_ends_autonomy(graph, spec):
    bench = Bench(graph, spec, start_engaged=True)
    bench.until_mode(GateState.AUTONOMOUS)
    graph.probe.destroy_timer(bench.feeding)
    begin = time.monotonic()
    bench.until_mode(GateState.HOLD)
    assert time.monotonic() - begin < 0.8
    assert "no message of" in bench.state.reason
    assert "no message" in bench.command("/gate/engage").message


def test_an_attempt_whose_task_node_falls_silent_ends_autonomy(graph, spec):
    """A frozen task node left policy and gate to go on with its attempt until somebody stopped them."""
    bench = Bench(graph, spec, start_engaged=True, task_timeout=0.5)
    bench.until_mode(GateState.AUTONOMOUS)
    beat = graph.talk(qos.TASK_HEARTBEAT)
    alive = graph.probe.create_timer(0.1, lambda: beat(UInt64(data=1)))
    graph.spin(1.0)
    assert bench.state.mode == GateState.AUTONOMOUS
    graph.probe.destroy_timer(alive)
    bench.until_mode(GateState.HOLD)
    assert bench.state.reason == "no message of task"
    assert "no message of task" in bench.command("/gate/engage").message
    beat(UInt64(data=0))  # it lives again, and the attempt is over
    bench.engage()


@pytest.mark.parametrize("said", ["the same again", "a gripper alone"])
def test_joint_states_that_say_nothing_new_of_the_arm_are_silence(graph, spec, said):
    """A broadcaster that froze, and a gripper's node on the same topic, kept autonomy alive without joint states."""
    bench = Bench(graph, spec, start_engaged=True)
    bench.until_mode(GateState.AUTONOMOUS)
    frozen, other = copy.deepcopy(bench.sense()), JointState(name=["finger"], position=[0.0], velocity=[0.0])
    other.header.stamp = convert.to_time(time.time_ns() + 60_000_000_000)  # however new it is
    bench.sense = lambda: frozen if said == "the same again" else other
    bench.until_mode(GateState.HOLD)
    assert "no message of joint_states" in bench.state.reason


def test_repeated_and_reordered_sets_are_rejected(graph, spec):
    bench = Bench(graph, spec, start_engaged=True)
    bench.until_mode(GateState.AUTONOMOUS)
    assert bench.send(0.1, age=0.05)[0].accepted
    (older,) = bench.send(0.1, age=0.9)
    assert not older.accepted and older.reasons[0].check == "order"


def test_rows_approved_by_somebody_else_end_autonomy(graph, spec):
    bench = Bench(graph, spec, start_engaged=True)
    bench.until_mode(GateState.AUTONOMOUS)
    bench.send(0.1)
    forged = bench.approved[-1]
    forged.candidate = 3
    graph.talk(qos.APPROVED_CHUNK)(forged)
    bench.until_mode(GateState.HOLD)
    assert bench.state.reason == "another publisher on /gate/approved_chunk"
    assert "somebody else" in bench.command("/gate/engage").message
    graph.spin(1.2)
    bench.engage()


def test_vetoes_are_counted_by_reason(graph, spec):
    bench = Bench(graph, spec, start_engaged=True)
    bench.until_mode(GateState.AUTONOMOUS)
    bench.send(-3.0, 0.1)
    report = bench.node.report()
    assert report["vetoes.joint_velocity"] == 1 and report["accepted"] == 1 and float(report["latency_p50_ms"]) > 0


def test_too_many_candidates_are_not_looked_at(graph, spec):
    bench = Bench(graph, spec, start_engaged=True)
    bench.until_mode(GateState.AUTONOMOUS)
    (decision,) = bench.send(*[0.1] * 65)
    assert decision.reasons[0].check == "chunks" and not bench.approved
