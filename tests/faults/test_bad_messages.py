"""Wrong, repeated and foreign messages while the arm moves: what is refused, and that nothing else happens.

The forged sets are made from the policy's own last one, with the stamp of now, so that only what is forged is wrong.
"""

import time
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from sensor_msgs.msg import JointState
from stack import BRAKE, RESTING, SLACK
from vla_mbpo_msgs.msg import ApprovedChunk, GateState, TeleopCommand

from vla_mbpo.nodes import convert, qos

ROW, JOINT = 8, 6


def positions(chunk):
    return np.array(chunk.positions).reshape(chunk.horizon, -1)


def put(value):
    def forge(chunk):
        rows = positions(chunk)
        rows[ROW, JOINT] = value
        chunk.positions = convert.to_doubles(rows)

    return forge


def add(rows, value):
    def forge(chunk):
        changed = positions(chunk)
        changed[rows, JOINT] += value
        chunk.positions = convert.to_doubles(changed)

    return forge


def cut(chunk):
    chunk.positions = chunk.positions[:-1]


def fewer_joints(chunk):
    chunk.joint_names = chunk.joint_names[:-1]
    chunk.positions = convert.to_doubles(positions(chunk)[:, :-1])


def longer(chunk):
    rows = positions(chunk)
    chunk.horizon += 1
    chunk.positions = convert.to_doubles(np.vstack([rows, rows[-1:]]))
    chunk.gripper = convert.to_doubles([*chunk.gripper, chunk.gripper[-1]])


def stamped(seconds):
    def forge(chunk):
        stamp = convert.to_ns(chunk.observation_stamp) + round(seconds * 1e9)
        chunk.observation_stamp = convert.to_time(stamp)

    return forge


def of_type(kind):
    def forge(chunk):
        chunk.action_type = kind

    return forge


def huge(chunk):
    chunk.positions = convert.to_doubles(np.zeros(2_000_000))


FORGERIES = {
    "not a number": (put(np.nan), "finite"),
    "infinite": (put(np.inf), "finite"),
    "denormal": (put(5e-324), "finite"),
    "absurd": (put(1e308), "finite"),
    "spike": (add(ROW, 0.5), "joint_velocity"),
    "jump at the seam": (add(slice(0, 16), 0.4), "join"),
    "far away": (add(slice(0, 16), 1.5), "joint_position joint_velocity join"),
    "too fast": (add(slice(0, 16), 0.3 * np.arange(16)), "joint_velocity joint_position"),
    "a number missing": (cut, "message"),
    "a joint missing": (fewer_joints, "format"),
    "a row too many": (longer, "format"),
    "old": (stamped(-3.0), "order"),
    "from the future": (stamped(3.0), "age"),
    "unknown type": (of_type(9), "message"),
    "another type": (of_type(3), "message format"),
}


def forged(stack, forge):
    """The policy's last set, now, with every candidate forged."""
    made = deepcopy(stack.of(qos.ACTION_CHUNKS)[-1])
    now = time.time_ns()
    made.chunk_set_id, made.observation_stamp = now, convert.to_time(now)
    for chunk in made.chunks:
        chunk.chunk_set_id, chunk.observation_stamp = now, convert.to_time(now)
        chunk.expiry = convert.to_time(now + 800_000_000)
        measured = stack.of(qos.JOINT_STATES)[-1].position[:7]
        rows = np.array(measured) + positions(chunk) - positions(chunk)[0]
        chunk.reference, chunk.positions = convert.to_doubles(measured), convert.to_doubles(rows)
        forge(chunk)
    made.observation_stamp = made.chunks[0].observation_stamp
    return made


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_chunk(survivor, graph_of, name):
    """Refused with a typed reason by each candidate; the policy's own motion goes on."""
    forge, checks = FORGERIES[name]
    say, message = graph_of.talk(qos.ACTION_CHUNKS), forged(survivor, forge)
    say(message)
    decided = []

    def known():
        decided[:] = [d for d in survivor.of(qos.GATE_DECISION) if d.chunk_set_id == message.chunk_set_id]
        whole = decided and decided[0].reasons and decided[0].reasons[0].check == "order"  # nobody looks further
        return whole or len(decided) == len(message.chunks)

    graph_of.until(known, 3.0)
    assert not any(d.accepted for d in decided)
    assert {d.reasons[0].check for d in decided} <= set(checks.split()), [d.reasons[0].text for d in decided]
    survivor.until_moving(5.0)
    assert survivor.late == 0 and survivor.gate.mode == GateState.AUTONOMOUS


def test_repeated_and_reordered_chunks(survivor, graph_of):
    """Two policies at once, or a network that repeats: what was there already is refused."""
    say, ids = graph_of.talk(qos.ACTION_CHUNKS), []
    end = time.monotonic() + 2.0
    while time.monotonic() < end:
        old = survivor.of(qos.ACTION_CHUNKS)[-1 - len(ids) % 2]
        ids.append(old.chunk_set_id)
        say(old)
        graph_of.spin(0.05)
    accepted = [d.chunk_set_id for d in survivor.of(qos.GATE_DECISION) if d.accepted]
    assert len(accepted) == len(set(accepted))
    assert any(d.reasons[0].check == "order" for d in survivor.of(qos.GATE_DECISION) if d.reasons)
    survivor.until_moving(5.0)
    assert survivor.late == 0


def test_second_source_of_approved_chunks(survivor, graph_of):
    """The gate hears what the driver hears: autonomy ends."""
    say = graph_of.talk(qos.APPROVED_CHUNK)
    survivor.until_moving()
    foreign = deepcopy(survivor.of(qos.APPROVED_CHUNK)[-1])
    foreign.candidate += 1
    say(foreign)
    survivor.time_to_rest(BRAKE + SLACK)
    graph_of.until(lambda: survivor.gate.mode == GateState.HOLD, 1.0)
    assert "another publisher" in survivor.gate.reason
    graph_of.spin(1.2)


def test_another_publisher_on_the_controllers_topic(survivor, graph_of):
    """The driver hears what the controller hears: it stops, and takes no rows while it is not alone."""
    other = graph_of.talk(qos.TRAJECTORY)
    graph_of.listen(qos.TRAJECTORY)
    survivor.until_moving()
    foreign = deepcopy(survivor.of(qos.TRAJECTORY)[-1])
    foreign.header.stamp.nanosec ^= 1
    other(foreign)
    survivor.time_to_rest(BRAKE + SLACK)
    survivor.until_moving()  # alone again


def test_joint_states_played_back_from_a_recording(survivor, graph_of):
    """Old stamps are no news, whatever they say."""
    say, rejected = graph_of.talk(qos.JOINT_STATES), len([d for d in survivor.of(qos.GATE_DECISION) if not d.accepted])
    recording = deepcopy(survivor.of(qos.JOINT_STATES)[-1])
    recording.header.stamp.sec -= 3600
    recording.position = [x + 0.5 for x in recording.position]
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        say(recording)
        graph_of.spin(0.01)
    survivor.until_moving(5.0)
    reasons = [d.reasons[0].check for d in survivor.of(qos.GATE_DECISION) if not d.accepted][rejected:]
    assert "measured_state" not in reasons and "reference" not in reasons and survivor.late == 0


def test_joint_states_that_are_no_numbers(survivor, graph_of):
    """The driver cannot know where the arm is: it stops, and goes on when it does."""
    say = graph_of.talk(qos.JOINT_STATES)
    survivor.until_moving()
    broken = JointState(name=survivor.of(qos.JOINT_STATES)[-1].name)
    broken.position = broken.velocity = [float("nan")] * len(broken.name)
    del survivor.of(qos.JOINT_STATES)[:-1]

    def play(seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            broken.header.stamp = convert.to_time(time.time_ns() + 5_000_000)
            say(broken)
            graph_of.spin(0.005)

    play(BRAKE + SLACK)
    true = [m for m in survivor.of(qos.JOINT_STATES) if np.isfinite(m.velocity).all()]
    assert np.abs(true[-1].velocity).max() < RESTING
    survivor.move()


def with_huge(stack):
    message = forged(stack, lambda chunk: None)
    huge(message.chunks[0])
    return message


@pytest.mark.parametrize("topic", [qos.ACTION_CHUNKS, qos.APPROVED_CHUNK, qos.TELEOP_COMMAND])
def test_oversized_message(survivor, graph_of, topic):
    """Dropped or refused, with bounded memory; the gate stays awake."""
    pid, say = survivor.pids["gate"], graph_of.talk(topic)
    before = memory(pid)
    huge_message = {
        "ActionChunkSet": lambda: with_huge(survivor),
        "ApprovedChunk": lambda: ApprovedChunk(positions=convert.to_doubles(np.zeros(2_000_000))),
        "TeleopCommand": lambda: TeleopCommand(deadman=True, joint_velocities=convert.to_doubles(np.zeros(2_000_000))),
    }[topic.type.__name__]()
    if topic is qos.TELEOP_COMMAND:  # else it is too old, or its deadman was never let go, before anybody looks at it
        huge_message.header.stamp = convert.to_time(time.time_ns())
        say(TeleopCommand(header=huge_message.header))
        graph_of.spin(0.05)
    told = len(survivor.of(qos.GATE_STATE))
    for turn in range(12):  # a busy machine carries a large message for longer than a person's command is fresh
        if topic is qos.TELEOP_COMMAND:
            huge_message.header.stamp = convert.to_time(time.time_ns())
        say(huge_message)
        graph_of.spin(0.3)
        taken = any(GateState.TELEOP == state.mode for state in survivor.of(qos.GATE_STATE)[told:])
        if turn >= 2 and (taken or topic is not qos.TELEOP_COMMAND):
            break
    assert taken or topic is not qos.TELEOP_COMMAND
    graph_of.spin(1.5)
    assert memory(pid) - before < 300, "MB"
    state = survivor.gate
    assert time.time_ns() - convert.to_ns(state.header.stamp) < 1_000_000_000 and survivor.late == 0


def memory(pid):
    """Resident set [MB]."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
