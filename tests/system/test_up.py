"""`vla-mbpo up`: real processes, real time."""

import signal
import time

import numpy as np
import pytest
from helpers import Up, alive
from std_msgs.msg import Bool

from vla_mbpo.nodes import convert, qos

SAY = "press the button"
NODES = {"sim", "head_camera", "wrist_camera", "arm_driver", "gate", "policy", "task", "lifecycle_manager"}


@pytest.fixture
def up(tmp_path, bundle):
    started = []

    def start(*arguments, with_bundle=True):
        chosen = ("--bundle", str(bundle)) if with_bundle else ()
        started.append(Up(tmp_path / f"up{len(started)}.log", "--headless", *chosen, *arguments))
        return started[-1]

    yield start
    for process in started:
        process.close()


def stamps(messages):
    return np.array([convert.to_ns(m.header.stamp) for m in messages])


def test_a_task_in_real_time(up, graph):
    """K = 8: from observation to first commanded row in 150 ms, joint states at 100 Hz, rows never late."""
    graph.start()
    graph.listen(qos.APPROVED_CHUNK, qos.TRAJECTORY, qos.JOINT_STATES, qos.COMMITMENT, qos.ACTION_CHUNKS)
    process = up("--task", SAY, "--timeout", "6")
    graph.until(lambda: process.process.poll() is not None, 60.0)
    assert process.wait(1.0) == 2, process.output  # this bundle never presses it
    assert "[up] timed out: no success within 6 s" in process.output
    assert "chunks" in process.output and "Traceback" not in process.output

    approved, commands = graph.heard[qos.APPROVED_CHUNK.name], stamps(graph.heard[qos.TRAJECTORY.name])
    assert len(approved) >= 10
    assert {len(s.chunks) for s in graph.heard[qos.ACTION_CHUNKS.name]} == {8}
    latency = []
    for message in approved:
        after = commands[commands > convert.to_ns(message.header.stamp)]
        if len(after):
            latency.append((after[0] - convert.to_ns(message.observation_stamp)) / 1e6)
    assert np.percentile(latency, 95) <= 150.0, latency
    assert [m.committed_rows for m in approved[1:6]] == [3] * 5
    joints = stamps(graph.heard[qos.JOINT_STATES.name])
    assert len(joints) / ((joints[-1] - joints[0]) / 1e9) > 90.0
    last = graph.heard[qos.COMMITMENT.name][-1]
    assert last.rows_executed_late == 0 and last.rows_executed > 80


def test_words_that_the_policy_does_not_know_are_refused(up):
    process = up("--task", "juggle the cubes")
    assert process.wait(40.0) == 4
    assert "[up] refused: instruction: 'juggle the cubes' is not valid; unknown words" in process.output


def test_an_estop_ends_the_task(up, graph):
    graph.start()
    graph.listen(qos.COMMITMENT)
    process = up("--task", SAY)
    moving = graph.heard[qos.COMMITMENT.name]
    graph.until(lambda: bool(moving) and moving[-1].chunk_set_id > 0, 40.0)
    graph.talk(qos.ESTOP)(Bool(data=True))
    graph.until(lambda: process.process.poll() is not None, 10.0)
    assert process.wait(1.0) == 3
    assert "[up] stopped: the gate is in ESTOP" in process.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_behind(up, graph, number):
    graph.start()
    graph.listen(qos.READY)
    process = up("--k", "2", "--set", "policy.seed=5")
    graph.until(lambda: bool(graph.heard[qos.READY.name]), 40.0)
    children = process.children()
    assert set(children) == NODES
    code, seconds = process.interrupt(number)
    assert seconds < 2.0, process.output
    assert code == (-9 if number == signal.SIGKILL else 0)
    time.sleep(0.3)
    assert not alive(children.values())
    assert "Traceback" not in process.output


def test_a_second_stack_on_the_same_domain_is_refused(up, graph):
    graph.start()
    graph.listen(qos.READY)
    up()
    graph.until(lambda: bool(graph.heard[qos.READY.name]), 40.0)
    second = up()
    assert second.wait(20.0) == 64
    (line,) = second.output.splitlines()
    assert line.startswith("vla-mbpo: error: ROS_DOMAIN_ID") and "already has a" in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "gate.vetting.imagination=on"], ["gate.vetting.imagination", "'on'", "off"]),
        (["--k", "99"], ["policy.k", "99", "1 to 64"]),
        (["--set", "nobody.x=1"], ["--set", "nobody", "arm_driver"]),
        (["--set", "gate.x"], ["--set", "node.param=value"]),
        (["--scene", "juggle"], ["task", "juggle", "red_bin"]),
        (["--bundle", "nothing"], ["bundle", "nothing"]),
        (["--robot", "nothing"], ["robot", "nothing", "sim_panda"]),
        (["--timeout", "-1"], ["--timeout"]),
        (["--seed", "many"], ["--seed", "many"]),
        (["--set", "head_camera.size=64"], ["head_camera", "calibration size"]),
    ],
)
def test_a_wrong_configuration_is_one_line(up, arguments, words):
    process = up(*arguments)
    assert process.wait(40.0) == 64
    errors = [line for line in process.output.splitlines() if "error" in line.lower() and "ros" not in line[:12]]
    lines = [line for line in process.output.splitlines() if line.startswith("vla-mbpo: error: ")]
    assert len(lines) == 1, errors
    for word in words:
        assert word in lines[0]
    assert "Traceback" not in process.output
