import os
import signal
import time

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from helpers import spawn
from lifecycle_msgs.msg import Transition, TransitionEvent
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.qos import QoSProfile
from rclpy.task import Future
from test_camera_node import Broken

from vla_mbpo.nodes import lifecycle_manager, qos
from vla_mbpo.nodes.camera import SOURCES, CameraNode
from vla_mbpo.nodes.lifecycle_manager import LifecycleManager

NAMES = ("first", "second", "third")


@pytest.fixture
def processes():
    started = []
    yield started
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def camera(processes, name, *arguments):
    """A node that needs nothing else."""
    process = spawn("vla_mbpo.nodes", "camera", "--ros-args", "-r", f"__node:={name}", *arguments)
    processes.append(process)
    return process


def manager(processes, *names):
    process = spawn("vla_mbpo.nodes", "lifecycle_manager", "--ros-args", "-p", f"nodes:=[{', '.join(names)}]")
    processes.append(process)
    return process


def transitions(graph, names=NAMES):
    """Primary states that nodes reached, in order."""
    seen = []
    for name in names:
        topic = f"/{name}/transition_event"
        note = lambda m, n=name: seen.append((n, m.goal_state.label))  # noqa: E731
        graph.probe.create_subscription(TransitionEvent, topic, note, QoSProfile(depth=20))
    return seen


def test_up_in_order_down_in_reverse(graph, processes):
    graph.start()
    seen = transitions(graph)
    for name in NAMES:
        camera(processes, name)
    graph.until(lambda: all(graph.probe.count_publishers(f"/{name}/transition_event") for name in NAMES), 20.0)
    graph.spin(0.3)
    process = manager(processes, *NAMES)
    graph.listen(qos.READY)
    graph.until(lambda: bool(graph.heard[qos.READY.name]), 20.0)
    graph.spin(0.3)
    stable = [(name, state) for name, state in seen if state in ("inactive", "active")]
    assert stable == [(name, state) for name in NAMES for state in ("inactive", "active")]
    seen.clear()
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    graph.until(lambda: process.poll() is not None)
    assert process.returncode == 0 and time.monotonic() - begin < 2.0
    assert "ready: first, second, third" in process.communicate()[0]
    graph.spin(0.2)
    stable = [(name, state) for name, state in seen if state in ("inactive", "unconfigured")]
    assert stable == [(name, state) for name in reversed(NAMES) for state in ("inactive", "unconfigured")]


def test_a_failed_transition_is_one_line_with_node_and_reason(processes):
    camera(processes, "first")
    camera(processes, "second", "-p", "size:=64")
    process = manager(processes, "first", "second")
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    (line,) = [line for line in output.splitlines() if line.startswith("vla-mbpo: error")]
    assert line.startswith("vla-mbpo: error: second: configure failed: calibration size")


def test_a_restarted_node_whose_device_is_away_is_tried_again(graph, monkeypatch):
    """Incident: activation had failed once, and the camera stayed inactive for ever."""
    device = Broken(opens=True)
    device.read = lambda timeout: time.sleep(0.05)
    monkeypatch.setitem(SOURCES, "sim", device)
    monkeypatch.setattr(lifecycle_manager, "AGAIN", 0.1)
    names = {"lifecycle_manager.nodes": "[first]"}
    graph.start(lambda: CameraNode("first"), lambda: LifecycleManager("lifecycle_manager"), parameters=names)
    node = graph.nodes[0]
    graph.until(lambda: node.state == "active", 20.0)
    graph.spin(0.1)

    def spin(seconds):
        """With more diagnostics than one a second."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            node.publish_diagnostics()
            graph.spin(0.05)

    node.trigger_deactivate()
    spin(1.0)
    assert node.state == "inactive"  # on purpose
    device.opens = False
    node.trigger_cleanup()  # as it is after a restart,
    node._process = "another"
    until = time.monotonic() + 10.0
    while node.state != "inactive" or not node._fault:
        assert time.monotonic() < until
        spin(0.1)
    spin(0.3)
    assert node.state == "inactive" and node._fault == "activate failed: OSError: no device 42"
    device.opens = True
    until = time.monotonic() + 10.0
    while node.state != "active":
        assert time.monotonic() < until
        spin(0.1)
    spin(0.3)
    node.trigger_deactivate()
    spin(1.0)
    assert node.state == "inactive"  # on purpose, again


def test_what_a_person_cleaned_up_stays_so(graph, monkeypatch):
    """Incident: cleaned up to change a parameter, a node was brought up again within a second, and engaged."""
    device = Broken(opens=True)
    device.read = lambda timeout: time.sleep(0.05)
    monkeypatch.setitem(SOURCES, "sim", device)
    names = {"lifecycle_manager.nodes": "[first]"}
    node = graph.start(lambda: LifecycleManager("lifecycle_manager"), lambda: CameraNode("first"), parameters=names)
    graph.until(lambda: node.state == "active" and bool(graph.nodes[0]._processes), 20.0)
    graph.until(lambda: not graph.nodes[0]._busy)
    node.trigger_deactivate()
    node.trigger_cleanup()
    graph.spin(2.5)
    assert node.state == "unconfigured"
    node.trigger_configure()
    node.trigger_activate()
    graph.spin(1.5)
    assert node.state == "active"


def test_questions_that_nobody_answers_are_not_kept(graph):
    """Incident: every question without an answer was kept for good."""
    words = {"lifecycle_manager.nodes": "[first]", "lifecycle_manager.timeout": 1.0}
    manager = graph.start(lambda: LifecycleManager("lifecycle_manager"), parameters=words)
    asked = []

    async def never(request, response):
        asked.append(request)
        await Future()
        return response

    for kind, name in ((GetState, "get_state"), (ChangeState, "change_state")):
        graph.probe.create_service(kind, f"/first/{name}", never, callback_group=ReentrantCallbackGroup())
    graph.until(manager.ended.done, 20.0)
    manager._up["first"] = [Transition.TRANSITION_CLEANUP]
    manager.shut_down()
    assert {type(request) for request in asked} == {GetState.Request, ChangeState.Request}
    assert not manager._get["first"]._pending_requests and not manager._change["first"]._pending_requests


def test_a_restarted_node_is_brought_up_again(graph, processes):
    graph.start()
    doomed = camera(processes, "first")
    manager(processes, "first")
    graph.listen(qos.READY)
    graph.until(lambda: bool(graph.heard[qos.READY.name]), 20.0)
    os.killpg(doomed.pid, signal.SIGKILL)
    doomed.wait()
    states = []

    def note(message: DiagnosticArray) -> None:
        states.extend(v.value for s in message.status if s.name == "first" for v in s.values if v.key == "state")

    graph.probe.create_subscription(DiagnosticArray, "/diagnostics", note, qos.DIAGNOSTICS.qos)
    begin = time.monotonic()
    camera(processes, "first")
    graph.until(lambda: "active" in states, 20.0)
    assert time.monotonic() - begin < 10.0
