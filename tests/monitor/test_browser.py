"""The page in a real browser, with a stack that is played."""

import http.server
import threading
import time

import pytest
from played_page import PlayedPage

from benchmarks.browser import NEEDED, browser, chromium

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not chromium(), reason=NEEDED)]
PANELS = ("gate", "task", "verdicts", "risk", "rates", "recording", "release", "training", "scene", "dream")
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def context():
    with browser() as made:
        yield made


@pytest.fixture
def played():
    made = PlayedPage()
    yield made
    made.close()


@pytest.fixture
def page(context, played):
    context.asked.clear()
    yield from opened(context, played.server.link)
    assert all(url.startswith("http://127.0.0.1:") for url in context.asked), "a request left the machine"


def opened(context, link):
    made = context.new_page()
    made.set_default_timeout(10000)
    made.errors = []
    made.on("pageerror", lambda error: made.errors.append(str(error)))
    made.on("console", lambda line: made.errors.append(line.text) if "Content Security" in line.text else None)
    made.goto(link, wait_until="commit")  # pictures are a stream: it is never wholly loaded
    made.locator("#connection", has_text="connected").wait_for()
    yield made
    assert not made.errors
    made.close()


def until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.02)


def serious(page):
    """What axe finds, of the kinds that keep somebody from using the page."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="`make setup-dev`")
    found = axe.Axe().run(page).response["violations"]
    return [(v["id"], [node["html"] for node in v["nodes"]]) for v in found if v["impact"] in SERIOUS]


# What is shown


def test_every_panel_is_shown(page, played):
    counts = page.evaluate("JSON.stringify(document.documentElement.dataset)")
    assert all(f'"{name}"' in counts for name in PANELS)
    text = page.inner_text("main")
    for words in ("■ UNSAFE", "● SAFE", "✗ rejected", "joint_velocity: row 3", "■ ALARM: risk 11.70, band 7.00"):
        assert words in text
    for words in ("failure_detector", "press the button", "inference_p95_ms 31.0", "▲ warning: no gamepad"):
        assert words in text
    for words in ("recording e1", "sft_full 0123", "dream (3 of 6), step 40", "chunk set 5"):
        assert words in text
    assert page.locator("#plot .band").count() > 1 and page.locator("#plot circle").count() == 36
    assert page.locator("#mode").inner_text() == "▶ AUTONOMOUS"
    until(lambda: page.evaluate("document.getElementById('dream').naturalWidth") == 384)
    until(lambda: page.evaluate("document.getElementById('picture').naturalWidth") == 720)


def test_what_changes_is_shown(page, played):
    played.gate(0, 9, "released")
    page.locator("#gate", has_text="released").wait_for()
    assert "HOLD" in page.inner_text("#mode")


# Stopping


def test_the_button_stops_once(page, played):
    page.click("#stop")
    page.locator("#said", has_text="latched").wait_for()
    page.locator("#mode", has_text="ESTOP").wait_for()
    time.sleep(0.2)
    assert played.stops == 2  # one press, by both ways


@pytest.mark.parametrize("key", ["Space", "Escape"])
@pytest.mark.parametrize("where", ["body", "#end", "[data-confirm=engage]", "#scene", "#instruction", "#stop", "#seed"])
def test_the_keyboard_stops_wherever_the_focus_is(page, played, key, where):
    if where != "body":
        page.focus(where)
    page.keyboard.press(key)
    typing = key == "Space" and where in ("#instruction", "#seed")
    time.sleep(0.3)
    assert played.stops == (0 if typing else 2) and not played.orders
    assert page.locator("#confirm").is_hidden()
    if where == "#instruction" and typing:
        assert page.input_value("#instruction") == " "


def test_the_button_stops_by_enter(page, played):
    page.focus("#stop")
    page.keyboard.press("Enter")
    until(lambda: played.stops == 2)


def test_a_press_that_began_elsewhere_and_a_later_enter_both_count(page, played):
    box = page.locator("#stop").bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 20, box["y"] + 300)  # let go beside the button
    page.mouse.up()
    until(lambda: played.stops == 2)
    page.focus("#stop")
    page.keyboard.press("Enter")
    until(lambda: played.stops == 4)


@pytest.mark.parametrize("how", ["click", "Escape", "Space"])
def test_the_stop_works_while_a_question_is_open(page, played, how):
    page.click("[data-confirm=engage]")
    if how == "click":
        page.click("#confirm .stop")
    else:
        page.keyboard.press(how)
    until(lambda: played.stops == 2)
    assert not played.orders


def test_the_stop_works_with_more_windows_than_the_browser_has_connections(context, played):
    windows = [next(opened(context, played.server.link)) for _ in range(3)]
    until(lambda: played.server.viewers.number == 6)
    windows[0].click("#stop")
    until(lambda: played.stops >= 1, 1.0)  # the stop's own port; the page's has no connection left
    for window in windows:
        window.close()


def test_without_its_own_port_the_stop_goes_through_the_page(page, played):
    played.server._stopper.close()
    page.click("#stop")
    page.locator("#said", has_text="latched").wait_for()
    assert played.stops == 1


def test_a_lost_connection_is_said_and_the_stop_still_tries(context):
    first = PlayedPage()
    ports = first.server._server.server_address[1], first.server.stop_port
    page = next(opened(context, first.server.link))
    first.close()
    page.locator("#connection", has_text="NO CONNECTION").wait_for()
    page.click("#stop")
    page.locator("#said", has_text="STOP NOT SENT").wait_for()
    second = PlayedPage(*ports)
    page.locator("#said", has_text="Stopped").or_(page.locator("#said", has_text="Stop sent")).wait_for()
    assert second.stops >= 1
    page.locator("#connection", has_text="● connected").wait_for()
    page.close()
    second.close()


# Orders


def test_the_token_is_taken_out_of_the_address(page, played):
    assert played.server.guard.token not in page.url
    page.reload()
    page.fill("#instruction", "open the drawer")
    page.keyboard.press("Enter")
    until(lambda: played.orders == [("task", {"instruction": "open the drawer"})])
    page.locator("#said", has_text="✓ task done").wait_for()


def test_without_the_token_the_page_watches_and_stops(context, played):
    page = next(opened(context, played.server.address))
    assert page.locator("#token-missing").is_visible()
    page.fill("#instruction", "open the drawer")
    page.keyboard.press("Enter")
    page.locator("#said", has_text="the token is missing or wrong").wait_for()
    assert not played.orders
    page.click("#stop")
    until(lambda: played.stops == 2)
    page.fill("#token", played.server.guard.token)
    page.keyboard.press("Enter")
    page.locator("#token-missing").wait_for(state="hidden")
    page.click("#end")
    until(lambda: played.orders == [("end", {})])
    page.close()


@pytest.mark.parametrize("name", ["engage", "reset"])
def test_engage_and_reset_ask_first_and_name_the_epoch(page, played, name):
    page.focus(f"[data-confirm={name}]")
    page.keyboard.press("Enter")
    page.locator("#confirm").wait_for()
    assert page.evaluate("document.activeElement.id") == "confirm-no"
    page.keyboard.press("Enter")  # no
    page.locator("#confirm").wait_for(state="hidden")
    assert not played.orders
    page.keyboard.press("Enter")  # the focus is back on the button
    page.locator("#confirm").wait_for()
    played.gate(0, 8, "somebody else")  # meanwhile: the order carries what the person saw
    page.locator("#gate", has_text="somebody else").wait_for()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    until(lambda: played.orders == [(name, {"epoch": 3})])
    page.locator("#said", has_text=f"✓ {name} done").wait_for()


def test_the_scene_and_recording_are_ordered(page, played):
    assert page.input_value("#scene") == "button" and page.input_value("#seed") == "3"
    page.select_option("#scene", "drawer")
    page.fill("#seed", "7")
    page.keyboard.press("Enter")
    until(lambda: ("scene", {"task": "drawer", "seed": 7}) in played.orders)
    page.click("[data-order='record/start']")
    until(lambda: ("record/start", {}) in played.orders)


@pytest.fixture
def other_site():
    """A page of another origin in the operator's own browser."""

    class Blank(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.send_header("Content-Type", "text/html")
            self.end_headers()

        def log_message(self, *_):
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Blank)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


def test_another_site_can_neither_order_nor_read_but_stop(context, played, other_site):
    script = """async ([address, token]) => {
        const ask = async (path, options) => {
            try { return (await fetch(address + path, options)).type; } catch { return "blocked"; }
        };
        return [await ask("engage", {method: "POST", headers: {"X-Token": token}, body: "{}"}),
                await ask("engage", {method: "POST", mode: "no-cors", body: "{}"}),
                await ask("state", {}),
                await ask("stop", {method: "POST"})];
    }"""
    page = context.new_page()
    page.goto(other_site)
    found = page.evaluate(script, [played.server.address, played.server.guard.token])
    assert found == ["blocked", "opaque", "blocked", "cors"] and not played.orders and played.stops == 1
    page.close()


# For everybody


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_serious(page, played, scheme, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    assert serious(page) == []
    page.click("#stop")
    page.locator("#said", has_text="latched").wait_for()
    assert serious(page) == []
    page.click("[data-confirm=reset]")
    assert serious(page) == []


def test_a_lost_connection_is_legible(context):
    played = PlayedPage()
    page = next(opened(context, played.server.address))
    played.close()
    page.locator("#connection", has_text="NO CONNECTION").wait_for()
    assert serious(page) == []
    page.close()


def test_on_a_phone_there_is_one_column_and_the_stop_stays_in_view(page):
    page.set_viewport_size({"width": 390, "height": 700})
    lefts = page.evaluate("[...document.querySelectorAll('main > section')].map(s => s.getBoundingClientRect().left)")
    assert len(set(lefts)) == 1
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    box = page.locator("#stop").bounding_box()
    assert box["height"] >= 64 and 0 <= box["y"] <= 20 and box["width"] > 300


def test_colour_is_never_the_only_signal(page):
    """Whatever has a colour that means something begins with a shape or says it in capitals."""
    toned = page.evaluate("[...document.querySelectorAll('.good, .warn, .bad')].map(e => e.textContent)")
    assert toned and all(text[0] in "●✓▶▲?■✗" and len(text) > 2 for text in toned)
