"""The real arms' stacks without the arms: mock hardware, driver and gate, and `vla-mbpo up --dry-run`."""

import sys

import numpy as np
import pytest
from helpers import Up
from rclpy.lifecycle import TransitionCallbackReturn
from scripted_bundle import SPEED, write_bundle
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from vla_mbpo_msgs.msg import GateState
from vla_mbpo_msgs.srv import GateCommand

from vla_mbpo.core.chunk import ActionChunk, ActionType
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.state import Trajectory
from vla_mbpo.nodes import convert, qos
from vla_mbpo.nodes.arm_driver import ArmDriverNode
from vla_mbpo.nodes.gate import GateNode
from vla_mbpo.nodes.mock_arm import MockArmNode
from vla_mbpo.paths import robot_dir

REAL = ("franka_fr3", "ur5e", "xarm7")
OFF = {f"vetting.{name}": "'off'" for name in ("imagination", "failure_detector")}


def load(robot):
    return RobotSpec.load(robot_dir(robot))


def measured(graph, spec):
    return convert.JointStateReader(spec).read(graph.heard[qos.JOINT_STATES.name][-1])


def mock(graph, robot):
    node = graph.start(lambda: MockArmNode("mock_arm"), parameters={"mock_arm.robot": robot})
    graph.activate()
    graph.listen(qos.JOINT_STATES)
    graph.until(lambda: bool(graph.heard[qos.JOINT_STATES.name]))
    return node


@pytest.mark.parametrize("robot", REAL)
def test_an_approved_chunk_moves_the_mock_of_each_real_arm(graph, robot):
    """Gate, driver and mock with the names of the real arm; scaled limits, as on a first day."""
    spec = load(robot)
    common = {"robot": robot, "limits_scale": 0.3}
    of = {
        "arm_driver": {"gate_timeout": 0.3, "max_state_age": 0.3, "gripper_output": "position"},
        "gate": {**OFF, "checks.max_state_age": 0.3, "checks.max_chunk_age": 2.0},
        "mock_arm": {},
    }
    parameters = {f"{node}.{key}": value for node, own in of.items() for key, value in (common | own).items()}
    nodes = (lambda: MockArmNode("mock_arm"), lambda: ArmDriverNode("arm_driver"), lambda: GateNode("gate"))
    graph.start(*nodes, parameters=parameters)
    graph.activate()
    graph.listen(qos.JOINT_STATES, qos.GATE_STATE, qos.GATE_DECISION)
    send, states = graph.talk(qos.ACTION_CHUNKS), graph.heard[qos.GATE_STATE.name]
    graph.talk(qos.INSTRUCTION)(String(data="sway"))
    graph.until(lambda: bool(states) and bool(graph.heard[qos.JOINT_STATES.name]))
    assert states[-1].mode == GateState.HOLD  # a real arm's gate is engaged by hand
    answer = graph.call(GateCommand, qos.ENGAGE, GateCommand.Request(epoch=states[-1].epoch))
    assert answer.success, answer.message
    start = measured(graph, spec)
    for _ in range(5):  # on a busy machine a chunk may come too late
        send(_chunk_set(spec, measured(graph, spec), graph))
        graph.spin(0.9)
        moved = measured(graph, spec).positions - start.positions
        if moved[-1] > 0.02:
            break
    assert moved[-1] > 0.02, graph.heard[qos.GATE_DECISION.name][-1:]
    np.testing.assert_allclose(moved[:-1], 0.0, atol=1e-3)
    assert measured(graph, spec).gripper < start.gripper - 0.01  # by way of the driver's unit


def _chunk_set(spec, state, graph):
    now = graph.nodes[0].now()
    positions = np.tile(state.positions, (spec.horizon, 1))
    positions[:, -1] += SPEED * 0.5 * 0.05 * np.arange(1, spec.horizon + 1)
    chunk = ActionChunk(
        now, 0, now, now + 16 * spec.row_period, ActionType.JOINT_POSITION, spec.joints, state.positions,
        spec.row_period, positions, np.maximum(0.03, state.gripper - 0.001 * np.arange(spec.horizon)), 0,
    )  # fmt: skip
    message = convert.to_chunk_set([chunk], now, spec.base_frame)
    message.instruction = "sway"
    return message


def test_the_mock_ends_where_hardware_is_in_the_graph(graph):
    """A dry run that shares the topics with an arm that has power would move it."""
    node = mock(graph, "ur5e")
    assert not node.ended.done()
    graph.probe.create_publisher(JointState, qos.JOINT_STATES.name, qos.JOINT_STATES.qos)
    graph.until(node.ended.done)
    assert node.exit_code == 1


def test_the_mock_takes_the_robots_joints_alone_and_the_drivers_gripper(graph):
    spec = load("ur5e")
    node = mock(graph, "ur5e")
    send, grip = graph.talk(qos.TRAJECTORY), graph.talk(qos.GRIPPER_POSITION)
    goal, still = spec.home + 0.1, np.zeros((1, 6))
    send(convert.to_trajectory(Trajectory(0, ("elbow", *spec.joints[1:]), (400_000_000,), goal[None], still)))
    graph.until(lambda: node.report()["trajectories_rejected"] == 1)
    send(convert.to_trajectory(Trajectory(0, spec.joints, (400_000_000,), goal[None], still)))
    grip(Float64MultiArray(data=[spec.gripper_driver.closed]))
    graph.until(lambda: np.abs(measured(graph, spec).positions - goal).max() < 1e-6)
    graph.until(lambda: measured(graph, spec).gripper < 0.001)
    names = graph.heard[qos.JOINT_STATES.name][-1].name
    assert names == [*spec.joints, "robotiq_85_left_knuckle_joint"]


def test_a_gripper_by_action_without_control_msgs_is_refused_by_name(graph, monkeypatch):
    monkeypatch.setitem(sys.modules, "control_msgs.action", None)
    parameters = {"arm_driver.robot": "franka_fr3", "arm_driver.gripper_output": "command"}
    node = graph.start(lambda: ArmDriverNode("arm_driver"), parameters=parameters)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert "arm_driver.gripper_output: 'command' is not valid" in node._fault and "control_msgs" in node._fault


@pytest.mark.slow
@pytest.mark.parametrize("robot", ["ur5e", "franka_fr3", "xarm7"])
def test_up_dry_run_brings_up_everything_and_moves_the_arm(graph, tmp_path, robot):
    """A scripted bundle of this arm, the cameras' test pattern, the real arm's parameters and limits of a first day."""
    spec = load(robot)
    bundle = write_bundle(tmp_path / "scripted", spec)
    graph.start()
    graph.listen(qos.JOINT_STATES)
    options = ("--dry-run", "--headless", "--limits-scale", "0.3", "--bundle", str(bundle), "--timeout", "3")
    process = Up(tmp_path / "up.log", "--robot", robot, *options, "--task", "press the button")
    try:
        graph.until(lambda: process.process.poll() is not None, 60.0)
        turned = [message.position[len(spec.joints) - 1] for message in graph.heard[qos.JOINT_STATES.name]]
    finally:
        process.close()
    assert process.process.returncode == 2, process.output  # nothing on the table tells that it succeeded
    assert max(turned) - spec.home[-1] > 0.05, process.output
    assert "Traceback" not in process.output


@pytest.mark.slow
def test_a_task_given_at_the_start_waits_until_somebody_engages_an_arm_that_may_have_power(graph, tmp_path):
    """`up --task` engaged the gate by itself, on any arm. The stack cannot know that this one is a mock elsewhere."""
    spec = load("ur5e")
    bundle = write_bundle(tmp_path / "scripted", spec)
    mock(graph, "ur5e")
    graph.listen(qos.GATE_STATE)
    own = {"head_camera.source": "pattern", "wrist_camera.source": "pattern",
           "gate.state_file": tmp_path / "latch.json", "arm_driver.gripper_output": "opening"}  # fmt: skip
    sets = [word for name, value in own.items() for word in ("--set", f"{name}={value}")]
    options = ("--headless", "--limits-scale", "0.3", "--bundle", str(bundle), "--timeout", "3", *sets)
    process = Up(tmp_path / "up.log", "--robot", "ur5e", *options, "--task", "press the button")
    states = graph.heard[qos.GATE_STATE.name]
    try:
        graph.until(lambda: "engage it by hand" in process.output, 60.0)
        before = graph.nodes[0].spec().home[-1]
        graph.spin(6.0)  # longer than the simulated arm's gate may take to be engaged
        assert states[-1].mode == GateState.HOLD and process.process.poll() is None, process.output
        assert abs(measured(graph, spec).positions[-1] - before) < 1e-6
        answer = graph.call(GateCommand, qos.ENGAGE, GateCommand.Request(epoch=states[-1].epoch))
        assert answer.success, answer.message
        graph.until(lambda: process.process.poll() is not None, 60.0)
    finally:
        process.close()
    assert process.process.returncode == 2, process.output
    assert measured(graph, spec).positions[-1] - before > 0.05, process.output
