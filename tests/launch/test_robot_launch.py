"""The launch file. `launch` is no pip package: these run where ROS 2 is installed with apt."""

import time

import pytest

launch_pytest = pytest.importorskip("launch_pytest", reason="needs a ROS 2 install: launch is not on PyPI")
launch_ros = pytest.importorskip("launch_ros", reason="needs a ROS 2 install: launch_ros is not on PyPI")

import rclpy  # noqa: E402
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction  # noqa: E402
from launch.launch_description_sources import PythonLaunchDescriptionSource  # noqa: E402
from launch_ros.actions import LifecycleNode, Node  # noqa: E402

from launch import LaunchContext, LaunchDescription  # noqa: E402
from vla_mbpo.bringup import graph  # noqa: E402
from vla_mbpo.nodes import qos  # noqa: E402
from vla_mbpo.paths import share_dir  # noqa: E402

SOURCE = PythonLaunchDescriptionSource(str(share_dir() / "launch" / "robot.launch.py"))


@launch_pytest.fixture
def stack(bundle):
    arguments = {"bundle": str(bundle), "page": "false", "set": "policy.seed=4; sim.seed=3"}
    include = IncludeLaunchDescription(SOURCE, launch_arguments=arguments.items())
    return LaunchDescription([include, launch_pytest.actions.ReadyToTest()])


@pytest.mark.launch(fixture=stack)
def test_the_graph_comes_up():
    rclpy.init()
    node = rclpy.create_node("probe")
    ready = []
    node.create_subscription(qos.READY.type, qos.READY.name, lambda message: ready.append(message), qos.READY.qos)
    end = time.monotonic() + 60.0
    while not ready and time.monotonic() < end:
        rclpy.spin_once(node, timeout_sec=0.1)
    names = set(node.get_node_names())
    node.destroy_node()
    rclpy.shutdown()
    assert ready and {spec.name for spec in graph() if spec.name != "monitor"} <= names


def test_arguments_are_described():
    arguments = [a for a in SOURCE.try_get_launch_description_without_context().entities if is_argument(a)]
    names = {argument.name for argument in arguments}
    assert {"robot", "bundle", "scene", "seed", "k", "use_rviz", "markers", "use_sim_time", "set", "security"} <= names
    assert all(argument.description for argument in arguments)
    choices = {argument.name: argument.choices for argument in arguments}
    assert choices["use_rviz"] == ["true", "false"] and "sim_panda" in choices["robot"]


def test_the_nodes_are_those_of_bringup():
    description = SOURCE.get_launch_description(LaunchContext())
    context = LaunchContext()
    for argument in filter(is_argument, description.entities):
        argument.visit(context)
    functions = [entity for entity in description.entities if isinstance(entity, OpaqueFunction)]
    nodes = [made for function in functions for made in function.execute(context) if isinstance(made, Node)]
    wanted = graph()
    assert [node.node_executable for node in nodes] == [spec.executable for spec in wanted]
    assert [isinstance(node, LifecycleNode) for node in nodes] == [spec.lifecycle for spec in wanted]


def is_argument(entity):
    return isinstance(entity, DeclareLaunchArgument)
