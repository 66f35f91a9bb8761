"""The page in a real browser, in front of the real stack."""

import time
from pathlib import Path

import numpy as np
import pytest
from helpers import Up, free_port
from vla_mbpo_msgs.msg import GateState

from benchmarks.browser import NEEDED, Viewers, browser, chromium
from benchmarks.page_stop import LINK, Button, Release
from vla_mbpo.eval.report import percentiles
from vla_mbpo.nodes import convert, qos
from vla_mbpo.nodes.client import StackClient

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not chromium(), reason=NEEDED)]
PRESSES = 50
SAY = "press the button"


@pytest.fixture
def stack(tmp_path):
    """Starts `vla-mbpo up` with a page; gives a client beside it and the page's address with the token."""
    made = []

    def start(*arguments):
        process = Up(tmp_path / "up.log", "--no-joy", "--set", f"monitor.port={free_port()}", *arguments)
        client = StackClient("page_test")
        made.extend([client, process])
        start.process = process
        until(client, lambda: client.ready and LINK.search(process.output), 90.0)
        return client, LINK.search(process.output)[1]

    yield start
    for one in made:
        one.close()


def until(client, condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "not in time"
        client.spin(0.05)


def engage(client):
    call = []

    def engaged():
        if client.gate is not None and client.gate.mode == GateState.AUTONOMOUS:
            return True
        if not call or call[-1] is None or call[-1].done():
            call[:] = [client.engage()]
        return False

    until(client, engaged)


def test_a_task_typed_in_moves_the_arm(stack):
    """Without imagination: with it and a browser the verdicts are late on two slow cores, and the arm rests."""
    client, link = stack("--scene", "button")
    speeds, topic = [0.0], qos.JOINT_STATES
    client.node.create_subscription(
        topic.type, topic.name, lambda m: speeds.append(np.abs(m.velocity[:7]).max()), topic.qos
    )
    engage(client)
    with browser() as context:
        page = context.new_page()
        page.goto(link, wait_until="commit")
        assert max(speeds) < 0.05
        page.fill("#instruction", SAY)
        page.keyboard.press("Enter")
        until(client, lambda: max(speeds[-20:]) > 0.05, 40.0)


def test_every_panel_updates_and_a_task_typed_in_runs(stack, tmp_path):
    folders = ("--record", str(tmp_path / "episodes"), "--trainer", str(tmp_path / "loop"))
    client, link = stack("--world-model", "world_model", "--detector", "detector_full", "--scene", "drawer", *folders)
    dreams = client.node.create_publisher(qos.DREAM.type, qos.DREAM.name, qos.DREAM.qos)
    with browser() as context:
        page = context.new_page()
        page.set_default_timeout(20000)
        page.goto(link, wait_until="commit")

        def shown(panel, *words):
            until(client, lambda: all(word in page.inner_text(f"[aria-labelledby=h-{panel}]") for word in words), 40.0)

        def said(words):
            until(client, lambda: words in page.inner_text("#said"))

        shown("gate", "AUTONOMOUS", "nobody: all inputs vet")
        until(client, lambda: page.evaluate("document.getElementById('picture').naturalWidth") == 720)
        page.select_option("#scene", "button")
        page.fill("#seed", "3")
        page.keyboard.press("Enter")
        said("✓ the scene is at its start")
        page.fill("#instruction", SAY)
        page.keyboard.press("Enter")
        said(f"✓ {SAY}: sent")
        shown("task", f"Instruction\n{SAY}", f"number 1 is running: {SAY}")
        shown("recording", "● recording")
        shown("verdicts", "Candidate", "rejected")
        shown("rates", "arm_driver", "inference_p95_ms", "frames_per_s", "● ok")
        shown("release", "sft_full")
        shown("training", "idle")
        until(client, lambda: page.locator("#plot circle, #plot text").count() > 5)
        assert "No risk yet" not in page.inner_text("#risk-words")
        # A busy machine's dreams may all be late: one is played, to see it arrive.
        dreams.publish(convert.to_image(np.full((192, 192, 3), 90, np.uint8), 1, "dream 77"))
        shown("dream", "chunk set")
        until(client, lambda: page.evaluate("document.getElementById('dream').naturalWidth") == 384)
        page.click("#end")
        shown("task", f"{SAY}: stopped")
        page.keyboard.press("Escape")
        shown("gate", "ESTOP", "topic /estop")
        counts = page.evaluate("({...document.documentElement.dataset})")
        assert all(int(counts[name]) > 1 for name in ("gate", "task", "verdicts", "risk", "rates", "recording")), counts
        assert not [url for url in context.asked if not url.startswith("http://127.0.0.1:")]


def nice_values(process):
    """Of the threads of the page's process, its main thread first."""
    pid = process.children()["monitor"]
    stats = [
        (thread / "stat").read_text()
        for thread in sorted(Path(f"/proc/{pid}/task").iterdir(), key=lambda t: int(t.name))
    ]
    return [int(stat.rsplit(")", 1)[1].split()[16]) for stat in stats]


def test_everything_but_the_stop_steps_back(stack, bundle):
    stack("--bundle", str(bundle))
    main, *others = nice_values(stack.process)
    assert main == 10 and 0 in others and 10 in others


def test_each_press_latches_while_many_look_on(stack, bundle):
    """How long it takes is a benchmark's: benchmarks/page_stop.py. Here the times are only printed."""
    client, link = stack("--bundle", str(bundle))
    engage(client)
    with browser() as context:
        button, release = Button(client, context, link), Release(client)
        viewers = Viewers(link, *["/picture", "/events"] * 4)
        took = []
        for _ in range(PRESSES):
            engage(client)
            took.append(button.press()[0])
            release()
        viewers.close()
        print(f"click to latched e-stop, {PRESSES} presses [ms]: {percentiles(took)}")
        assert max(took) < float("inf")
        assert viewers.bytes > 100_000 * PRESSES / 10


def test_reset_and_engage_from_the_page(stack, bundle):
    client, link = stack("--bundle", str(bundle))
    engage(client)
    with browser() as context:
        page = context.new_page()
        page.goto(link, wait_until="commit")
        page.locator("#mode", has_text="AUTONOMOUS").wait_for(timeout=20000)
        page.keyboard.press("Escape")
        until(client, lambda: client.gate.mode == GateState.ESTOP)
        page.locator("#mode", has_text="ESTOP").wait_for()
        for name, mode in (("reset", GateState.HOLD), ("engage", GateState.AUTONOMOUS)):
            page.click(f"[data-confirm={name}]")
            page.click("#confirm-yes")
            until(client, lambda mode=mode: client.gate.mode == mode)
            page.locator("#mode", has_text=convert.MODES[mode]).wait_for()
