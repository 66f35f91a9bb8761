"""Take docs/images/operating_*.png: the operator's page before the simulated stack, driven as in docs/operating.md.

`python -m scripts.screenshots` needs Chromium and Playwright (`make setup-dev`). A gamepad is played on /joy.
"""

import argparse
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.browser import NEEDED, browser, chromium
from benchmarks.page_stop import link_of
from benchmarks.takeover import DEADMAN, Pad
from vla_mbpo.bringup import Options
from vla_mbpo.core.errors import require
from vla_mbpo.eval.realtime import Stack, running_stack

WIDE, PHONE = (1280, 900), (390, 844)  # px
COLOURS = 128  # of a picture's palette; cameras and text need no more
PATIENCE, TRIES = 60.0, 5  # s for what is to be seen; attempts until it is
# Two cores that draw a browser besides are slower than a robot's computer: what is late there need not be late here.
SLOWER = {
    "gate": {"vetting.deadline": 0.6, "input_timeout": 1.0, "checks.max_chunk_age": 1.5, "checks.max_state_age": 0.4},
    "policy": {"max_age": 1.0},
    "arm_driver": {"max_state_age": 0.4, "gate_timeout": 0.2},
}
IMAGINED = {"deadline": 0.5, "dream_period": 3.0}


class Shots:
    """One window of the page. One thread."""

    def __init__(self, stack: Stack, page: Any, folder: Path) -> None:
        self.stack, self.page, self._folder = stack, page, folder

    def shows(self, selector: str, *words: str) -> bool:
        """Whether the element shows all the words."""
        text = self.page.inner_text(selector)
        return all(word in text for word in words)

    def until(self, selector: str, *words: str) -> None:
        """Wait until it does. RuntimeError when it does not."""
        self.stack.wait(lambda: self.shows(selector, *words), PATIENCE, f"{selector}: {words}")

    def sooner(self, selector: str, words: tuple[str, ...], running: str) -> bool:
        """Wait until the element shows the words, or the task panel does not say ``running`` any more: which it was."""

        def seen() -> bool:
            return self.shows(selector, *words)

        self.stack.wait(lambda: seen() or not self.shows("#task", running), PATIENCE, f"{selector}: {words}")
        return seen()

    def over(self) -> None:
        """Wait for the attempt's end."""
        self.stack.wait(lambda: not self.shows("#task", "is running"), PATIENCE, "the attempt's end")

    def pause(self, seconds: float) -> None:
        """Let the stack go on."""
        self.stack.client.spin(seconds)

    def take(self, name: str, *panels: str) -> None:
        """Write operating_NAME.png: what the window shows, or the strip of the page that holds these panels."""
        clip = None
        if panels:
            boxes = [self.page.locator(f"section[aria-labelledby=h-{panel}]").bounding_box() for panel in panels]
            top, end = min(box["y"] for box in boxes), max(box["y"] + box["height"] for box in boxes)
            clip = {"x": 0, "y": top + self.page.evaluate("scrollY"), "width": WIDE[0], "height": end - top}
        image = Image.open(BytesIO(self.page.screenshot(clip=clip, full_page=bool(panels))))
        path = self._folder / f"operating_{name}.png"
        image.convert("RGB").quantize(COLOURS).save(path, optimize=True)
        print(f"{path}: {image.width} x {image.height}, {path.stat().st_size / 1e3:.0f} kB", flush=True)


@contextmanager
def held(pad: Pad, axes: dict[int, float], *buttons: int) -> Iterator[None]:
    """Hold stick and buttons meanwhile, whatever this thread waits for."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(0.02):
            pad.hold(axes, *buttons)

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        pad.hold({})


def attempt(shots: Shots, scene: str, seed: int, said: str, *shown: str) -> None:
    """Put the scene to its start and type its task in; returns when the table of candidates shows the words.

    An attempt that ends before is made again.
    """
    page = shots.page
    for _ in range(TRIES):
        shots.pause(1.0)
        if not shots.shows("#mode", "AUTONOMOUS"):
            order(shots, "engage", "AUTONOMOUS")
        page.select_option("#scene", scene)
        page.fill("#seed", str(seed))
        page.click("#scene-form button")
        shots.until("#said", "the scene is at its start")
        page.fill("#instruction", said)
        page.keyboard.press("Enter")
        shots.until("#task", "is running")
        shots.pause(2.0)  # what the page shows of the attempt before is gone
        if shots.sooner("#candidates", shown, "is running"):
            return
    raise RuntimeError(f"{said}: the candidates never showed {shown}")


def order(shots: Shots, name: str, mode: str) -> None:
    """Engage or reset, and say yes; again if the gate is not yet ready for it."""
    for _ in range(5):
        shots.page.click(f"[data-confirm={name}]")
        shots.page.click("#confirm-yes")
        shots.pause(1.0)
        if mode in shots.page.inner_text("#mode"):
            return
    raise RuntimeError(f"{name}: {shots.page.inner_text('#said')}")


def plain(shots: Shots, pad: Pad) -> None:
    """A task, a takeover, a stop, a phone."""
    say = "put the red cube in the bin"
    attempt(shots, "red_bin", 0, say, "accepted")
    shots.take("task")
    shots.page.click("#end")
    shots.over()

    pad.hold({})
    attempt(shots, "red_bin", 1, say, "accepted")
    with held(pad, {0: 0.6}, DEADMAN):
        shots.until("#mode", "TELEOP")
        shots.until("#gate", "yes, or was")
        shots.take("takeover")
    shots.until("#mode", "HOLD")
    order(shots, "engage", "AUTONOMOUS")
    shots.page.keyboard.press("Escape")
    shots.until("#mode", "ESTOP")
    shots.over()
    shots.take("estop")
    order(shots, "reset", "HOLD")

    attempt(shots, "button", 2, "press the button", "accepted")
    shots.page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    shots.pause(1.0)
    shots.take("phone")


def vetted(shots: Shots, pad: Pad) -> None:
    """Candidates that the world model refuses, and the failure detector's risk."""
    shots.page.route("**/picture*", lambda route: route.abort())  # not in the strip, and drawing it takes time
    attempt(shots, "drawer", 0, "open the drawer", "UNSAFE", "rejected")
    shots.take("veto", "verdicts", "risk")


def main() -> None:
    """Start the stack with and without the world model, drive the page, write the pictures."""
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument("--out", type=Path, default=Path("docs/images"))
    cli.add_argument("--port", type=int, default=8080, help="the page's")
    cli.add_argument("--log", type=Path, default=Path(os.devnull), help="what the nodes print")
    cli.add_argument("--parts", nargs="+", default=["plain", "vetted"], choices=["plain", "vetted"])
    args = cli.parse_args()
    require(bool(chromium()), "chromium", "not found", NEEDED)
    args.out.mkdir(parents=True, exist_ok=True)
    overrides = {**SLOWER, "monitor": {"rate": 2.0, "port": args.port}}
    with tempfile.TemporaryDirectory() as folder, args.log.open("w") as log:
        recorded = Options(joy=False, record=str(Path(folder) / "episodes"), overrides=overrides)
        models = {"world_model": "world_model", "detector": "detector_full"}
        imagined = replace(recorded, record="", overrides={**overrides, "imagination": IMAGINED}, **models)
        for options, part in ((recorded, plain), (imagined, vetted)):
            if part.__name__ not in args.parts:
                continue
            with running_stack("sim_panda", options) as stack, browser(*WIDE) as context:
                page = context.new_page()
                page.goto(link_of(stack), wait_until="commit")
                try:
                    part(Shots(stack, page, args.out), Pad(stack))
                finally:
                    log.writelines(f"{line}\n" for line in stack.printed)


if __name__ == "__main__":
    main()
