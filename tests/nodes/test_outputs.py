"""The driver's other ways to the controller."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_arm_driver_node import Bench

from vla_mbpo.nodes import convert, qos
from vla_mbpo.nodes.arm_driver import ArmDriverNode
from vla_mbpo.paths import ros_environment

MESSAGES = Path(__file__).parents[2] / "ros2_ws" / "src" / "vla_mbpo_msgs"
ACTION = """trajectory_msgs/JointTrajectory trajectory
---
int32 error_code
string error_string
---
trajectory_msgs/JointTrajectoryPoint error
"""


def a_motion(graph, bench):
    """What was published for a chunk, (ticks, n). On a machine that pauses the driver stops early: another try then."""
    for _ in range(10):
        graph.heard[qos.POSITION_STREAM.name].clear()
        bench.approve(convert.to_approved(bench.rows(), bench.rows().observation_stamp, "base", "gate", ""))
        graph.spin(1.2)
        points = [m.data for m in graph.heard[qos.POSITION_STREAM.name]]
        if len(points) > 20:
            return np.array(points)
    raise AssertionError(bench.node.warning())


def test_a_position_stream_is_the_set_point_of_each_next_tick(graph, spec):
    """Under the limits, from the measured pose to a standstill; the arm itself is played by the test."""
    bench = Bench(graph, spec, output="position_stream")
    graph.listen(qos.POSITION_STREAM)
    points = a_motion(graph, bench)
    assert points.shape[1] == len(spec.joints)
    np.testing.assert_allclose(points[0], bench.measured.positions, atol=0.02)
    assert (np.abs(np.diff(points, axis=0)) <= 0.05 * spec.velocity).all()
    assert points[-1, -1] > points[0, -1] + 0.01


def test_a_position_stream_is_led_to_a_standstill_when_the_driver_is_deactivated(graph, spec, monkeypatch):
    """The controller holds the last point: with one that moves on, a deactivation was a step to zero velocity."""
    bench = Bench(graph, spec, output="position_stream")
    graph.listen(qos.POSITION_STREAM)
    heard, sent = graph.heard[qos.POSITION_STREAM.name], []
    rows = bench.rows()
    rows.positions[:, -1] += 0.05 * np.arange(1, 17)  # faster, so that braking takes a while
    bench.approve(convert.to_approved(rows, rows.observation_stamp, "base", "gate", ""))
    graph.until(lambda: len(heard) > 6)
    monkeypatch.setattr(bench.node._output, "send", lambda trajectory: sent.append(trajectory.positions[0, -1]))
    bench.node.trigger_deactivate()
    steps = np.diff([heard[-1].data[-1], *sent])
    assert len(steps) > 4 and steps.max() > 0.01 and abs(steps[-1]) < 2e-4, steps


def test_another_publisher_on_the_stream_stops_it(graph, spec):
    bench = Bench(graph, spec, output="position_stream")
    graph.listen(qos.POSITION_STREAM)
    say = graph.talk(qos.POSITION_STREAM)
    bench.approve(convert.to_approved(bench.rows(), bench.rows().observation_stamp, "base", "gate", ""))
    graph.until(lambda: bool(graph.heard[qos.POSITION_STREAM.name]))
    foreign = graph.heard[qos.POSITION_STREAM.name][-1]
    foreign.data[0] += 0.1
    say(foreign)
    graph.until(lambda: "somebody else" in bench.node.warning(), 2.0)
    graph.until(lambda: bench.commitment.chunk_set_id == 0, 1.0)


def test_without_control_msgs_the_action_is_refused_by_name(graph, monkeypatch):
    monkeypatch.setitem(sys.modules, "control_msgs.action", None)
    node = graph.start(lambda: ArmDriverNode("arm_driver"), parameters={"arm_driver.output": "follow_joint_trajectory"})
    node.trigger_configure()
    assert "arm_driver.output: 'follow_joint_trajectory' is not valid" in node._fault and "control_msgs" in node._fault


@pytest.mark.slow
def test_a_follow_joint_trajectory_server_moves_the_arm(tmp_path):
    """With a message package built here: on PyPI there is none."""
    prefix = built_control_msgs(tmp_path)
    packages = next(prefix.glob("lib/python*/site-packages"))
    environment = ros_environment() | {"ROS_DOMAIN_ID": os.environ["ROS_DOMAIN_ID"]}
    paths = [str(packages), str(Path(__file__).parent), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = ":".join(filter(None, paths))
    environment["LD_LIBRARY_PATH"] = f"{prefix / 'lib'}:{environment.get('LD_LIBRARY_PATH', '')}"
    environment["AMENT_PREFIX_PATH"] = f"{prefix}:{environment.get('AMENT_PREFIX_PATH', '')}"
    script = Path(__file__).with_name("follow_server.py")
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["goals"] > 10 and result["speed"] > 0.1 and result["rest"] < 3.0


def built_control_msgs(folder):
    """Our message package with another name and one action, built and installed into a prefix of its own."""
    source, prefix = folder / "control_msgs", folder / "prefix"
    (source / "action").mkdir(parents=True)
    (source / "action" / "FollowJointTrajectory.action").write_text(ACTION)
    for name in ("CMakeLists.txt", "wheels.cmake", "package.xml", "pyproject.toml"):
        text = (MESSAGES / name).read_text().replace("vla_mbpo_msgs", "control_msgs")
        (source / name).write_text(text.replace("geometry_msgs", "trajectory_msgs"))
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", f"--prefix={prefix}", str(source)]
    environment = {k: v for k, v in os.environ.items() if k not in ("LD_LIBRARY_PATH", "PYTHONPATH")}
    environment.pop("_ROS_WHEELS_BOOTSTRAP_COMPLETE", None)
    built = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False)
    assert built.returncode == 0, built.stderr[-3000:]
    shutil.rmtree(source)
    return prefix
