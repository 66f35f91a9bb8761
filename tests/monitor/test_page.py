import http.client
import io
import json
import os
import socket
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.monitor import stopper
from vla_mbpo.monitor.connections import CONNECTIONS, STREAMS
from vla_mbpo.monitor.guard import HEADER
from vla_mbpo.monitor.handler import BODY, BOUNDARY
from vla_mbpo.monitor.picture import ENLARGED, SIDE, compose, enlarge
from vla_mbpo.monitor.server import PageServer

ORDERS = ("engage", "reset", "task", "record/start")


@pytest.fixture
def page():
    stops, orders = [], []

    def order(name, body):
        require(body.get("epoch") != "bad", "epoch", body.get("epoch"), "expected a number")
        orders.append((name, body))
        return body.get("epoch") != 0, f"{name} said so"

    table = {name: lambda body, name=name: order(name, body) for name in ORDERS}
    server = PageServer(0, lambda: stops.append(1), table, tasks={"a": "put <this> there"})
    server.stops, server.taken = stops, orders
    yield server
    server.close()


def port_of(page):
    return page._server.server_address[1]


def ask(page, method, path, body=None, port=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port or port_of(page), timeout=5)
    connection.request(method, path, body, {key.replace("_", "-"): value for key, value in headers.items()})
    return connection.getresponse()


def told(answer):
    return answer.status, json.loads(answer.read())


def order(page, name, body=b"{}", **headers):
    return told(ask(page, "POST", f"/{name}", body, **{HEADER: page.guard.token, **headers}))


@contextmanager
def viewing(page, path):
    """A viewer; what it is sent can be read."""
    connection = socket.create_connection(("127.0.0.1", port_of(page)), timeout=5)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port_of(page)}\r\n\r\n".encode())
    yield connection
    connection.close()


def read_until(connection, *words):
    seen = b""
    while not all(word in seen for word in words):
        piece = connection.recv(65536)
        assert piece, seen
        seen += piece
    return seen


def until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.01)


# What is served


def test_the_page_listens_on_loopback_only(page):
    assert page._server.server_address[0] == "127.0.0.1"
    assert page._stopper._socket.getsockname()[0] == "127.0.0.1"


def test_no_file_of_the_page_names_another_host(page):
    for path in page.files:
        text = (
            ask(page, "GET", path).read().decode().replace("http://www.w3.org/", "").replace("http://${location.", "")
        )
        assert "http://" not in text and "https://" not in text and "//cdn" not in text, path
    text = ask(page, "GET", "/").read().decode()
    assert 'id="stop"' in text and f'content="{page.stop_port}"' in text and "put &lt;this&gt; there" in text
    assert page.guard.token not in text


def test_a_browser_is_told_to_load_nothing_from_elsewhere(page):
    policy = ask(page, "GET", "/").getheader("Content-Security-Policy")
    assert policy.startswith("default-src 'self'; connect-src 'self' http://127.0.0.1:") and "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


def test_the_state_is_what_was_told_last_by_panel(page):
    page.tell("gate", {"mode": "HOLD"})
    page.tell("gate", {"mode": "ESTOP"})
    page.tell("task", {"rows": []})
    assert told(ask(page, "GET", "/state")) == (200, {"gate": {"mode": "ESTOP"}, "task": {"rows": []}})


def test_what_is_not_a_number_cannot_reach_the_page(page):
    with pytest.raises(ValueError):
        page.tell("risk", {"score": float("nan")})


# Streams


def test_a_viewer_hears_of_each_panel_and_then_of_what_has_changed(page):
    page.tell("gate", {"mode": "HOLD"})
    page.tell("task", {"rows": []})
    with viewing(page, "/events") as viewer:
        read_until(viewer, b'event: gate\ndata: {"mode": "HOLD"}\n\n', b"event: task\n")
        page.tell("task", {"rows": []})
        page.tell("gate", {"mode": "ESTOP"})
        seen = read_until(viewer, b'event: gate\ndata: {"mode": "ESTOP"}\n\n')
        assert b"event: task" not in seen
        read_until(viewer, b"event: beat")  # nothing new: the connection is alive


def test_news_are_told_at_a_limited_rate(page):
    with viewing(page, "/events") as viewer:
        until(lambda: page.viewers)
        for i in range(300):
            page.tell("gate", {"number": i})
            time.sleep(0.002)
        assert read_until(viewer, b'"number": 299').count(b"event: gate") < 30


def test_a_viewer_gets_each_new_picture(page):
    with viewing(page, "/picture") as viewer:
        until(lambda: page.viewers)
        page.show(b"picture0")
        read_until(viewer, b"picture0")
        page.show(b"picture1")
        read_until(viewer, BOUNDARY.encode(), b"picture1")
    until(lambda: page.show(str(time.time()).encode()) or not page.viewers)


def test_a_viewer_that_takes_nothing_holds_up_nobody(page, monkeypatch):
    monkeypatch.setattr("vla_mbpo.monitor.handler.WRITE", 1.0)
    with viewing(page, "/picture") as asleep, viewing(page, "/picture") as awake, viewing(page, "/events") as listener:
        until(lambda: page.viewers.number == 3)
        for i in range(40):  # 8 MB: more than the system keeps for the one who sleeps
            began = time.monotonic()
            page.show(bytes(200_000) + b"%d." % i)
            page.tell("gate", {"number": i})
            assert ask(page, "POST", "/stop").status == 200
            assert time.monotonic() - began < 1.0
            read_until(awake, b"%d.\r\n" % i)
        read_until(listener, b'"number": 39')
        assert len(page.stops) == 40
        until(lambda: page.viewers.number == 2)  # the sleeper was given up
        assert asleep.fileno() >= 0


def test_too_many_viewers_are_turned_away_and_the_stop_still_works(page):
    with viewing(page, "/events") as first:
        others = [socket.create_connection(("127.0.0.1", port_of(page)), timeout=5) for _ in range(STREAMS - 1)]
        for other in others:
            other.sendall(f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{port_of(page)}\r\n\r\n".encode())
        until(lambda: page.viewers.number == STREAMS)
        assert told(ask(page, "GET", "/picture"))[0] == 503
        idle = [socket.create_connection(("127.0.0.1", port_of(page)), timeout=5) for _ in range(2 * CONNECTIONS)]
        assert told(ask(page, "POST", "/stop", port=page.stop_port)) == (200, {"stopped": True})
        assert page.stops == [1]
        for connection in (*others, *idle):
            connection.close()
        read_until(first, b"event: beat")


# The stop


@pytest.mark.parametrize("own", [True, False])
def test_a_stop_is_passed_on_without_token_and_from_anywhere(page, own):
    port = page.stop_port if own else None
    strange = {"Origin": "http://evil.example", "Host": "evil.example:1"}
    assert told(ask(page, "POST", "/stop", port=port)) == (200, {"stopped": True})
    answer = ask(page, "POST", "/stop", port=port, **strange)
    assert (answer.status, answer.getheader("Access-Control-Allow-Origin")) == (200, "*")
    assert ask(page, "OPTIONS", "/stop", port=port, **strange).status == 204
    assert page.stops == [1, 1]


@pytest.mark.parametrize("own", [True, False])
def test_a_get_never_stops_the_arm(page, own):
    assert ask(page, "GET", "/stop", port=page.stop_port if own else None).status == 404
    assert page.stops == []


def test_the_stops_port_knows_nothing_else(page):
    assert ask(page, "POST", "/engage", port=page.stop_port, **{HEADER: page.guard.token}).status == 404
    assert ask(page, "GET", "/", port=page.stop_port).status == 404 and not page.taken


def test_one_connection_serves_many_stops(page):
    connection = http.client.HTTPConnection("127.0.0.1", page.stop_port, timeout=5)
    for _ in range(20):
        connection.request("POST", "/stop")
        assert connection.getresponse().read() == b'{"stopped": true}'
    assert len(page.stops) == 20


def test_idle_and_broken_connections_do_not_hold_up_a_stop(page):
    others = [socket.create_connection(("127.0.0.1", page.stop_port), timeout=5) for _ in range(200)]
    for i, other in enumerate(others):
        try:
            other.sendall((b"POST /sto", b"\x00" * 9000, b"", b"POST /other HTTP/1.1\r\nA")[i % 4])
        except OSError:
            pass  # closed: too many, or it spoke nonsense
    began = time.monotonic()
    assert ask(page, "POST", "/stop", port=page.stop_port).status == 200
    assert page.stops == [1] and time.monotonic() - began < 3.0
    for other in others:
        other.close()


def test_a_stop_that_fails_is_not_called_sent():
    def broken():
        raise RuntimeError("no middleware")

    server = PageServer(0, broken)
    try:
        assert told(ask(server, "POST", "/stop", port=server.stop_port)) == (500, {"stopped": False})
        with pytest.raises((http.client.HTTPException, OSError)):
            ask(server, "POST", "/stop").read()
    finally:
        server.close()


# Orders


@pytest.mark.parametrize("name", ORDERS)
def test_an_order_with_the_token_is_passed_on_and_its_answer_told(page, name):
    own = f"http://127.0.0.1:{port_of(page)}"
    assert order(page, name, b'{"epoch": 4}', Origin=own) == (200, {"done": True, "said": f"{name} said so"})
    assert order(page, name, b'{"epoch": 0}') == (409, {"done": False, "said": f"{name} said so"})
    assert page.taken == [(name, {"epoch": 4}), (name, {"epoch": 0})]


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({HEADER: ""}, "token"),
        ({HEADER: "wrong"}, "token"),
        ({HEADER: "t\u00f6ken"}, "token"),
        ({"Origin": "http://evil.example"}, "not from 'http://evil.example'"),
        ({"Origin": "null"}, "not from 'null'"),
        ({"Origin": "http://127.0.0.1:1"}, "not from"),
        ({"Host": "evil.example:8080"}, "this page is not 'evil.example:8080'"),
    ],
)
def test_an_order_of_somebody_else_is_refused(page, name, headers, words):
    headers = {key: value.encode("latin-1") for key, value in headers.items()}
    status, answer = order(page, name, **headers)
    assert status == 403 and words in answer["error"] and page.taken == []


def test_without_any_token_an_order_is_refused(page):
    status, answer = told(ask(page, "POST", "/engage", b"{}"))
    assert status == 403 and "token" in answer["error"] and page.taken == []


def test_no_other_site_may_ask_whether_it_may_order(page):
    answer = ask(page, "OPTIONS", "/engage", Origin="http://evil.example")
    assert answer.status == 403 and answer.getheader("Access-Control-Allow-Origin") is None


@pytest.mark.parametrize("path", ["/", "/state", "/events", "/picture", "/dream", "/static/stop.js"])
def test_nothing_is_read_under_another_name(page, path):
    assert told(ask(page, "GET", path, Host="rebound.example"))[0] == 403


def test_localhost_is_the_page_too(page):
    assert ask(page, "GET", "/", Host=f"localhost:{port_of(page)}").status == 200


def test_each_start_has_another_token():
    first, second = PageServer(0, lambda: None), PageServer(0, lambda: None)
    assert first.guard.token != second.guard.token and len(first.guard.token) > 20
    assert first.link == f"{first.address}#token={first.guard.token}"
    first.close()
    second.close()


@pytest.mark.parametrize("body", [b"[]", b"{", b"\xff", b'{"epoch": "bad"}'])
def test_an_order_that_makes_no_sense_is_refused_in_words(page, body):
    status, answer = order(page, "engage", body)
    assert status == 400 and "is not valid; expected" in answer["error"] and page.taken == []


def test_an_order_that_is_too_long_is_not_read(page):
    status, answer = order(page, "engage", b"", Content_Length=str(BODY + 1))
    assert status == 400 and "Content-Length" in answer["error"]


def test_an_unknown_order_is_not_passed_on(page):
    assert order(page, "record/stop/great")[0] == 404 and order(page, "")[0] == 404


# Ports


def test_a_taken_port_is_a_clear_error(page):
    port = port_of(page)
    with pytest.raises(ConfigError, match=f"^port: {port} is not valid; the port is taken"):
        PageServer(port, lambda: None)
    with pytest.raises(ConfigError, match=f"stop_port: {port} is not valid; the port is taken"):
        PageServer(0, lambda: None, stop_port=port)


def test_a_closed_page_frees_its_ports_and_ends_its_threads():
    before = threading.active_count()
    other = PageServer(0, lambda: None)
    ports = port_of(other), other.stop_port
    with viewing(other, "/events"):
        other.close()
    PageServer(ports[0], lambda: None, stop_port=ports[1]).close()
    until(lambda: threading.active_count() <= before)


# Pictures


def test_the_picture_shows_the_scene_and_both_cameras():
    scene = np.full((SIDE, SIDE, 3), (200, 0, 0), np.uint8)
    head = np.full((96, 96, 3), (0, 200, 0), np.uint8)
    wrist = np.full((96, 96, 3), (0, 0, 200), np.uint8)
    picture = np.asarray(Image.open(io.BytesIO(compose(scene, head, wrist)))).astype(int)
    assert picture.shape == (SIDE, SIDE * 3 // 2, 3)
    places = {(SIDE // 2, SIDE // 2): 0, (SIDE // 4, SIDE * 5 // 4): 1, (SIDE * 3 // 4, SIDE * 5 // 4): 2}
    assert all(picture[place].argmax() == channel for place, channel in places.items())


def test_missing_images_stay_dark():
    picture = np.asarray(Image.open(io.BytesIO(compose(None, None, None))))
    assert picture.max() < 60


def test_a_dream_is_served_larger(page):
    assert told(ask(page, "GET", "/dream"))[0] == 404
    page.dream(enlarge(np.zeros((192, 128, 3), np.uint8)))
    answer = ask(page, "GET", "/dream?7")
    assert answer.getheader("Content-Type") == "image/jpeg"
    assert Image.open(io.BytesIO(answer.read())).size == (128 * ENLARGED, 192 * ENLARGED)


def test_a_stop_that_does_not_serve_is_an_error_and_frees_its_port(monkeypatch):
    monkeypatch.setattr(stopper.StopServer, "_run", lambda self: None)
    monkeypatch.setattr(stopper, "STARTING", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(OSError, match="does not serve"):
        stopper.StopServer(lambda: None, "127.0.0.1", port)
    socket.create_server(("127.0.0.1", port)).close()


def test_the_pages_threads_step_back_and_the_stops_does_not():
    """Incident: the page was served already when the node stepped back, so that none of its threads did."""
    made, usual = [], os.getpriority(os.PRIO_PROCESS, 0)
    maker = threading.Thread(target=lambda: made.append(PageServer(0, lambda: None, nice=usual + 3)))
    maker.start()
    maker.join()
    threads = made[0]._stopper._thread, made[0]._thread
    found = [os.getpriority(os.PRIO_PROCESS, thread.native_id) for thread in threads]
    made[0].close()
    assert found == [usual, usual + 3]
