"""A policy behind an openpi-compatible server: what it is asked, and what comes of each way in which it can fail."""

import gc
import signal
import threading
import time

import foreign_server
import numpy as np
import pytest
from foreign_server import DESCRIPTION, ROWS, PolicyServer, changed, describe, pack, turning
from websockets.sync.server import serve

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.core.observation import Observation
from vla_mbpo.policy.foreign import link as links
from vla_mbpo.policy.foreign.command import wrap
from vla_mbpo.policy.foreign.errors import NoChunk
from vla_mbpo.policy.sessions import open_policy

NONE = np.zeros((0, 7))


class Bench:
    """Sessions of a server that the test plays."""

    def __init__(self, folder, spec):
        self.folder, self.spec, self.server, self.sessions, self.stamp = folder, spec, PolicyServer(), [], 0

    def session(self, **changes):
        changes = {"server__url": self.server.url, **changes}
        folder = describe(self.folder / str(len(self.sessions)), changed(DESCRIPTION, **changes))
        self.sessions.append(open_policy(wrap(folder, self.spec), self.spec))
        return self.sessions[-1]

    def seen(self):
        self.stamp += 50_000_000
        pictures = np.random.default_rng(self.stamp).integers(0, 255, (2, 96, 96, 3), dtype=np.uint8)
        return Observation(self.stamp, *pictures, self.spec.home, np.zeros(7), 0.04)

    def look(self, session, k=1):
        return session.infer(self.seen(), "push the cube", NONE, NONE[:, 0], k, np.random.default_rng(0))

    def refusal(self, session):
        with pytest.raises(NoChunk) as caught:
            self.look(session)
        return caught.value

    def close(self):
        for session in self.sessions:
            session.close()
        self.server.close()


@pytest.fixture
def bench(tmp_path, spec, monkeypatch):
    monkeypatch.setattr(links, "FIRST_PAUSE", 0.05)
    made = Bench(tmp_path, spec)
    yield made
    made.close()


def until(condition, timeout=10.0):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "condition not met in time"
        time.sleep(0.01)


def test_it_is_asked_as_described_and_its_rows_become_candidates(bench, spec):
    found = bench.look(bench.session())
    (asked,) = bench.server.asked
    assert asked["observation/image"].shape == (64, 64, 3) and asked["observation/wrist_image"].shape == (3, 96, 96)
    assert asked["observation/image"].dtype == np.uint8 and asked["prompt"] == "push the cube"
    np.testing.assert_allclose(asked["observation/state"], [*spec.home, 0.5], atol=1e-6)  # half open
    np.testing.assert_allclose(np.diff(found.positions[0, :, 6]), 0.01, atol=1e-6)
    assert found.positions.shape == (1, 16, 7) and found.features.size == 0
    assert found.gripper[0, 0] == pytest.approx(0.04 + spec.gripper_speed * 0.05)  # opens no faster than it can


def test_keys_with_dots_are_nested_as_aloha_servers_read_them(bench):
    session = bench.session(
        observation__images={"images.cam_high": {"view": "head", "size": 96}},
        observation__state={"observation/state": ["joints", "gripper"], "state.all": ["joints", "velocities"]},
    )
    bench.look(session)
    asked = bench.server.asked[0]
    assert asked["images"]["cam_high"].shape == (96, 96, 3) and asked["state"]["all"].shape == (14,)


def test_one_candidate_unless_the_description_says_more(bench):
    assert len(bench.look(bench.session(), k=8).positions) == 1
    assert len(bench.look(bench.session(server__candidates=3), k=8).positions) == 3
    assert len(bench.look(bench.session(server__candidates=3), k=2).positions) == 2
    assert len(bench.server.asked) == 1 + 3 + 2


def test_candidates_that_come_too_late_are_left_out_and_never_taken_for_later_ones(bench):
    def slow_after_first(asked):
        if len(bench.server.asked) == 2:
            time.sleep(0.5)
        found = turning(asked)
        found["actions"][:, 0] += 0.001 * len(bench.server.asked)
        return found

    bench.server.answer = slow_after_first
    session = bench.session(server__candidates=4, server__answer_within=0.25)
    until(lambda: not session.trouble)
    assert len(bench.look(session, k=4).positions) == 1
    time.sleep(0.5)
    found = bench.look(session, k=1)
    assert found.positions[0, 0, 0] - bench.spec.home[0] == pytest.approx(0.003, abs=1e-6)
    assert session.facts()["stale_answers"] == 1


def test_a_slow_answer_gives_no_chunk_and_is_dropped_when_it_comes(bench):
    def marked(asked):
        number = len(bench.server.asked)
        time.sleep(0.4 if number == 1 else 0.0)
        return {"actions": turning(asked)["actions"] + 0.01 * number}

    bench.server.answer = marked
    session = bench.session(server__answer_within=0.2)
    until(lambda: not session.trouble)
    late = bench.refusal(session)
    assert late.reason == "late" and "0.2 s" in str(late)
    time.sleep(0.4)
    found = bench.look(session)
    assert found.positions[0, 0, 0] - bench.spec.home[0] == pytest.approx(0.02, abs=1e-6)  # of the second question
    assert session.facts() == {"server": bench.server.url, "connections": 1, "stale_answers": 1}


def test_while_an_answer_is_owed_nothing_else_is_asked(bench):
    bench.server.answer = lambda asked: time.sleep(0.7) or turning(asked)
    session = bench.session(server__answer_within=0.1)
    until(lambda: not session.trouble)
    assert [bench.refusal(session).reason for _ in range(3)] == ["late"] * 3
    assert len(bench.server.asked) == 1


def test_a_server_that_stays_silent_is_connected_to_anew(bench, monkeypatch):
    monkeypatch.setattr("vla_mbpo.policy.foreign.openpi.PATIENCE", 0.3)
    bench.server.answer = lambda asked: time.sleep(1.0) if len(bench.server.asked) == 1 else turning(asked)
    session = bench.session(server__answer_within=0.1)
    until(lambda: not session.trouble)
    assert bench.refusal(session).reason == "late"
    until(lambda: session.facts()["connections"] == 2)
    assert len(bench.look(session).positions) == 1


def rows(**cells):
    made = np.zeros((ROWS, 8))
    for place, value in cells.items():
        made[tuple(map(int, place.strip("_").split("_")))] = value
    return made


@pytest.mark.parametrize(
    "answer, reason, text",
    [
        (b"\xc1", "malformed", "msgpack"),
        ({"action": rows()}, "malformed", "no 'actions' among action"),
        ({"actions": rows().tolist()}, "malformed", "list instead of an array"),
        ({"actions": "rows"}, "malformed", "str instead of an array"),
        ({"actions": rows() > 0}, "malformed", "bool instead of an array"),
        (pack({"actions": {b"__ndarray__": True, b"data": b"x", b"dtype": "|O", b"shape": [1]}}), "malformed", "'|O'"),
        ({"actions": rows()[:5]}, "shape", "(5, 8), expected (16, 8)"),
        ({"actions": rows()[None]}, "shape", "(1, 16, 8)"),
        ({"actions": rows(_3_2=np.nan)}, "not_finite", "row 3"),
        ({"actions": rows(_0_7=np.inf)}, "not_finite", "row 0"),
        ({"actions": rows(), "other": np.zeros(200_000)}, "oversized", "1000000 bytes"),
        ("Traceback …\nValueError: no such key", "server_error", "ValueError: no such key"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 12 else "",
)
def test_a_bad_answer_gives_no_chunk_and_says_why_and_the_next_is_good(bench, answer, reason, text):
    session = bench.session()
    bench.server.answer = lambda _: answer
    found = bench.refusal(session)
    assert found.reason == reason and text in str(found)
    bench.server.answer = turning
    until(lambda: not session.trouble)
    assert len(bench.look(session).positions) == 1


def test_an_error_in_the_server_is_reported_by_its_last_line_and_it_is_connected_to_anew(bench):
    def broken(asked):
        raise KeyError("observation/exterior_image_1_left")

    session = bench.session()
    bench.server.answer = broken
    found = bench.refusal(session)
    assert (found.reason, "KeyError: 'observation/exterior_image_1_left'" in str(found)) == ("server_error", True)
    bench.server.answer = turning
    until(lambda: session.facts()["connections"] == 2)
    assert len(bench.look(session).positions) == 1


def test_one_bad_candidate_spoils_the_look(bench):
    session = bench.session(server__candidates=2)
    bad = {"actions": rows(_1_1=np.nan)}
    bench.server.answer = lambda asked: turning(asked) if len(bench.server.asked) == 1 else bad
    with pytest.raises(NoChunk, match="not_finite"):
        bench.look(session, k=2)


def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next_one(bench):
    session = bench.session()
    bench.server.answer = lambda asked: [turning(asked), {"actions": rows()}]
    bench.look(session)
    time.sleep(0.2)
    assert "nobody asked for" in str(bench.refusal(session))
    bench.server.answer = turning
    until(lambda: session.facts()["connections"] == 2)
    np.testing.assert_allclose(bench.look(session).positions[0, 0, :6], bench.spec.home[:6], atol=1e-6)


@pytest.mark.parametrize("first", ["hello", b"\xc1", {"model": "another"}, b"\x81\xa1a\xc6\x00\x20\x00\x00"])
def test_a_server_that_begins_otherwise_is_not_asked(bench, first):
    bench.server.first = first
    session = bench.session(server__expect={"model": "test"}, server__answer_within=0.2)
    assert bench.refusal(session).reason in ("unreachable", "malformed")
    until(lambda: any(word in session.trouble for word in ("text", "msgpack", "another")))
    assert not bench.server.asked


def test_a_first_message_beyond_the_limit_is_not_read(bench):
    bench.server.first = {"model": "x" * 60_000}
    session = bench.session(server__largest_answer=5000, server__answer_within=0.2)
    assert bench.refusal(session).reason == "unreachable"
    until(lambda: "1009" in session.trouble)


def test_a_server_that_takes_nothing_is_cut_off(bench, monkeypatch):
    """Pictures larger than the system's buffers, so that sending itself waits."""
    monkeypatch.setattr("vla_mbpo.policy.foreign.openpi.PATIENCE", 0.6)
    port = bench.server.port
    bench.server.close()
    process = foreign_server.process(port)
    big = {"a": {"view": "head", "size": 2048}, "b": {"view": "wrist", "size": 2048}}
    session = bench.session(observation__images=big, server__answer_within=0.3)
    try:
        until(lambda: not session.trouble)
        process.send_signal(signal.SIGSTOP)
        lost = bench.refusal(session)
        assert lost.reason == "late" and "connected to anew" in str(lost)
    finally:
        process.kill()
        process.wait()


def test_a_killed_server_gives_no_chunks_until_it_is_back(bench, monkeypatch):
    monkeypatch.setattr(links, "LONGEST_PAUSE", 0.3)
    port = bench.server.port
    bench.server.close()
    process = foreign_server.process(port)
    session = bench.session(server__url=f"ws://127.0.0.1:{port}")
    try:
        assert len(bench.look(session).positions) == 1
        process.kill()
        process.wait()
        until(lambda: session.trouble)  # noticed without a question
        session._within = 0.2
        for _ in range(2):
            lost = bench.refusal(session)
            assert lost.reason == "unreachable" and str(port) in str(lost)
        session._within = 5.0
        process = foreign_server.process(port)
        assert len(bench.look(session).positions) == 1  # waits for the connection as long as for an answer
    finally:
        process.kill()
        process.wait()


def test_the_first_question_may_take_longer_than_a_look(bench):
    bench.server.answer = lambda asked: time.sleep(0.4) or turning(asked)
    session = bench.session(server__answer_within=0.05)
    session.try_out(7, 16)
    assert bench.refusal(session).reason == "late"


def test_a_server_that_is_not_there_is_tried_less_and_less_often(bench, monkeypatch):
    bench.server.close()
    session = bench.session(server__answer_within=0.1)
    assert bench.refusal(session).reason == "unreachable"
    until(lambda: session._link._pause > 0.5)
    assert "ConnectionRefusedError" in session.trouble
    monkeypatch.setattr("vla_mbpo.policy.foreign.openpi.PATIENT", 0.1)
    with pytest.raises(ConfigError, match="unreachable"):
        session.try_out(7, 16)


def test_a_redirect_to_another_host_is_not_followed(bench):
    """Incident: who answered on the loopback could send pictures anywhere, whatever ``remote`` said."""
    elsewhere = bench.server

    def away(connection, request):
        response = connection.respond(302, "")
        response.headers["Location"] = elsewhere.url
        return response

    with serve(lambda connection: None, "127.0.0.1", 0, process_request=away) as door:
        threading.Thread(target=door.serve_forever, daemon=True).start()
        session = bench.session(server__url=f"ws://127.0.0.1:{door.socket.getsockname()[1]}", server__answer_within=1.0)
        assert bench.refusal(session).reason == "unreachable"
        door.shutdown()
    assert not elsewhere.asked and not elsewhere.open


def test_a_session_that_nobody_holds_leaves_the_server(bench):
    """Incident: every swap of a release left a thread and a connection behind, for ever."""
    session = bench.session()
    bench.look(session)
    bench.sessions.clear()
    threads = {thread for thread in threading.enumerate() if thread.name == "policy server"}
    del session
    gc.collect()
    until(lambda: not any(thread.is_alive() for thread in threads))
