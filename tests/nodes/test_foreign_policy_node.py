"""The policy node with somebody else's policy: chunks while its server answers soundly, and diagnostics if not."""

import contextlib
import time

import foreign_server
import numpy as np
import pytest
from foreign_server import DESCRIPTION, SPEED, PolicyServer, changed, describe, turning
from helpers import finish, free_port, spawn
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from std_msgs.msg import String
from test_policy_node import Bench
from vla_mbpo_msgs.msg import GateState

from vla_mbpo.core.state import RobotState
from vla_mbpo.nodes import convert, qos
from vla_mbpo.policy.foreign.command import wrap


def served(folder, spec, url, **changes):
    return wrap(describe(folder, changed(DESCRIPTION, server__url=url, **changes)), spec).path


def test_chunks_come_from_the_server_and_what_is_not_sound_is_named(graph, spec, tmp_path):
    server = PolicyServer()
    bench = Bench(graph, spec, served(tmp_path / "served", spec, server.url), k=8, replan_rows=4)
    try:
        bench.go("any words at all")
        bench.hold_rows(0)
        bench.frame(1)
        bench.hold_rows(4)
        bench.frame(4)
        first, second = (convert.from_chunk(message.chunks[0]) for message in bench.sets)
        np.testing.assert_allclose(np.diff(first.positions[:, -1]), 0.05 * SPEED, atol=1e-6)
        assert (len(bench.sets[0].chunks), len(bench.sets[0].features), second.committed_rows) == (1, 0, 3)
        assert bench.node.report()["no_chunk"] == "never" and bench.node.warning() == ""
        server.answer = lambda asked: {"actions": turning(asked)["actions"] * np.nan}
        bench.frame(4)
        assert "not_finite" in bench.node.warning() and bench.node.report()["no_chunk"] == "not_finite 1"
        assert len(bench.sets) == 2
        server.answer = turning
        bench.frame(4)
        assert len(bench.sets) == 3 and bench.node.warning() == ""
    finally:
        server.close()


class Robot:
    """Cameras, arm and gate of a policy node that is a process of its own."""

    def __init__(self, graph, spec):
        self.graph, self.writer, self.home = graph, convert.JointStateWriter(spec), spec.home
        self.rng = np.random.default_rng(0)
        graph.listen(qos.ACTION_CHUNKS, qos.DIAGNOSTICS)

    def begin(self):
        """When the node listens."""
        topics = (qos.JOINT_STATES, qos.HEAD_IMAGE, qos.WRIST_IMAGE, qos.GATE_STATE, qos.INSTRUCTION)
        self.joints, *self.views, self.gate, self.say = map(self.graph.talk, topics)
        self.graph.probe.create_timer(0.05, self.look)
        self.gate(GateState(mode=GateState.AUTONOMOUS, epoch=1))
        self.say(String(data="press the button"))

    def look(self):
        stamp = time.time_ns()
        self.joints(self.writer.write(RobotState(stamp, self.home, np.zeros(7), 0.08)))
        for view, send in zip(("head", "wrist"), self.views, strict=True):
            picture = self.rng.integers(0, 255, (96, 96, 3), dtype=np.uint8)
            send(convert.to_image(picture, stamp, f"{view}_camera_optical_frame"))

    @property
    def sets(self):
        return self.graph.heard[qos.ACTION_CHUNKS.name]

    def said(self):
        """Level and message of the node's last diagnostics."""
        found = [s for m in self.graph.heard[qos.DIAGNOSTICS.name] for s in m.status if s.name == "policy"]
        return (found[-1].level, found[-1].message) if found else (b"", "")

    def more_chunks(self, timeout=20.0):
        before = len(self.sets)
        self.graph.until(lambda: len(self.sets) >= before + 2, timeout)

    def no_more_chunks(self, reason):
        """And /diagnostics says why, as a warning."""
        self.graph.until(lambda: reason in self.said()[1], 10.0)
        before = len(self.sets)
        self.graph.spin(1.0)
        assert len(self.sets) == before and self.said()[0] != b"\0"


def change(graph, client, transition):
    """Ask until there is an answer: that of a node that does not know of the client yet is lost."""
    graph.until(client.service_is_ready, 20.0)
    for _ in range(5):
        asked = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
        with contextlib.suppress(AssertionError):
            graph.until(asked.done, 3.0)
            return
    raise AssertionError("no answer")


@pytest.fixture
def processes():
    made = []
    yield made
    for process in made:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_a_killed_server_ends_the_chunks_of_the_real_node_until_it_is_back(graph, spec, tmp_path, processes):
    port = free_port()
    bundle = served(tmp_path / "served", spec, f"ws://127.0.0.1:{port}", server__answer_within=0.5)
    server = foreign_server.process(port)
    node = spawn("vla_mbpo.nodes", "policy", "--ros-args", "-p", f"bundle:={bundle}", "-p", "max_age:=2.0")
    processes += [server, node]
    graph.start()
    service = "/policy/change_state"
    graph.until(lambda: service in dict(graph.probe.get_service_names_and_types()), 20.0)
    client = graph.probe.create_client(ChangeState, service)
    robot = Robot(graph, spec)
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        change(graph, client, transition)
    robot.begin()
    robot.more_chunks()
    server.kill()
    robot.no_more_chunks("unreachable")
    server = foreign_server.process(port)
    processes.append(server)
    robot.more_chunks()
    code, output, _ = finish(node)
    assert code == 0 and "Traceback" not in output
