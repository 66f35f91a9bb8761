"""Message definitions as MCAP keeps them (schema encoding ros2msg), read from the installed interface packages."""

import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from vla_mbpo.core.errors import require

_BUILT_IN = {"bool", "byte", "char", "string", "wstring", "float32", "float64"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}
_FIELD = re.compile(r"^\s*([A-Za-z][\w/]*)(?:<=\d+)?(?:\[[^\]]*\])?\s+[A-Za-z]\w*")


def installed(package: str) -> Path:
    """Share folder of an installed ROS package. LookupError: there is none, OSError: no ROS environment."""
    from ament_index_python.packages import get_package_share_directory

    return Path(get_package_share_directory(package))


@lru_cache(maxsize=256)
def definition(kind: str, share: Callable[[str], Path] = installed) -> str:
    """The text of ``pkg/msg/Name`` followed by those of all types that it holds.

    Raises:
        ConfigError: the type is not installed.
    """
    texts, waiting = {}, [kind]
    while waiting:
        name = waiting.pop(0)
        if name in texts:
            continue
        package, _, short = name.split("/")
        path = share(package) / "msg" / f"{short}.msg"
        require(path.is_file(), "message type", name, f"expected its definition at {path}")
        texts[name] = path.read_text()
        waiting += _parts(texts[name], package)
    first, *others = texts.items()
    bar = "=" * 80
    # rosbag2 names the types that follow without the word msg in the middle.
    tail = [f"{bar}\nMSG: {name.replace('/msg/', '/')}\n{text.rstrip()}" for name, text in others]
    return "\n".join([first[1].rstrip(), *tail]) + "\n"


def _parts(text: str, package: str) -> list[str]:
    """Types of the fields that are messages themselves."""
    found = []
    for line in text.splitlines():
        match = _FIELD.match(line.split("#")[0])
        if match is None or "=" in line.split("#")[0].replace("<=", "") or match[1] in _BUILT_IN:
            continue  # a constant is of a built-in type
        owner, _, short = match[1].rpartition("/")
        owner = owner.removesuffix("/msg") or package
        found.append(f"{owner}/msg/{short}")
    return found
