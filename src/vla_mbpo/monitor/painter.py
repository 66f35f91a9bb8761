"""Draws the page's picture in a thread of its own, for viewers only."""

import threading
import time
from collections.abc import Callable
from typing import Any

from vla_mbpo.cameras.source import Source
from vla_mbpo.monitor.picture import compose

FRESH = 0.2  # s to wait for a state of the scene


class Painter:
    """The thread holds the GL context of ``source``. Without pictures the page still tells and stops."""

    def __init__(
        self,
        source: Source,
        rate: float,
        wanted: Callable[[], bool],
        cameras: Callable[[], tuple[Any, Any]],
        show: Callable[[bytes], None],
        report: Callable[[str], object],
    ) -> None:
        """Start drawing ``rate`` pictures per second at most while they are ``wanted``.

        All the functions are called from the painter's thread. ``cameras``: the latest images (h, w, 3) RGB of head
        and wrist, or None. ``report``: why there are no pictures.
        """
        self._source, self._period, self._wanted = source, 1 / rate, wanted
        self._cameras, self._show, self._report = cameras, show, report
        self._running = threading.Event()
        self._running.set()
        self._thread = threading.Thread(target=self._run, name="painter", daemon=True)
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """End the thread; wait for it no longer than ``seconds``."""
        self._running.clear()
        self._thread.join(seconds)

    def _run(self) -> None:
        try:
            self._paint()
        except Exception as error:
            self._report(f"no pictures on the page: {type(error).__name__}: {error}")
        finally:
            self._source.close()

    def _draw(self) -> None:
        try:
            frame = self._source.read(FRESH)
            self._show(compose(None if frame is None else frame.image, *self._cameras()))
        except Exception as error:  # a picture or a state that cannot be shown: the next may be fine
            self._report(f"a picture is not shown on the page: {type(error).__name__}: {error}")

    def _paint(self) -> None:
        self._source.open()
        while self._running.is_set():
            begin = time.monotonic()
            if self._wanted():
                self._draw()
            time.sleep(max(0.01, self._period - (time.monotonic() - begin)))
