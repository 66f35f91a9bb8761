"""Folders that are there as a whole or not at all, and files that are numbered before they grow too large."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vla_mbpo.core.disk import sync
from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.record.lerobot.layout import CHUNK_FILES


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A folder to fill that becomes ``out`` when all of it is on the disk; after an error it is gone.

    Raises:
        ConfigError: ``out`` holds something, or cannot be made.
    """
    out = out.expanduser().resolve()
    free = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    require(free, "out", str(out), "expected a folder that is empty or not there yet")
    beside = out.with_name(f".{out.name}.partial")  # the same name each time: what a kill left is found again
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
    except OSError as error:
        raise ConfigError("out", str(out), f"expected a place to write to: {error.strerror}") from None
    try:
        yield beside
        for file in beside.rglob("*"):
            sync(file)
        beside.rename(out)  # also over an empty folder
        sync(out.parent)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


class Parts:
    """The numbered file that is written to: the next one where another episode could make it too large."""

    def __init__(self, root: Path, template: str, limit: int) -> None:
        """``template``: of layout.py, with only the numbers left open; ``limit`` [bytes]."""
        self._root, self._template, self._limit = root, template, limit
        self._largest = self._before = 0  # bytes: of an episode, and in the file before the running one
        self.number = -1

    @property
    def place(self) -> dict[str, int]:
        """``chunk_index`` and ``file_index``."""
        chunk, file = divmod(max(self.number, 0), CHUNK_FILES)
        return {"chunk_index": chunk, "file_index": file}

    @property
    def path(self) -> Path:
        """Of the file, whose folder is there."""
        path = self._root / self._template.format(**self.place)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def full(self, size: int) -> bool:
        """Whether the next episode needs a new file; the numbers go on if so. ``size``: of the present one [bytes]."""
        self._largest, self._before = max(self._largest, size - self._before), size
        if self.number >= 0 and size + self._largest <= self._limit:
            return False
        self.number, self._before = self.number + 1, 0
        return True
