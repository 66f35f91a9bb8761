"""One thread that does one job at a time, beside the executor."""

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Job = TypeVar("Job")


class Worker(Generic[Job]):
    """Runs ``work(job)`` in its own thread. Errors go to ``on_error`` and do not end the thread."""

    def __init__(self, work: Callable[[Job], None], on_error: Callable[[Exception], None]) -> None:
        self._work, self._on_error = work, on_error
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._idle = threading.Event()
        self._idle.set()
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
        self._thread.start()

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return self._idle.is_set()

    def submit(self, job: Job) -> None:
        """Give it a job; to be called when it is idle."""
        self._idle.clear()
        self._jobs.put(job)

    def stop(self, timeout: float) -> None:
        """End the thread after the present job, and wait for that."""
        self._jobs.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                self._work(job)
            except Exception as error:
                self._on_error(error)
            finally:
                self._idle.set()
