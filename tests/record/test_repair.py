"""What a recorder that was killed leaves, and what can be made of damaged bags."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from record_samples import attempt, by_mcap, by_rosbags, by_stream, end, labels, only, recorder, said

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.record import repair as repair_module
from vla_mbpo.record.command import run
from vla_mbpo.record.index import scan
from vla_mbpo.record.message import Decided
from vla_mbpo.record.repair import KEYS, read_labels, repair

KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from record_samples import attempt, recorder, said
made = recorder(Path({root!r}))
made.put(attempt(True))
number = 0
while True:
    now = time.time_ns()
    made.put(said(str(now), now))
    time.sleep(0.005)
"""


@pytest.fixture
def killed(tmp_path):
    """The folder of an episode whose recorder was killed, and when [ns]."""
    code = KILLED.format(tests=str(Path(__file__).parent), root=str(tmp_path / "out"))
    process = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 30.0
    while not list(tmp_path.glob("out/*/episode.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(2.0)
    process.send_signal(signal.SIGKILL)
    when = time.time_ns()
    process.wait()
    return only(tmp_path / "out"), when


def test_a_killed_recorder_loses_less_than_a_second_and_the_file_opens(killed):
    folder, when = killed
    assert labels(folder)["state"] == "recording"
    found = by_stream(folder / labels(folder)["bag"])
    assert 0 <= when - found[-1].log_time < 10**9 and len(found) > 100


def test_after_repair_both_libraries_read_what_a_killed_recorder_wrote(killed):
    folder, _ = killed
    found = by_stream(folder / labels(folder)["bag"])
    assert repair(folder)
    content = labels(folder)
    assert content["state"] == "bad" and "interrupted" in content["reasons"][0]
    assert len(by_rosbags(folder)) == len(by_mcap(folder / content["bag"])) == len(found)
    assert not repair(folder)  # once is enough


def test_labels_of_a_killed_recorder_are_those_of_its_last_seconds(tmp_path):
    made = recorder(tmp_path)
    made.put(attempt(True))
    for number in range(40):
        made.put(said("", note=Decided(number, 0, True)))
        time.sleep(0.05)
    content = labels(only(tmp_path))
    assert content["state"] == "recording" and content["decisions"]["accepted"] >= 10
    end(made)


def test_what_is_being_recorded_is_not_repaired(tmp_path):
    made = recorder(tmp_path)
    made.ask("start").result(5.0)
    with pytest.raises(ConfigError, match="being recorded"):
        repair(only(tmp_path))
    made.stop(5.0)


@pytest.mark.parametrize("bag", ["../letter.txt", "letter.txt"])
def test_repair_writes_to_no_file_that_is_not_the_episodes_bag(tmp_path, bag):
    """Labels that named another file had it overwritten with an empty recording."""
    episode = _labelled(tmp_path, bag=bag)
    (episode / bag).write_text("Dear all")
    with pytest.raises(ConfigError, match="bag"):
        repair(episode)
    assert (episode / bag).read_text() == "Dear all"


def _labelled(tmp_path, **other):
    """An episode whose labels say something else in one place."""
    made = recorder(tmp_path)
    made.put(attempt(True))
    end(made)
    episode = only(tmp_path)
    (episode / "episode.json").write_text(json.dumps(labels(episode) | other))
    return episode


@pytest.mark.parametrize("name", sorted(KEYS))
def test_labels_that_lack_something_are_refused_by_its_name(tmp_path, name):
    """Only state and bag were looked at; the rest ended `record info` and reports with a traceback."""
    with pytest.raises(ConfigError, match=f"episode.json: {name}: None"):
        read_labels(_labelled(tmp_path, **{name: None}))


def test_unreadable_labels_of_one_episode_hide_no_other(tmp_path, capsys):
    episode = _labelled(tmp_path, topics=None)
    (tmp_path / "another").mkdir()
    (tmp_path / "another" / "episode.json").write_text(json.dumps(labels(episode) | {"topics": {}}))
    arguments = type("Arguments", (), {"what": "info", "folders": [tmp_path], "json": False})
    assert run(arguments) == 1
    said = capsys.readouterr()
    assert said.out.startswith("another") and f"{episode.name}/episode.json: topics: None" in said.err


def _bag(root, count, size):
    """The bag of an attempt with so many messages of ``size`` random bytes in hex."""
    made = recorder(root)
    made.put(attempt(True))
    for number in range(count):
        made.put(said(f"{number} " + os.urandom(size).hex()))
        time.sleep(0.005)
    end(made)
    return only(root) / labels(only(root))["bag"]


@pytest.mark.parametrize("cut", [0.0, 0.2, 0.5, 0.9, 0.999])
def test_a_file_that_was_cut_anywhere_can_be_repaired(tmp_path, cut):
    path = _bag(tmp_path, 60, 2000)
    os.truncate(path, int(cut * path.stat().st_size))
    assert repair(only(tmp_path))
    assert len(by_rosbags(only(tmp_path))) <= 62


@pytest.fixture
def long(tmp_path):
    """The bag of an episode of several chunks, these, and the times of its messages [ns]."""
    path = _bag(tmp_path, 150, 20_000)
    chunks, times = scan(path).chunks, [message.log_time for message in by_stream(path)]
    assert len(chunks) > 3
    return path, chunks, times


def overwrite(path, at, content=b"\xfe" * 4):
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


def without(times, chunk):
    left = [at for at in times if not chunk.message_start_time <= at <= chunk.message_end_time]
    assert 0 < len(left) < len(times)
    return len(left)


def cut_behind(path, chunk):
    os.truncate(path, chunk.chunk_start_offset + chunk.chunk_length + chunk.message_index_length)


def assert_repaired(path, count):
    assert repair(path.parent) and "damaged" in labels(path.parent)["reasons"][0]
    assert len(by_rosbags(path.parent)) == len(by_mcap(path)) == count
    assert not repair(path.parent)


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("which", [0, 1, -2])
@pytest.mark.parametrize("part", ["data", "index", "length", "kind"])
def test_one_damaged_chunk_costs_what_is_in_it(long, which, cut, part):
    """All that followed it was cut off."""
    path, chunks, times = long
    damaged = chunks[which]
    places = {"data": damaged.chunk_length // 2, "index": damaged.chunk_length + 11, "length": 2, "kind": 0}
    overwrite(path, damaged.chunk_start_offset + places[part], b"\x7d" if part == "kind" else b"\xfe" * 4)
    if cut:
        cut_behind(path, chunks[-1])
    if cut and which == 0 and part != "index":  # only the first chunk and the end have what is said of the topics
        assert repair(path.parent) and not repair(path.parent)
        assert path.stat().st_size > chunks[-1].chunk_start_offset + chunks[-1].chunk_length  # nothing is cut off
    else:
        assert_repaired(path, without(times, damaged))


def test_a_repair_that_is_cut_short_leaves_nothing_that_counts_as_complete(long, monkeypatch):
    """Incident: index first, labels last. In between the episode was complete, and the next repair saw a whole file."""
    path, chunks, times = long
    overwrite(path, chunks[1].chunk_start_offset + chunks[1].chunk_length // 2)
    monkeypatch.setattr(repair_module, "write_metadata", lambda *_: _raise(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        repair(path.parent)
    assert labels(path.parent)["state"] != "complete"
    monkeypatch.undo()
    assert_repaired(path, without(times, chunks[1]))


def _raise(error):
    raise error


def test_the_command_repairs_and_tells(killed, capsys):
    folder, _ = killed
    arguments = type("Arguments", (), {"what": "repair", "folders": [folder.parent], "json": False})
    assert run(arguments) == 0
    output = capsys.readouterr().out
    assert f"{folder.name}: repaired" in output and "bad, no outcome" in output
