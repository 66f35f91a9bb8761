import time

import numpy as np
from std_msgs.msg import Float64MultiArray
from vla_mbpo_msgs.srv import ResetScene

from vla_mbpo.core.state import Trajectory
from vla_mbpo.nodes import convert, qos
from vla_mbpo.nodes.sim import SimNode


def start(graph, **parameters):
    node = graph.start(lambda: SimNode("sim"), parameters={f"sim.{k}": v for k, v in parameters.items()})
    graph.activate()
    return node


def states(graph, spec):
    reader = convert.JointStateReader(spec)
    return [reader.read(m) for m in graph.heard["/joint_states"]]


def stamps(messages):
    return np.array([convert.to_ns(m.header.stamp) for m in messages])


def test_rates_and_stamps(graph, spec):
    start(graph, task="button", seed=5)
    graph.listen(qos.JOINT_STATES, qos.SCENE_STATE, qos.TASK_STATUS, qos.CLOCK)
    graph.until(lambda: bool(graph.heard["/clock"]))
    begin, wall = stamps(graph.heard["/joint_states"])[-1], time.monotonic()
    graph.spin(2.0)
    wall = time.monotonic() - wall
    joints, scenes = stamps(graph.heard["/joint_states"]), stamps(graph.heard["/sim/scene_state"])
    elapsed = (joints[-1] - begin) / 1e9
    assert abs(elapsed - wall) < 0.3  # keeps up with real time
    assert len(joints) > 60 * wall and 14 * wall < len(scenes) < 23 * wall
    assert not (np.diff(scenes) % 50_000_000).any()  # one grid, even if messages are lost
    assert set(scenes[1:-1]) <= set(joints) | set(joints - 10_000_000)
    status = graph.heard["/task/status"][-1]
    assert (status.task, status.instruction, status.seed) == ("button", "press the button", 5)
    assert not status.success and status.elapsed > 1.5


def test_a_trajectory_moves_the_arm_and_a_wrong_one_does_not(graph, spec):
    node = start(graph)
    graph.listen(qos.JOINT_STATES)
    send = graph.talk(qos.TRAJECTORY)
    graph.until(lambda: bool(graph.heard["/joint_states"]))
    home = states(graph, spec)[-1].positions
    goal = home + 0.1
    there = Trajectory(0, spec.joints, (500_000_000,), goal[None], np.zeros((1, 7)))
    send(convert.to_trajectory(Trajectory(0, spec.joints[::-1], (500_000_000,), goal[None], np.ones((1, 7)))))
    graph.spin(0.3)
    assert np.abs(states(graph, spec)[-1].positions - home).max() < 0.01
    assert node.report()["rejected_trajectories"] == 1
    send(convert.to_trajectory(there))
    graph.until(lambda: np.abs(states(graph, spec)[-1].positions - goal).max() < 0.02)


def test_the_gripper_moves_within_its_range(graph, spec):
    start(graph)
    graph.listen(qos.JOINT_STATES)
    send = graph.talk(qos.GRIPPER)
    send(Float64MultiArray(data=[0.02]))
    graph.until(lambda: bool(graph.heard["/joint_states"]) and abs(states(graph, spec)[-1].gripper - 0.02) < 0.005)
    send(Float64MultiArray(data=[0.5]))
    send(Float64MultiArray(data=[]))
    graph.spin(0.3)
    assert abs(states(graph, spec)[-1].gripper - 0.02) < 0.005


def test_reset_puts_another_scene_there(graph):
    start(graph)
    graph.listen(qos.SCENE_STATE, qos.TASK_STATUS)
    answer = graph.call(ResetScene, qos.RESET_SCENE, ResetScene.Request(task="drawer", seed=9))
    assert answer.success and answer.instruction == "open the drawer"
    graph.until(lambda: bool(graph.heard["/sim/scene_state"]) and graph.heard["/sim/scene_state"][-1].task == "drawer")
    assert graph.heard["/sim/scene_state"][-1].seed == 9
    refused = graph.call(ResetScene, qos.RESET_SCENE, ResetScene.Request(task="juggle"))
    assert not refused.success and "red_bin" in refused.message


def test_a_reset_is_refused_while_the_arm_is_driven(graph, spec):
    """Incident: the driver, still braking, pulled a reset arm back to its old pose at 6.8 rad/s."""
    start(graph)
    graph.listen(qos.JOINT_STATES)
    send = graph.talk(qos.TRAJECTORY)
    graph.until(lambda: bool(graph.heard["/joint_states"]))
    goal = states(graph, spec)[-1].positions + 0.05
    send(convert.to_trajectory(Trajectory(0, spec.joints, (800_000_000,), goal[None], np.zeros((1, 7)))))
    graph.spin(0.3)
    refused = graph.call(ResetScene, qos.RESET_SCENE, ResetScene.Request(task="drawer", seed=9))
    assert not refused.success and "arm is driven" in refused.message
    graph.spin(1.2)
    assert graph.call(ResetScene, qos.RESET_SCENE, ResetScene.Request(task="drawer", seed=9)).success


def test_simulated_time_can_run_at_another_speed(graph):
    start(graph, real_time_factor=2.0)
    graph.listen(qos.CLOCK)
    graph.until(lambda: bool(graph.heard["/clock"]))
    first, wall = convert.to_ns(graph.heard["/clock"][-1].clock), time.monotonic()
    graph.spin(1.0)
    wall = time.monotonic() - wall
    assert abs((convert.to_ns(graph.heard["/clock"][-1].clock) - first) / 1e9 - 2.0 * wall) < 0.4
