"""What has to survive the death of the machine."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Have the disk keep a file's content, or the names in a folder. OSError. Any thread."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
