"""The page's stop button: from the click in a browser to the latched e-stop, while many look at the page.

Chromium without a window has several of the page's windows open; plain viewers take its streams besides. The policy
moves the arm. A click counts from the browser's own time of the event; the gate's stamp of its ESTOP state is the end.
"""

import random
import re
import time
from typing import Any

from benchmarks.browser import Viewers, browser
from benchmarks.common import parser, write
from vla_mbpo.bringup import Options
from vla_mbpo.eval.realtime import Stack, running_stack
from vla_mbpo.eval.report import percentiles

NOTE = """
addEventListener("pointerdown", e => { window.pressedAt = Date.now() - (performance.now() - e.timeStamp); }, true);
"""
LINK = re.compile(r"page: (http://\S+)")
PATIENCE = 5.0  # s for the latch


class Button:
    """The stop button of a page in a browser, and the gate beside it. One thread."""

    def __init__(self, client: Any, context: Any, link: str, windows: int = 3) -> None:
        """Open ``windows`` windows of the page; three take all the connections that a browser opens to one port."""
        self._client = client
        self._states: list[tuple[int, int, float]] = []  # mode, epoch, stamp [s]
        from vla_mbpo.nodes import convert, qos

        def note(message: Any) -> None:
            self._states.append((message.mode, message.epoch, convert.to_ns(message.header.stamp) / 1e9))

        topic = qos.GATE_STATE
        client.node.create_subscription(topic.type, topic.name, note, topic.qos)
        context.add_init_script(NOTE)
        self.pages = [context.new_page() for _ in range(windows)]
        for page in self.pages:
            page.goto(link, wait_until="commit")
        self.page = self.pages[0]
        self.page.bring_to_front()
        self.page.locator("#connection", has_text="connected").wait_for(timeout=20000)
        self._aim()

    def _aim(self) -> None:
        box = self.page.locator("#stop").bounding_box()
        self.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    def press(self) -> tuple[float, float]:
        """Click. Milliseconds to the latched e-stop from the browser's event, and from asking the browser to click.

        Infinite if it does not come.
        """
        gate = self._client.gate
        before = gate.epoch
        assert gate.mode != gate.ESTOP, gate.reason
        self._states.clear()
        asked = time.time()
        self.page.mouse.down()
        self.page.mouse.up()
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            self._client.spin(0.01)
            latched = [stamp for mode, epoch, stamp in self._states if mode == gate.ESTOP and epoch > before]
            if latched:
                pressed = self.page.evaluate("window.pressedAt") / 1e3
                return 1e3 * (latched[0] - pressed), 1e3 * (latched[0] - asked)
        return float("inf"), float("inf")


class Release:
    """Lets go of the stop and resets the latch."""

    def __init__(self, client: Any) -> None:
        from std_msgs.msg import Bool
        from vla_mbpo_msgs.srv import GateCommand

        from vla_mbpo.nodes import qos

        self._client, self._released, self._request = client, Bool(data=False), GateCommand.Request
        self._out = client.node.create_publisher(qos.ESTOP.type, qos.ESTOP.name, qos.ESTOP.qos)
        self._reset = client.node.create_client(GateCommand, qos.RESET_GATE)

    def __call__(self) -> None:
        """RuntimeError if the gate stays in ESTOP."""
        client, call = self._client, []
        until = time.monotonic() + 10.0
        self._out.publish(self._released)
        while client.gate.mode == client.gate.ESTOP:
            if time.monotonic() > until:
                raise RuntimeError(f"the gate is not reset: {client.gate.reason}")
            if not call or call[-1].done():
                call[:] = [self._reset.call_async(self._request(epoch=client.gate.epoch))]
            client.spin(0.05)


def link_of(stack: Stack) -> str:
    """The page's address with the token, as it was printed."""
    found: list[str] = []

    def printed() -> bool:
        found[:] = [match[1] for line in stack.printed if (match := LINK.search(line))]
        return bool(found)

    stack.wait(printed, 10.0, "the page's address")
    return found[0]


def main() -> None:
    """Measure and write."""
    cli = parser(__doc__ or "")
    cli.add_argument("--presses", type=int, default=50)
    cli.add_argument("--viewers", type=int, default=4, help="plain viewers of each stream, beside three windows")
    cli.add_argument("--port", type=int, default=8080, help="the page's")
    args = cli.parse_args()
    from benchmarks.live import Live

    draw = random.Random(0)
    from_event, from_call = [], []
    options = Options(joy=False, overrides={"monitor": {"port": args.port}})
    with running_stack("sim_panda", options) as stack, browser() as context:
        link = link_of(stack)
        live, button, release = Live(stack), Button(stack.client, context, link), Release(stack.client)
        viewers = Viewers(link, *["/picture", "/events"] * args.viewers)
        begin = time.monotonic()
        while len(from_event) < args.presses:
            live.forget()
            live.move()
            stack.client.spin(draw.uniform(0.05, 0.4))
            if stack.client.gate.mode != stack.client.gate.AUTONOMOUS:
                continue
            event, call = button.press()
            from_event.append(event)
            from_call.append(call)
            release()
        seconds = time.monotonic() - begin
        viewers.close()
    metrics = {
        "presses": len(from_event),
        "latched": sum(value < float("inf") for value in from_event),
        "click_to_latched_ms": percentiles(from_event),
        "asked_to_latched_ms": percentiles(from_call),
        "windows": len(button.pages),
        "plain_viewers": 2 * args.viewers,
        "streamed_mb_per_s": round(viewers.bytes / 1e6 / seconds, 2),
        "requests_elsewhere": sum(not url.startswith("http://127.0.0.1:") for url in context.asked),
        "samples": [round(value, 1) for value in from_event],
    }
    write("page_stop", metrics, args.json)


if __name__ == "__main__":
    main()
