"""Cameras that show nothing, nothing new or somebody else's picture; a policy that is slow."""

import signal
import threading
import time
from copy import deepcopy

import numpy as np
import pytest
from stack import BRAKE, RESTING, ROWS, SLACK
from vla_mbpo_msgs.msg import GateState

from vla_mbpo.nodes import convert, qos

FROZEN = 0.5  # s; `policy.max_frozen`
FRAME = 0.05  # s
SAID = 1.2  # s; diagnostics come once a second


def play(stack, seconds, change):
    """In place of the frozen head camera: its last picture, changed, beside each wrist picture."""
    graph = stack.graph
    picture, seen = deepcopy(stack.of(qos.HEAD_IMAGE)[-1]), len(stack.of(qos.WRIST_IMAGE))
    say, end = stack.head, time.monotonic() + seconds
    while time.monotonic() < end:
        graph.until(lambda seen=seen: len(stack.of(qos.WRIST_IMAGE)) > seen, 2.0)
        seen = len(stack.of(qos.WRIST_IMAGE))
        picture.header.stamp = stack.of(qos.WRIST_IMAGE)[-1].header.stamp
        say(change(deepcopy(picture), stack))


def same(picture, _):
    return picture


def black(picture, _):
    picture.data = bytes(len(picture.data))
    return picture


def swapped(picture, stack):
    wrist = deepcopy(stack.of(qos.WRIST_IMAGE)[-1])
    wrist.header.stamp = picture.header.stamp
    return wrist


def future(picture, _):
    picture.header.stamp.sec += 60
    return picture


@pytest.fixture
def pictured(survivor):
    if not hasattr(survivor, "head"):
        survivor.graph.listen(qos.HEAD_IMAGE, qos.WRIST_IMAGE)
        survivor.head = survivor.graph.talk(qos.HEAD_IMAGE)
    survivor.until_moving()
    yield survivor
    survivor.signal("head_camera", signal.SIGCONT)
    survivor.until_moving()  # with the camera the motion comes back
    assert survivor.late == 0


@pytest.mark.parametrize(
    ("change", "patience", "complaint"),
    [
        (same, FROZEN, "observation_frozen"),
        (black, 0.0, "observation_contrast"),
        pytest.param(swapped, 0.0, "observation_frame", marks=pytest.mark.slow),
        pytest.param(
            future, 0.0, "active", marks=pytest.mark.slow
        ),  # it has no partner: nothing to look at, and nothing wrong
    ],
    ids=["frozen", "black", "swapped", "future"],
)
def test_camera_shows(pictured, graph_of, change, patience, complaint):
    """No chunk of such a picture: the rows run out, and the policy says why."""
    pictured.signal("head_camera", signal.SIGSTOP)
    limit, begin = patience + ROWS + BRAKE + SLACK + FRAME, time.time()
    play(pictured, limit + SAID, change)
    moving = [
        convert.to_ns(m.header.stamp) / 1e9 - begin
        for m in pictured.of(qos.JOINT_STATES)
        if np.abs(m.velocity).max() > RESTING
    ]
    limit += pictured.paused(begin)
    pictured.record("to rest", (moving[-1], limit))
    assert moving[-1] <= limit
    assert complaint in pictured.complaint("policy")


def test_camera_gap_of_a_second(pictured, graph_of):
    pictured.signal("head_camera", signal.SIGSTOP)
    graph_of.spin(1.0)
    pictured.signal("head_camera", signal.SIGCONT)
    pictured.until_moving()
    ages = [
        convert.to_ns(d.header.stamp) - convert.to_ns(d.observation_stamp)
        for d in pictured.of(qos.GATE_DECISION)
        if d.accepted
    ]
    assert max(ages) < 1.0e9


def test_policy_ten_times_slower(survivor, graph_of):
    """Its rows run out or come too late; nothing late is executed, and it recovers."""
    pid, slow = survivor.pids["policy"], threading.Event()

    def brake():
        while not slow.is_set():
            survivor.signal("policy", signal.SIGSTOP)
            time.sleep(0.09)
            survivor.signal("policy", signal.SIGCONT)
            time.sleep(0.01)

    thread = threading.Thread(target=brake, daemon=True)
    thread.start()
    try:
        graph_of.spin(4.0)
    finally:
        slow.set()
        thread.join()
    assert pid == survivor.up.children()["policy"] and survivor.late == 0
    assert survivor.gate.mode == GateState.AUTONOMOUS
    survivor.until_moving()
