import http.client
import io
import json
import threading

import numpy as np
import pytest
from PIL import Image

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.monitor.picture import SIDE, compose
from vla_mbpo.monitor.server import BOUNDARY, PageServer


@pytest.fixture
def page():
    stops = []
    server = PageServer(0, lambda: stops.append(1))
    server.stops = stops
    yield server
    server.close()


def ask(page, method, path):
    port = int(page.address.rsplit(":", 1)[1].strip("/"))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3)
    connection.request(method, path)
    return connection.getresponse()


def test_the_page_listens_on_loopback_only(page):
    assert page._server.server_address[0] == "127.0.0.1"


def test_the_page_has_a_stop_button_and_asks_no_other_host(page):
    text = ask(page, "GET", "/").read().decode()
    assert 'id="stop"' in text
    assert "http://" not in text and "https://" not in text


def test_a_stop_is_passed_on_before_it_is_answered(page):
    assert ask(page, "POST", "/stop").status == 200
    assert page.stops == [1]


def test_a_get_never_stops_the_arm(page):
    assert ask(page, "GET", "/stop").status == 404
    assert page.stops == []


def test_the_state_is_what_was_told_last(page):
    page.tell({"gate": "HOLD"})
    page.tell({"gate": "ESTOP: button"})
    assert json.loads(ask(page, "GET", "/state").read()) == {"gate": "ESTOP: button"}


def test_a_viewer_gets_each_new_picture(page):
    def show():
        for i in range(3):
            while page.viewers == 0:
                pass
            page.show(b"picture%d" % i)
            threading.Event().wait(0.05)

    painter = threading.Thread(target=show)
    painter.start()
    answer = ask(page, "GET", "/picture")
    painter.join()
    seen = b""
    while seen.count(b"picture") < 2:
        seen += answer.read1(4096)
    assert BOUNDARY.encode() in seen
    answer.close()


def test_a_taken_port_is_a_clear_error(page):
    port = page._server.server_address[1]
    with pytest.raises(ConfigError, match=f"port: {port} is not valid; the port is taken"):
        PageServer(port, lambda: None)


def test_a_closed_page_frees_its_port(page):
    other = PageServer(0, lambda: None)
    port = other._server.server_address[1]
    other.close()
    PageServer(port, lambda: None).close()


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


@pytest.mark.parametrize(
    ("path", "order"),
    [("start", ("start", "")), ("save", ("save", "")), ("stop/failed", ("stop", "failed"))],
)
def test_an_order_to_the_recorder_is_passed_on_and_its_answer_shown(path, order):
    orders = []
    server = PageServer(0, lambda: None, lambda *words: orders.append(words) or "done")
    try:
        answer = ask(server, "POST", f"/record/{path}")
        assert json.loads(answer.read()) == {"said": "done"} and orders == [order]
    finally:
        server.close()


@pytest.mark.parametrize("path", ["/record/stop", "/record/stop/great", "/record/label"])
def test_an_unknown_order_to_the_recorder_is_not_passed_on(page, path):
    assert ask(page, "POST", path).status == 404
