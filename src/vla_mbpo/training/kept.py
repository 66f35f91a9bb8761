"""Rollouts that are made of something else and kept beside it, with a key that says what they were made of."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from vla_mbpo.core.errors import ConfigError

MAKING = 4  # to be raised when what is made of a recording changes


def plain(folder: Path) -> list[Path]:
    """Finished npz files that lie in a folder itself."""
    return [file for file in sorted(folder.glob("*.npz")) if ".partial" not in file.name]


def made_of(file: Path) -> str:
    """The key of a rollout; empty: there is none, or it cannot be read."""
    try:
        with np.load(file) as episode:
            return str(episode["made_of"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return ""


def write(file: Path, arrays: Mapping[str, Any], key: str) -> None:
    """Write it under another name and rename it. ConfigError: the folder cannot be made or written to."""
    partial = file.with_suffix(f".{os.getpid()}.partial.npz")  # several ranks may be at it
    try:
        file.parent.mkdir(exist_ok=True)
        np.savez(partial, **{**arrays, "made_of": key})
        partial.replace(file)
    except OSError as error:
        partial.unlink(missing_ok=True)
        what = f"a folder to keep {file.name} in: {error.strerror or error}"
        raise ConfigError("data", str(file.parent), what) from error
