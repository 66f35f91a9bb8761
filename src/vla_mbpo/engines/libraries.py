"""The libraries that build and run engines: which are installed, and their versions. None is imported before that."""

import importlib
from typing import Any

from vla_mbpo.core.errors import ConfigError, require

LIBRARIES = ("tensorrt", "tensorrt_rtx")  # in order of preference
# TensorRT-RTX builds for these ahead of time, without the GPU. TensorRT builds for the GPU that is there.
ARCHITECTURES = ("SM75", "SM80", "SM86", "SM89", "SM120", "SM121")


def module(library: str) -> Any:
    """The library's Python module. ConfigError: unknown, or it cannot be imported."""
    require(library in LIBRARIES, "library", library, f"one of {', '.join(LIBRARIES)}")
    try:
        return importlib.import_module(library)
    except (ImportError, OSError) as error:
        package = library.replace("_", "-")
        valid = f"not installed here ({error}); pip install {package}"
        raise ConfigError("library", library, valid) from error


def version(library: str) -> str:
    """Version of an installed library, empty: it is not installed. Any thread."""
    try:
        return str(importlib.import_module(library).__version__)
    except (ImportError, OSError, AttributeError):  # the PyPI package `tensorrt` can be there without its libraries
        return ""


def target(library: str, architecture: str, gpu: str) -> str:
    """What an engine is for: TensorRT-RTX does its last step on the GPU itself, TensorRT times its kernels on one."""
    return architecture if library == "tensorrt_rtx" else f"{architecture} {gpu}"
