"""What is lost while the arm moves, and how soon it stands: processes killed and frozen, buttons pressed."""

import signal
import time

import numpy as np
import pytest
from helpers import Up
from rclpy.action import ActionClient
from rosgraph_msgs.msg import Clock
from stack import BRAKE, DEADLINE, RESTING, ROWS, SLACK, TASK, TICKS, started
from std_msgs.msg import Bool
from std_srvs.srv import Trigger
from vla_mbpo_msgs.action import ExecuteTask
from vla_mbpo_msgs.msg import GateState
from vla_mbpo_msgs.srv import GateCommand

from vla_mbpo.nodes import convert, qos


def test_estop_topic(stack, graph):
    estop = graph.talk(qos.ESTOP)
    stack.until_moving()
    estop(Bool(data=True))
    stack.time_to_rest(BRAKE + SLACK)
    graph.spin(1.0)
    assert stack.gate.mode == GateState.ESTOP and stack.speed() < RESTING
    estop(Bool(data=False))
    graph.spin(0.7)
    assert graph.call(GateCommand, qos.RESET_GATE, GateCommand.Request(epoch=stack.gate.epoch)).success
    stack.move()  # only after reset and engage


def test_estop_service(stack, graph):
    graph.call(Trigger, qos.ESTOP_SERVICE, Trigger.Request())
    stack.time_to_rest(BRAKE + SLACK)
    assert stack.gate.mode == GateState.ESTOP


def test_task_switch(stack, graph):
    """Another instruction: what was committed is dropped, and the new motion starts from rest."""
    before = stack.of(qos.JOINT_STATES)[-1].velocity[6]
    stack.switch()
    stack.time_to_rest(BRAKE + SLACK)
    stack.until_moving()
    assert stack.of(qos.JOINT_STATES)[-1].velocity[6] * before < 0


def test_kill_arm_driver(stack, graph):
    stack.signal("arm_driver", signal.SIGKILL)
    stack.time_to_rest(TICKS + BRAKE + SLACK)
    graph.until(lambda: stack.up.process.poll() is not None, 5.0)
    assert stack.up.wait(1.0) == 1
    assert "vla-mbpo: error: arm_driver ended (signal SIGKILL), motion-critical: ending the others" in stack.up.output


def test_kill_gate(stack, graph):
    stack.signal("gate", signal.SIGKILL)
    stack.time_to_rest(DEADLINE + BRAKE + SLACK)
    graph.until(lambda: stack.up.process.poll() is not None, 5.0)
    assert stack.up.wait(1.0) == 1 and "gate ended" in stack.up.output


def test_kill_sim(stack, graph):
    """The controller itself: nothing moves any more, and everything ends."""
    stack.signal("sim", signal.SIGKILL)
    graph.until(lambda: stack.up.process.poll() is not None, 5.0)
    assert stack.up.wait(1.0) == 1 and "sim ended" in stack.up.output


@pytest.mark.parametrize("node", ["policy", "head_camera"])
def test_kill_what_is_not_motion_critical(stack, graph, node):
    """The rows run out; the process is started again and the task goes on."""
    stack.signal(node, signal.SIGKILL)
    stack.time_to_rest(ROWS + BRAKE + SLACK)
    assert stack.gate.mode == GateState.AUTONOMOUS
    stack.until_moving(30.0)
    assert f"{node} ended (signal SIGKILL); restarting it" in stack.up.output


def test_freeze_and_continue_policy(stack, graph):
    """What the policy makes of old frames after waking up is not executed."""
    stack.signal("policy", signal.SIGSTOP)
    stack.time_to_rest(ROWS + BRAKE + SLACK)
    graph.spin(1.0)
    asleep = time.time_ns()
    stack.signal("policy", signal.SIGCONT)
    stack.until_moving()
    accepted = [d for d in stack.of(qos.GATE_DECISION) if d.accepted and convert.to_ns(d.header.stamp) > asleep]
    ages = [convert.to_ns(d.header.stamp) - convert.to_ns(d.observation_stamp) for d in accepted]
    assert ages and max(ages) < 1.0e9
    assert stack.late == 0


def test_freeze_and_continue_task(stack, graph):
    """Nobody could end its attempt: autonomy ends, and the attempt when it wakes up."""
    graph.listen(qos.TASK_HEARTBEAT)
    client = ActionClient(graph.probe, ExecuteTask, qos.EXECUTE_TASK)
    graph.until(client.server_is_ready)
    sent = client.send_goal_async(ExecuteTask.Goal(instruction=stack.instruction))
    graph.until(lambda: bool(stack.of(qos.TASK_HEARTBEAT)) and stack.of(qos.TASK_HEARTBEAT)[-1].data > 0)
    stack.until_moving()
    stack.signal("task", signal.SIGSTOP)
    stack.time_to_rest(TASK + BRAKE + SLACK)
    assert stack.gate.mode == GateState.HOLD and stack.gate.reason == "no message of task"
    ended = sent.result().get_result_async()
    stack.signal("task", signal.SIGCONT)
    graph.until(ended.done)
    assert ended.result().result.outcome == ExecuteTask.Result.STOPPED
    client.destroy()
    stack.move()


def test_freeze_and_continue_gate(stack, graph):
    stack.signal("gate", signal.SIGSTOP)
    stack.time_to_rest(DEADLINE + BRAKE + SLACK)
    stack.signal("gate", signal.SIGCONT)
    graph.spin(0.5)  # it may find its own inputs stale and take autonomy away
    stack.engage()
    stack.until_moving()


def test_freeze_and_continue_arm_driver(stack, graph):
    """The controller brakes by itself; the gate takes autonomy away until somebody engages it again."""
    stack.signal("arm_driver", signal.SIGSTOP)
    stack.time_to_rest(TICKS + BRAKE + SLACK)
    graph.until(lambda: stack.gate.mode == GateState.HOLD, 3.0)
    assert "arm_driver" in stack.gate.reason
    stack.signal("arm_driver", signal.SIGCONT)
    graph.spin(0.5)
    assert stack.speed() < RESTING
    stack.engage()
    stack.until_moving()
    assert stack.late == 0


def test_freeze_sim(stack, graph):
    """Joint states are lost: autonomy ends."""
    stack.signal("sim", signal.SIGSTOP)
    graph.until(lambda: stack.gate.mode == GateState.HOLD, 3.0)
    assert "joint_states" in stack.gate.reason
    graph.until(lambda: stack.of(qos.COMMITMENT)[-1].chunk_set_id == 0, 2.0)
    stack.signal("sim", signal.SIGCONT)
    graph.spin(0.5)
    assert stack.speed() < RESTING
    stack.move()
    assert stack.late == 0


def test_restart_while_latched(graph, bundle, tmp_path, record_property):
    """An e-stop outlives the gate that was told of it, and everything else."""
    setting = f"gate.state_file={tmp_path / 'gate.json'}"
    graph.start()
    for stack in started(graph, bundle, tmp_path / "first.log", record_property, setting):
        graph.call(Trigger, qos.ESTOP_SERVICE, Trigger.Request())
        stack.time_to_rest(BRAKE + SLACK)
        epoch = stack.gate.epoch
        stack.signal("gate", signal.SIGKILL)
        graph.until(lambda first=stack: first.up.process.poll() is not None, 5.0)
    up = Up(tmp_path / "second.log", "--bundle", str(bundle), "--headless", "--set", setting)
    try:
        graph.until(lambda: stack.gate.epoch > epoch, 60.0)
        assert stack.gate.mode == GateState.ESTOP
    finally:
        up.close()


def test_clock_pauses_and_jumps_back(bundle, graph, tmp_path, record_property):
    """On simulated time: after a pause nothing is made up for; rows of another time are dropped; motion comes back."""
    graph.start()
    nodes = ("head_camera", "wrist_camera", "arm_driver", "gate", "teleop", "policy", "task")
    settings = [f"{node}.use_sim_time=true" for node in nodes]
    for stack in started(graph, bundle, tmp_path / "up.log", record_property, *settings):
        stop_the_clock(stack, graph)
        set_back_the_clock(stack, graph)


def stop_the_clock(stack, graph):
    """Regression: the simulator ran through the last 0.2 s of the pause at once, and commands came 0.1 s too late."""
    states = len(stack.of(qos.JOINT_STATES))
    for _ in range(4):
        stack.until_moving()
        paused = len(stack.of(qos.JOINT_STATES))
        stack.signal("sim", signal.SIGSTOP)
        graph.spin(1.0)
        assert len(stack.of(qos.JOINT_STATES)) - paused < 20
        stack.signal("sim", signal.SIGCONT)
        graph.spin(1.0)
        stack.move()
    assert stack.late == 0 and fastest(stack, states) < 0.6


def fastest(stack, since):
    return max(np.abs(m.velocity).max() for m in stack.of(qos.JOINT_STATES)[since:])


def set_back_the_clock(stack, graph):
    clock = graph.talk(qos.CLOCK)
    stack.until_moving()
    states, said = len(stack.of(qos.JOINT_STATES)), len(stack.of(qos.COMMITMENT))

    def jumped():
        clock(Clock(clock=convert.to_time(time.time_ns() - 10_000_000_000)))
        stamps = [convert.to_ns(m.header.stamp) for m in stack.of(qos.COMMITMENT)[said:]]
        return any(later < earlier for earlier, later in zip(stamps, stamps[1:], strict=False))

    graph.until(jumped, 10.0)  # the driver may miss some: the simulator says its time a hundred times a second
    graph.until(lambda: stack.of(qos.COMMITMENT)[-1].chunk_set_id == 0, 1.0)
    stack.move()
    assert stack.late == 0 and fastest(stack, states) < 0.5
