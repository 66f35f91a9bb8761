"""Where configuration, models and launch files are, and the environment that ROS processes need."""

import os
import sys
from pathlib import Path

from vla_mbpo.core.errors import ConfigError, require

_PACKAGE = "vla_mbpo"


def share_dir() -> Path:
    """Folder that holds ``launch``, ``config``, ``models`` and ``calibration``.

    The source root in a checkout or an editable install, the package's share folder otherwise.
    """
    source_root = Path(__file__).resolve().parents[2]
    if (source_root / "package.xml").is_file() and (source_root / "config").is_dir():
        return source_root
    for prefix in (*_ament_prefixes(), sys.prefix):
        share = Path(prefix, "share", _PACKAGE)
        if (share / "config").is_dir():
            return share
    raise ConfigError("AMENT_PREFIX_PATH", os.environ.get("AMENT_PREFIX_PATH", ""), f"no share/{_PACKAGE} below it")


def robots() -> list[str]:
    """Names of the robots that have a folder in ``config/robots``."""
    return _folders_with(share_dir() / "config" / "robots", "robot.yaml")


def robot_dir(name_or_path: str | Path) -> Path:
    """Folder of one robot's description: a name in ``config/robots``, or any folder with a robot.yaml."""
    if str(name_or_path) in robots():
        return share_dir() / "config" / "robots" / name_or_path
    path = Path(name_or_path).expanduser()
    if (path / "robot.yaml").is_file():
        return path.resolve()
    choices = ", ".join(robots()) or "none installed"
    raise ConfigError("robot", str(name_or_path), f"choose one of: {choices}; or a folder with a robot.yaml")


def cell_dir(name_or_path: str | Path) -> Path:
    """Folder of a cell of several arms: a name in ``config/cells``, or any folder with a cell.yaml."""
    known = _folders_with(share_dir() / "config" / "cells", "cell.yaml")
    if str(name_or_path) in known:
        return share_dir() / "config" / "cells" / name_or_path
    path = Path(name_or_path).expanduser()
    if (path / "cell.yaml").is_file():
        return path.resolve()
    choices = ", ".join(known) or "none installed"
    raise ConfigError("cell", str(name_or_path), f"choose one of: {choices}; or a folder with a cell.yaml")


def bundles() -> list[str]:
    """Names of the model bundles in ``models``."""
    return _folders_with(share_dir() / "models", "manifest.json")


def bundle_dir(name_or_path: str | Path) -> Path:
    """Folder of one model bundle: a name in ``models``, or any folder with a manifest.json."""
    if str(name_or_path) in bundles():
        return share_dir() / "models" / name_or_path
    path = Path(name_or_path).expanduser()
    if (path / "manifest.json").is_file():
        return path.resolve()
    choices = ", ".join(bundles()) or "none installed"
    raise ConfigError("bundle", str(name_or_path), f"choose one of: {choices}; or a folder with a manifest.json")


def store_dir(given: str | Path = "") -> Path:
    """Folder of the releases: ``given``, or releases/ below ``home``."""
    return Path(given).expanduser().absolute() if str(given) else home() / "releases"


def home() -> Path:
    """What this machine keeps from one start to the next: VLA_MBPO_HOME, or ~/.local/share/vla_mbpo."""
    return Path(os.environ.get("VLA_MBPO_HOME") or "~/.local/share/vla_mbpo").expanduser().absolute()


def enclave(node: str) -> str:
    """Name of a node's enclave in a security keystore, for ``--enclave``, which without security says nothing."""
    return f"/{_PACKAGE}/{node}"


def domain() -> int:
    """ROS_DOMAIN_ID, 0 by default. ConfigError: it is no domain."""
    text = os.environ.get("ROS_DOMAIN_ID") or "0"
    require(text.isdecimal() and int(text) <= 232, "ROS_DOMAIN_ID", text, "expected an integer from 0 to 232")
    return int(text)


def ros_environment() -> dict[str, str]:
    """Environment for a child process that uses ROS: the caller's, with what it lacks."""
    environment = dict(os.environ)
    # Set by the ROS wheels of this process: a child that inherits it would not look for its own libraries.
    environment.pop("_ROS_WHEELS_BOOTSTRAP_COMPLETE", None)
    prefixes = _ament_prefixes()
    if sys.prefix not in prefixes:
        prefixes.append(sys.prefix)
    environment["AMENT_PREFIX_PATH"] = os.pathsep.join(prefixes)

    defaults = {
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        # The default transports drop best-effort camera images: a shared-memory segment holds less than one.
        "FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA?max_msg_size=2MB&sockets_size=4MB",
        # Draw without a display; one thread of software rendering per process, as several processes share the cores.
        "MUJOCO_GL": "egl",
        "LP_NUM_THREADS": "1",
    }
    if "FASTRTPS_DEFAULT_PROFILES_FILE" not in environment:  # the same variable's name before Fast DDS 3
        defaults["FASTDDS_DEFAULT_PROFILES_FILE"] = str(share_dir() / "config" / "fastdds.xml")
    for name, value in defaults.items():
        environment.setdefault(name, value)
    return environment


def _ament_prefixes() -> list[str]:
    return [prefix for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]


def _folders_with(folder: Path, file: str) -> list[str]:
    return sorted(entry.parent.name for entry in folder.glob(f"*/{file}"))
