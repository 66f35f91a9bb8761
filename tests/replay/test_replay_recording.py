"""A recorded episode as a replay reads it: what was said, and which messages are put back."""

from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pytest
from rclpy.serialization import deserialize_message
from recordings import POLICY, SAY, Attempt, K, plan, relabel
from sensor_msgs.msg import Image
from std_msgs.msg import String
from vla_mbpo_msgs.msg import CandidateVerdict

from vla_mbpo.cli import main
from vla_mbpo.core.errors import ConfigError
from vla_mbpo.nodes import qos
from vla_mbpo.nodes.convert import to_ns
from vla_mbpo.record import reading
from vla_mbpo.replay.command import span
from vla_mbpo.replay.recording import Recording
from vla_mbpo.replay.said import Said
from vla_mbpo.replay.shadow import due, paced

ALL = {qos.HEAD_IMAGE.name, qos.WRIST_IMAGE.name, qos.JOINT_STATES.name, qos.INSTRUCTION.name}


@pytest.fixture(scope="module")
def attempt(spec):
    made = Attempt(spec, rows=32)
    made.say(qos.INSTRUCTION, String(data=SAY), 0.2)
    made.imagine(1, [CandidateVerdict.SAFE, CandidateVerdict.UNSAFE])
    made.risk(2, alarm=True)
    made.decide(0, 1)
    made.decide(1, 0, "reach")
    return made


@pytest.fixture(scope="module")
def folder(attempt, tmp_path_factory):
    return attempt.record(tmp_path_factory.mktemp("episodes"))


@pytest.fixture(scope="module")
def recording(folder):
    return Recording.read(folder)


def test_what_was_said_is_found_by_its_observation(spec, attempt, recording):
    said = recording.said
    assert list(said.sets) == [attempt.set_id(look) for look in range(4)]
    np.testing.assert_allclose(said.sets[attempt.set_id(2)].positions[K - 1], plan(spec, 2, K - 1)[0])
    assert said.sets[attempt.set_id(0)].version == POLICY
    assert [v.name for v in said.verdicts[attempt.set_id(1)].verdicts] == ["SAFE", "UNSAFE"]
    assert said.risks[attempt.set_id(2)].alarm and said.chosen == {attempt.set_id(0): 1}


def test_pictures_are_those_that_were_looked_at(attempt, recording):
    found = list(recording.messages(ALL, recording.begin, recording.end))
    for view in (qos.HEAD_IMAGE.name, qos.WRIST_IMAGE.name):
        stamps = [to_ns(deserialize_message(data, Image).header.stamp) for _, topic, data in found if topic == view]
        assert stamps == [attempt.set_id(look) for look in range(4)]
    everything = list(recording.messages(ALL, recording.begin, recording.end, everything=True))
    assert len(everything) - len(found) == 2 * (20 + 32 + 1 - 4)


def test_messages_come_in_their_order(recording):
    times = [received for received, _, _ in recording.messages(ALL, recording.begin, recording.end)]
    assert times == sorted(times) and times[0] == recording.begin and times[-1] <= recording.end


def test_what_was_latched_before_the_start_comes_first(recording):
    begin, end = recording.begin + 1_500_000_000, recording.begin + 2_000_000_000
    found = list(recording.messages(ALL, begin, end))
    assert (found[0][0], found[0][1]) == (begin, qos.INSTRUCTION.name)
    assert deserialize_message(found[0][2], String).data == SAY
    assert all(begin <= received <= end for received, _, _ in found)


def test_looks_of_a_span_are_those_whose_pictures_came_in_it(attempt, recording):
    ids = [attempt.set_id(look) for look in range(4)]
    assert recording.looks(recording.begin, recording.end) == set(ids)
    assert recording.looks(ids[1], ids[2]) == set(ids[1:3]) and recording.looks(ids[1] + 1, ids[3] - 1) == {ids[2]}


def test_answers_are_waited_for_as_they_came_then(attempt, recording):
    """A message that came after an answer then is held back until the answer comes, or for a while."""
    first, second = (attempt.set_id(look) for look in (0, 1))
    answers = [one for one in due(recording, ("policy", "imagination"), first) if one[2] in (first, second)]
    sets, verdicts = attempt.stamp(0.5), attempt.stamp(8.6)
    later = (verdicts, "verdicts", second)  # it was recorded for this set alone
    assert answers == [(sets, "sets", first), (sets, "verdicts", first), (attempt.stamp(8.5), "sets", second), later]

    now, said = Said(), [(sets, "a", b""), (sets + 1, "b", b"")]
    played = paced(said, [(sets, "sets", first)], now)
    assert next(played) == said[0]
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(next, played)
        assert not wait([held], 0.2).done
        now.sets[first] = recording.said.sets[first]
        assert held.result(5.0) == said[1]


def test_the_file_alone_will_do(folder, recording):
    (file,) = folder.glob("*.mcap")
    assert list(Recording.read(file).said.sets) == list(recording.said.sets)


def test_an_empty_span_is_an_error():
    assert span(0, 10 * 10**9, 2.0, 3.5) == (2 * 10**9, round(3.5e9)) and span(5, 10**9, 0.0, None) == (5, 10**9)
    for start, end in ((-1.0, None), (10.0, None), (2.0, 2.0)):
        with pytest.raises(ConfigError, match="--start|--end"):
            span(0, 10 * 10**9, start, end)


@pytest.mark.parametrize("what", ["nothing", "recording", "damaged", "other definitions", "another robot"])
def test_what_cannot_be_replayed_is_one_line(spec, tmp_path, capsys, monkeypatch, what):
    words = {"nothing": "expected", "recording": "vla-mbpo record repair", "damaged": "readable recording",
             "other definitions": "message type", "another robot": "joints"}  # fmt: skip
    folder = tmp_path if what == "nothing" else Attempt(spec, rows=16).record(tmp_path)
    if what == "recording":
        relabel(folder, state="recording")
    elif what == "damaged":
        (file,) = folder.glob("*.mcap")
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif what == "other definitions":
        monkeypatch.setattr(reading, "definition", lambda kind, share: "float64 something_else\n")
    robot = ("--robot", "ur5e") if what == "another robot" else ()
    assert main(["replay", str(folder), "--bundle", "sft_full", *robot]) == 64
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("vla-mbpo: error: ") and words[what] in line
