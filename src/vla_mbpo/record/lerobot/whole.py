"""Files that are numbered before they grow too large."""

from pathlib import Path

from vla_mbpo.record.lerobot.layout import CHUNK_FILES


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
