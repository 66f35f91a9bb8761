"""`vla-mbpo up --record`: attempts of the whole stack as episodes, whatever becomes of the recorder."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers import Up
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from vla_mbpo.nodes import qos
from vla_mbpo.record.repair import repair
from vla_mbpo.training.episodes import find

pytestmark = pytest.mark.slow  # real stacks, one after the other: minutes

SAY = "press the button"
CAMERAS = (qos.HEAD_IMAGE, qos.WRIST_IMAGE, qos.HEAD_INFO, qos.WRIST_INFO)


@pytest.fixture
def up(tmp_path, bundle):
    started = []

    def start(*arguments):
        words = ("--headless", "--bundle", str(bundle), "--record", str(tmp_path / "episodes"), *arguments)
        started.append(Up(tmp_path / "up.log", *words))
        return started[-1]

    yield start
    for process in started:
        process.close()
        print(process.output[-3000:])


def episodes(tmp_path):
    return sorted(path.parent for path in tmp_path.glob("episodes/*/episode.json"))


def labels(folder):
    return json.loads((folder / "episode.json").read_text())


def decoded(folder):
    """Messages by topic, each decoded with the file's own definitions."""
    store, found = get_typestore(Stores.EMPTY), {}
    with Reader(folder) as reader:
        for connection in reader.connections:
            store.register(get_types_from_msg(connection.msgdef.data, connection.msgtype))
        for connection, _, data in reader.messages():
            found.setdefault(connection.topic, []).append(store.deserialize_cdr(data, connection.msgtype))
    return found


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, bundle, ros_domain):
    """Folder of one attempt that runs out of time."""
    folder = tmp_path_factory.mktemp("recording")
    words = ("--task", SAY, "--timeout", "5", "--record", str(folder / "episodes"))
    process = Up(folder / "up.log", "--headless", "--bundle", str(bundle), *words)
    try:
        assert process.wait(90.0) == 2, process.output
    finally:
        process.close()
    (episode,) = episodes(folder)
    return episode


@pytest.fixture(scope="module")
def attempt(recorded):
    """Its labels and messages."""
    return labels(recorded), decoded(recorded)


def test_an_attempt_is_one_episode_with_its_labels(attempt):
    content, _ = attempt
    assert (content["kind"], content["instruction"], content["outcome"]) == ("attempt", SAY, "failed")
    assert len(content["policy_versions"]) == 1 and content["rows"]["executed"] > 20


def test_an_episode_of_which_nothing_is_missing_is_complete(attempt):
    content, _ = attempt
    assert (content["state"], content["reasons"]) == ("complete", [])


def test_every_message_is_decoded_and_counted(attempt):
    content, messages = attempt
    recorded = {topic: row["recorded"] for topic, row in content["topics"].items()}
    assert {topic: len(found) for topic, found in messages.items()} == recorded
    assert all(len(messages[topic.name]) > 50 for topic in CAMERAS)


def test_every_approved_chunk_has_its_decision_and_every_executed_row_its_chunk(attempt):
    _, messages = attempt
    decided = {(m.chunk_set_id, m.candidate) for m in messages[qos.GATE_DECISION.name] if m.accepted}
    approved = {(m.chunk_set_id, m.candidate) for m in messages[qos.APPROVED_CHUNK.name]}
    executed = {m.chunk_set_id for m in messages[qos.COMMITMENT.name]} - {0}
    assert approved and approved <= decided and executed <= {number for number, _ in approved}


def test_the_run_ends_with_its_report(recorded):
    (page,) = recorded.parent.glob("report_*.html")
    text = page.read_text()
    assert recorded.name in text and text.count("<svg viewBox") >= 3


def test_an_attempt_is_read_for_training(recorded):
    (file,) = find([recorded]).files
    with np.load(file) as made:
        assert len(made["at"]) >= 10 and np.isfinite(made["candidates"][:10]).all()
        assert (made["success_row"], made["aborted"], made["human"].any()) == (-1, False, False)


def test_a_replay_of_the_same_policy_says_the_same_again(recorded, bundle, tmp_path):
    out = tmp_path / "replay.json"
    words = ["replay", str(recorded), "--bundle", str(bundle), "--json", str(out)]
    done = subprocess.run([sys.executable, "-m", "vla_mbpo.cli", *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    sets = json.loads(out.read_text())["sets"]
    assert sets["joined"] >= sets["then"] - 2 and sets["only_now"] == 0  # the last look may end with the attempt
    assert sets["same_inputs"] > 0 and sets["first_rad_same_inputs"]["max"] == 0.0
    assert sets["spread_then_rad"]["median"] > 0.0  # other noise would have shown


def under_way(graph, process, tmp_path):
    """The folder of an episode in which the arm moves."""
    graph.listen(qos.COMMITMENT)
    moved = graph.heard[qos.COMMITMENT.name]
    graph.until(lambda: bool(episodes(tmp_path)) and bool(moved) and moved[-1].rows_executed > 10, 60.0)
    graph.spin(1.0)
    return episodes(tmp_path)[0]


def test_a_killed_recorder_leaves_the_arm_in_motion_and_a_file_that_can_be_repaired(up, graph, tmp_path):
    graph.start()
    process = up("--task", SAY, "--timeout", "14")
    first = under_way(graph, process, tmp_path)
    commitments = graph.heard[qos.COMMITMENT.name]
    executed = commitments[-1].rows_executed
    os.kill(process.children()["recorder"], signal.SIGKILL)
    when = time.time_ns()
    graph.until(lambda: commitments[-1].rows_executed > executed + 10, 10.0)
    assert process.wait(60.0) == 2, process.output  # the attempt went on to its end
    assert commitments[-1].rows_executed_late == 0

    assert labels(first)["state"] == "recording" and repair(first)
    assert 0 <= when - labels(first)["end_ns"] < 10**9 and decoded(first)
    again = [labels(folder) for folder in episodes(tmp_path)[1:]]  # it was started again, in the middle
    assert all("joined" in content["reasons"][0] for content in again)


def test_a_recorder_that_stands_still_does_not_touch_motion(up, graph, tmp_path):
    graph.start()
    process = up("--task", SAY, "--timeout", "10")
    under_way(graph, process, tmp_path)
    commitments = graph.heard[qos.COMMITMENT.name]
    recorder = process.children()["recorder"]
    os.kill(recorder, signal.SIGSTOP)
    try:
        executed = commitments[-1].rows_executed
        graph.spin(3.0)
        assert commitments[-1].rows_executed > executed + 10 and commitments[-1].rows_executed_late == 0
    finally:
        os.kill(recorder, signal.SIGCONT)
    assert process.wait(60.0) == 2, process.output
    assert commitments[-1].rows_executed_late == 0


def test_a_full_disk_does_not_touch_motion(up, graph, tmp_path):
    """Nothing may be written from the start."""
    graph.start()
    graph.listen(qos.COMMITMENT)
    process = up("--task", SAY, "--timeout", "6", "--set", "recorder.min_free_mb=1000000")
    graph.until(lambda: process.process.poll() is not None, 90.0)
    assert process.wait(1.0) == 2, process.output
    assert graph.heard[qos.COMMITMENT.name][-1].rows_executed > 10
    assert "disk full" in process.output and not episodes(tmp_path)


def test_a_disk_that_runs_full_in_an_attempt_does_not_touch_motion(small_disk, up, graph, tmp_path):
    graph.start()
    graph.listen(qos.COMMITMENT)
    process = up("--task", SAY, "--timeout", "14", "--set", "recorder.min_free_mb=0")
    graph.until(lambda: process.process.poll() is not None, 90.0)
    assert process.wait(1.0) == 2, process.output
    last = graph.heard[qos.COMMITMENT.name][-1]
    assert last.rows_executed > 60 and last.rows_executed_late == 0
    (episode,) = episodes(tmp_path)
    content = labels(episode)
    assert (content["state"], content["outcome"]) == ("bad", "failed")
    assert any("No space left" in reason for reason in content["reasons"])
    assert {topic: len(found) for topic, found in decoded(episode).items()} == {
        topic: row["recorded"] for topic, row in content["topics"].items() if row["recorded"]
    }


def test_a_folder_that_cannot_be_written_to_is_one_line(up, tmp_path):
    (tmp_path / "episodes").touch()
    process = up()
    assert process.wait(60.0) == 64
    (line,) = [line for line in process.output.splitlines() if line.startswith("vla-mbpo: error: ")]
    assert "recorder.out" in line and "Traceback" not in process.output
