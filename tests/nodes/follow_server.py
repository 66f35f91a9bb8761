"""Run as a process that has control_msgs: arm driver by action, against a server that drives the simulator.

Prints one JSON line: goals taken, largest joint speed, whether the arm stood in the end.
"""

import json
import time

import numpy as np
from control_msgs.action import FollowJointTrajectory
from helpers import Graph
from rclpy.action import ActionServer
from test_arm_driver_node import Bench

from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.nodes import qos
from vla_mbpo.paths import robot_dir


def main():
    graph, goals = Graph(), []
    bench = Bench(graph, RobotSpec.load(robot_dir("sim_panda")), output="follow_joint_trajectory")
    drive = graph.talk(qos.TRAJECTORY)

    def execute(handle):
        goals.append(handle.request.trajectory)
        drive(handle.request.trajectory)
        handle.succeed()
        return FollowJointTrajectory.Result()

    ActionServer(graph.probe, FollowJointTrajectory, qos.FOLLOW_TRAJECTORY, execute)
    graph.until(lambda: bench.node._output._client.server_is_ready())
    bench.go()
    graph.spin(0.3)
    speed = float(np.abs(bench.measured.velocities).max())
    begin = time.monotonic()
    graph.until(lambda: np.abs(bench.measured.velocities).max() < 0.02, 3.0)
    print(json.dumps({"goals": len(goals), "speed": speed, "rest": time.monotonic() - begin}), flush=True)
    graph.close()


if __name__ == "__main__":
    main()
