"""What has to survive the death of the machine."""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vla_mbpo.core.errors import ConfigError, require


def sync(path: Path) -> None:
    """Have the disk keep a file's content, or the names in a folder. OSError. Any thread."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def whole_folder(out: Path, kept: Iterable[str] | None = None) -> Iterator[Path]:
    """A folder to fill that becomes ``out`` when all of it is on the disk; after an error ``out`` is as it was.

    Args:
        out: resolved (``place_of``).
        kept: names of files of the folder that it replaces which stay; None: it replaces none.

    Raises:
        ConfigError: ``out`` holds something that is not to be replaced, or cannot be made.
    """
    free = kept is not None or not out.exists() or (out.is_dir() and not any(out.iterdir()))
    require(free, "out", str(out), "expected a folder that is empty or not there yet")
    beside, before = _beside(out)  # the same names each time: what a kill left is found again
    try:
        for left in (beside, before):
            shutil.rmtree(left, ignore_errors=True)
        beside.mkdir(parents=True)
    except OSError as error:
        raise ConfigError("out", str(out), f"expected a place to write to: {error.strerror}") from None
    try:
        yield beside
        for name in kept or ():
            if not (beside / name).exists():
                (beside / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(out / name, beside / name)
        for file in beside.rglob("*"):
            sync(file)
        if out.exists():
            out.rename(before)
        beside.rename(out)
        sync(out.parent)
    except BaseException:
        if before.exists() and not out.exists():
            before.rename(out)
        raise
    finally:
        for left in (beside, before):
            shutil.rmtree(left, ignore_errors=True)


def place_of(out: Path) -> Path:
    """``out``, resolved. What a writer took away, and was killed before it put another in its place, is back there."""
    out = out.expanduser().resolve()
    _, before = _beside(out)
    if before.exists() and not out.exists():
        before.rename(out)
    return out


def _beside(out: Path) -> tuple[Path, Path]:
    partial, before = (out.with_name(f".{out.name}.{name}") for name in ("partial", "before"))
    return partial, before
