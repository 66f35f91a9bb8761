"""The recorder's thread: what is on disk afterwards, whatever happens to it."""

import json
import os
import time
from dataclasses import replace

import pytest
from record_samples import (
    SMALL,
    STATE,
    WORDS,
    attempt,
    by_mcap,
    by_rosbags,
    cdr,
    end,
    labels,
    only,
    recorder,
    said,
)

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.record import bag as bag_module
from vla_mbpo.record.episode import Episode
from vla_mbpo.record.intake import Intake
from vla_mbpo.record.message import Attempt


def an_attempt(made, *between, outcome="succeeded"):
    """Give an attempt to a recorder, and end it."""
    for message in (attempt(True), *between):
        made.put(message)
    end(made, outcome)


def test_an_attempt_is_an_episode_that_both_libraries_read(tmp_path):
    made = recorder(tmp_path)
    made.put(attempt(True))
    for number in range(500):
        made.put(said(f"word {number}"))
    end(made)
    episode = only(tmp_path)
    expected = ["", *(f"word {number}" for number in range(500)), ""]
    assert [text for topic, text in by_rosbags(episode) if topic == "/words"] == expected
    content = labels(episode)
    assert by_mcap(episode / content["bag"]) == [("/words", cdr(text)) for text in expected]
    assert (content["state"], content["reasons"], content["topics"]["/words"]["recorded"]) == ("complete", [], 502)


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "aborted"])
def test_the_outcome_is_a_label(tmp_path, outcome):
    an_attempt(recorder(tmp_path), outcome=outcome)
    assert labels(only(tmp_path))["outcome"] == outcome


def test_an_attempt_that_the_recorder_did_not_see_end_is_aborted(tmp_path):
    made = recorder(tmp_path)
    made.put(attempt(True))
    made.stop(5.0)
    assert labels(only(tmp_path))["outcome"] == "aborted"


def test_an_attempt_that_is_cut_off_has_nothing_of_the_one_before(tmp_path):
    """The second before it held the end of the attempt before, of the same task: it went well, and complete."""
    made = recorder(tmp_path, replace(SMALL, lead=1.0))
    now = time.time_ns()
    ended = Attempt(now, 1, False, "open the drawer", "succeeded", "succeeded", ("drop",))
    for message in (attempt(True), said("", now, note=ended), attempt(True)):
        made.put(message)
    made.stop(5.0)
    told = [labels(file.parent) for file in tmp_path.glob("*/episode.json")]
    first, second = sorted(told, key=lambda content: content["outcome"], reverse=True)
    assert (first["outcome"], first["cost_events"]) == ("succeeded", ["drop"])
    assert (second["outcome"], second["message"]) == ("aborted", "the recorder was stopped")
    assert second["cost_events"] == []


def test_nothing_is_recorded_without_an_attempt_or_an_order(tmp_path):
    made = recorder(tmp_path)
    made.put(said("a"))
    made.stop(5.0)
    assert list(tmp_path.iterdir()) == []


def test_an_episode_begins_with_what_came_shortly_before(tmp_path):
    made = recorder(tmp_path, replace(SMALL, lead=1.0))
    now = time.time_ns()
    for message in (said("long ago", now - 3 * 10**9), said("just now", now - 10**8)):
        made.put(message)
    an_attempt(made)
    assert [text for _, text in by_rosbags(only(tmp_path))] == ["just now", "", ""]


def test_an_episode_holds_the_state_that_was_latched_before(tmp_path):
    made = recorder(tmp_path)
    for text in ("old", "new"):
        made.put(said(text, time.time_ns() - 9 * 10**9, STATE))
    an_attempt(made)
    assert [text for topic, text in by_rosbags(only(tmp_path)) if topic == "/state"] == ["new"]


def test_the_last_seconds_can_be_saved(tmp_path):
    made = recorder(tmp_path, replace(SMALL, ring_seconds=5.0))
    now = time.time_ns()
    for message in (said("long ago", now - 7 * 10**9), said("lately", now - 3 * 10**9), said("now")):
        made.put(message)
    name = made.ask("save").result(5.0)
    made.stop(5.0)
    assert [text for _, text in by_rosbags(tmp_path / name)] == ["lately", "now"]


def test_the_last_seconds_can_be_saved_during_an_attempt(tmp_path):
    made = recorder(tmp_path)
    made.put(attempt(True))
    saved = made.ask("save", instruction="looks odd").result(5.0)
    end(made)
    kinds = {path.parent.name: json.loads(path.read_text())["kind"] for path in tmp_path.glob("*/episode.json")}
    assert kinds.pop(saved) == "saved" and set(kinds.values()) == {"attempt"}


def test_an_episode_can_be_started_stopped_and_labelled_by_order(tmp_path):
    made = recorder(tmp_path)
    name = made.ask("start", instruction="by hand").result(5.0)
    made.put(said("a"))
    assert made.ask("stop", outcome="failed").result(5.0) == name
    assert (labels(tmp_path / name)["outcome"], labels(tmp_path / name)["instruction"]) == ("failed", "by hand")
    made.ask("label", outcome="succeeded").result(5.0)
    made.stop(5.0)
    assert labels(tmp_path / name)["outcome"] == "succeeded"


@pytest.mark.parametrize(
    ("what", "words"),
    [("stop", {}), ("label", {"outcome": "great"}), ("label", {"outcome": "failed", "episode": "../x"})],
)
def test_an_order_that_cannot_be_carried_out_says_why(tmp_path, what, words):
    made = recorder(tmp_path)
    with pytest.raises(ConfigError):
        made.ask(what, **words).result(5.0)
    made.stop(5.0)


@pytest.mark.parametrize(
    ("text", "named"), [("{", "JSONDecodeError"), ("[]", "list"), ("{}", "state")], ids=["cut off", "a list", "empty"]
)
def test_labels_that_are_damaged_are_named_at_once(tmp_path, text, named):
    """Incident: who gave such an episode an outcome was told ten seconds later that the disk is busy."""
    made = recorder(tmp_path)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "episode.json").write_text(text)
    with pytest.raises(ConfigError, match=rf"episode\.json.*{named}.*expected"):
        made.ask("label", outcome="failed", episode="old").result(5.0)
    made.stop(5.0)


def test_a_gap_in_a_writers_numbers_makes_the_episode_bad(tmp_path):
    an_attempt(recorder(tmp_path), said("a", lost=2))
    content = labels(only(tmp_path))
    assert content["state"] == "bad" and "2 messages lost on the way: /words 2" in content["reasons"]


def test_a_recorder_that_joins_late_says_so(tmp_path):
    made = recorder(tmp_path)
    begun = attempt(True, stamp=time.time_ns() - 5 * 10**9)
    made.put(replace(begun, received=time.time_ns()))
    made.stop(5.0)
    assert "joined 5.0 s after" in labels(only(tmp_path))["reasons"][0]


def test_a_full_queue_drops_whole_messages_and_never_waits():
    intake = Intake(100)
    taken = [intake.put(replace(said(""), data=bytes(60))) for _ in range(5)]
    items, dropped = intake.take(0.0)
    assert taken == [True, False, False, False, False] and len(items) == 1 and dropped == {WORDS: 4}


def test_a_disk_that_is_slower_than_the_messages_makes_the_episode_bad(tmp_path, monkeypatch):
    flush = bag_module.WholeFile.flush
    monkeypatch.setattr(bag_module.WholeFile, "flush", lambda self: (time.sleep(0.3), flush(self))[1])
    made = recorder(tmp_path, replace(SMALL, queue_bytes=20_000))
    made.put(attempt(True))
    waited = 0.0
    for number in range(1000):
        begin = time.monotonic()
        made.put(said(f"{number}" + "x" * 200))
        waited = max(waited, time.monotonic() - begin)
        time.sleep(0.0005)
    end(made)
    content = labels(only(tmp_path))
    assert content["state"] == "bad" and content["topics"]["/words"]["dropped"] > 0
    assert waited < 0.2  # s; the disk took 0.3 s each time
    assert len(by_rosbags(only(tmp_path))) == content["topics"]["/words"]["recorded"]


def test_a_full_disk_makes_the_episode_bad_and_leaves_a_whole_file(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(bag_module.os, "write", lambda file, data: _full(file, data, write))
    made = recorder(tmp_path)
    made.put(attempt(True))
    for _ in range(60):  # 2 kB each: several flushes
        made.put(said(os.urandom(2000).hex()))
        time.sleep(0.005)
    for _ in range(400):
        made.put(said(os.urandom(2000).hex()))
    end(made)
    episode = only(tmp_path)
    content = labels(episode)
    assert content["state"] == "bad" and any("No space left" in reason for reason in content["reasons"])
    counts = content["topics"]["/words"]
    assert counts["unwritten"] > 0 and counts["recorded"] > 0
    assert len(by_rosbags(episode)) == counts["recorded"]


def _full(file, data, write, size=300_000):
    """A disk that takes a part of what does not fit any more."""
    room = size - os.fstat(file).st_size if size else 0
    if room <= 0:
        raise OSError(28, "No space left on device")
    return write(file, data[:room])


def test_on_a_file_system_that_is_full_the_episode_needs_no_repair(small_disk):
    made = recorder(small_disk)
    made.put(attempt(True))
    for number in range(6000):  # 12 MB, half of it after compression
        made.put(said(f"{number} " + os.urandom(1000).hex()))
        time.sleep(0.0005)
    end(made)
    content = labels(only(small_disk))
    assert content["state"] == "bad" and any("No space left" in reason for reason in content["reasons"])
    assert len(by_rosbags(only(small_disk))) == content["topics"]["/words"]["recorded"] > 100


def test_no_episode_begins_on_a_disk_that_is_almost_full(tmp_path):
    said_so = []
    made = recorder(tmp_path, replace(SMALL, free_bytes=10**18), said_so.append)
    made.put(attempt(True))
    made.stop(5.0)
    assert list(tmp_path.iterdir()) == [] and "disk full" in made.warning() and "disk full" in said_so[0]


def warned(made):
    """What the recorder says is wrong, as soon as it says so."""
    deadline = time.monotonic() + 5.0
    while not made.warning() and time.monotonic() < deadline:
        time.sleep(0.01)
    return made.warning()


def test_a_disk_that_vanishes_during_an_episode_does_not_end_the_recorder(tmp_path):
    """Incident: it was unplugged; the thread died of that without a word, and no order was answered any more."""
    disk, away = tmp_path / "disk", tmp_path / "away"
    made = recorder(disk)
    name = made.ask("start").result(5.0)
    disk.rename(away)
    assert "No such file" in warned(made)
    assert made.ask("stop").result(5.0) == name
    with pytest.raises(OSError, match="out of reach"):
        made.ask("start").result(5.0)
    away.rename(disk)
    assert made.ask("start").result(5.0)
    made.stop(5.0)


def test_an_error_between_two_messages_does_not_end_the_recorder(tmp_path, monkeypatch):
    """Incident: only what messages and orders did was guarded, and not the look after the episode."""
    made = recorder(tmp_path)
    made.ask("start").result(5.0)
    monkeypatch.setattr(Episode, "flush", lambda self, sync: [][0])
    assert "IndexError" in warned(made) and made.alive
    assert made.ask("stop").result(5.0)
    made.stop(5.0)


def test_an_episode_for_which_there_is_no_room_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(bag_module.os, "posix_fallocate", lambda *_: _full(-1, b"", None, 0))
    made = recorder(tmp_path)
    made.put(attempt(True))
    made.stop(5.0)
    assert list(tmp_path.iterdir()) == [] and made.warning()
