"""A recording put back on the topics: in its order, at its times, and a policy looks where the recorded one looked."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from rclpy.node import Node
from std_msgs.msg import String

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.nodes import qos
from vla_mbpo.nodes.convert import to_ns
from vla_mbpo.nodes.player import LATE, Listener, Player
from vla_mbpo.nodes.policy import PolicyNode
from vla_mbpo.replay.recording import Recording

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
import recordings  # noqa: E402

START, STEP = 1_000_000_000_000, 10_000_000  # ns
POLICY = ("policy",)


class Out:
    """In a node's place: keeps what is published, by topic's name."""

    def __init__(self):
        self.said = []

    def create_publisher(self, kind, name, profile):
        return SimpleNamespace(publish=lambda message: self.said.append((name, message)))


@pytest.mark.parametrize("rate", [1.0, 3.0])
def test_messages_come_in_order_beside_a_clock_that_does_not_overtake_them(rate):
    out, began = Out(), time.monotonic()
    messages = [(START + i * STEP, qos.RESAMPLE.name, bytes([i])) for i in range(30)]
    assert Player(out, POLICY).play(messages, rate, lambda: None) == 30
    assert time.monotonic() - began >= 29 * STEP / 1e9 / rate
    assert [message for name, message in out.said if name == qos.RESAMPLE.name] == [bytes([i]) for i in range(30)]
    clock, clocks = 0, []
    for name, message in out.said:
        if name == qos.CLOCK.name:
            clock = to_ns(message.clock)
            clocks.append(clock)
        else:
            assert clock == START + message[0] * STEP
    assert clocks == sorted(set(clocks)) and len(clocks) > 30


def test_what_came_late_is_not_made_up_for():
    """A replay that stood still goes on at its pace: bursts would overrun queues that hold one message."""
    out, times = Out(), []
    messages = [(START + i * STEP, qos.RESAMPLE.name, b"") for i in range(20)]

    def slow():
        for message in messages:
            if message is messages[10]:
                time.sleep(0.3)
            yield message
            times.append(time.monotonic())

    Player(out, POLICY).play(slow(), 1.0, lambda: None)
    assert times[-1] - times[10] >= 9 * STEP / 1e9 - LATE / 1e9


def test_another_node_on_the_domain_is_refused_by_name(graph):
    """Incident: the domain of the tests is not always empty; what a test before has left there is taken as known."""
    graph.start()
    player = Player(graph.probe, POLICY)
    known = graph.probe.get_node_names()
    player.require_alone(known)
    other = Node("stranger", use_global_arguments=False)
    try:
        graph.until(lambda: "stranger" in graph.probe.get_node_names(), 15.0)
        with pytest.raises(ConfigError, match="stranger"):
            player.require_alone(known)
    finally:
        other.destroy_node()


def test_a_policy_looks_where_the_recorded_one_looked(graph, spec, bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(recordings, "SIZE", 96)
    attempt = recordings.Attempt(spec, rows=32, looks=[0, 9, 17, 26])  # pictures were late for it now and then
    attempt.say(qos.INSTRUCTION, String(data=recordings.SAY), -0.4)
    recording = Recording.read(attempt.record(tmp_path))
    parameters = {"policy.bundle": bundle, "policy.use_sim_time": True, "policy.k": 2, "policy.max_age": 1.0}
    parameters |= {f"policy.{view}_frame": "camera" for view in ("head", "wrist")}
    graph.start(lambda: PolicyNode("policy"), parameters=parameters)
    listener, player = Listener(graph.probe, POLICY), Player(graph.probe, POLICY)
    graph.activate()
    graph.until(lambda: player.connected)
    graph.spin(0.2)
    with ThreadPoolExecutor(1) as pool:  # while the policy hears it
        messages = recording.messages(player.topics, recording.begin, recording.end)
        done = pool.submit(player.play, messages, 1.0, lambda: None)
        graph.until(done.done, 30.0)
    graph.until(lambda: len(listener.said.sets) == 4)
    assert sorted(listener.said.sets) == sorted(recording.said.sets) and not recording.said.malformed
