"""The sources that a camera node can read, and their parameters."""

from collections.abc import Callable
from typing import Any

from vla_mbpo.cameras.files import file_source
from vla_mbpo.cameras.pattern import pattern_source
from vla_mbpo.cameras.realsense import RealSenseSettings, RealSenseSource
from vla_mbpo.cameras.recorded import bag_source
from vla_mbpo.cameras.sim import SimSource
from vla_mbpo.cameras.source import Source
from vla_mbpo.cameras.v4l2 import FORMATS, V4l2Settings, V4l2Source
from vla_mbpo.core.errors import require
from vla_mbpo.nodes import qos
from vla_mbpo.nodes.base import ManagedNode
from vla_mbpo.nodes.parameters import Param

DEVICES = ("realsense", "v4l2")
IMAGE = {"head": qos.HEAD_IMAGE, "wrist": qos.WRIST_IMAGE}


def _sim(node: ManagedNode) -> Source:
    p = node.parameters
    return SimSource(node.spec(), p["view"], p["size"], p["noise_seed"])


def _realsense(node: ManagedNode) -> Source:
    p = node.parameters
    settings = RealSenseSettings(
        serial=p["realsense.serial"],
        file=p["realsense.file"],
        exposure=p["realsense.exposure"],
        depth=p["realsense.depth"],
        **_mode(node),
    )
    return RealSenseSource(settings, node.now)


def _v4l2(node: ManagedNode) -> Source:
    p = node.parameters
    return V4l2Source(V4l2Settings(device=p["v4l2.device"], fourcc=p["v4l2.fourcc"], **_mode(node)), node.now)


def _file(node: ManagedNode) -> Source:
    p = node.parameters
    return file_source(p["file.path"], p["loop"], p["fps"], node.now)


def _pattern(node: ManagedNode) -> Source:
    p = node.parameters
    return pattern_source(p["width"], p["height"], p["fps"], node.now)


def _bag(node: ManagedNode) -> Source:
    p = node.parameters
    return bag_source(p["bag.path"], p["bag.topic"] or IMAGE[p["view"]].name, p["loop"], node.now)


def _mode(node: ManagedNode) -> dict[str, Any]:
    p = node.parameters
    simulated = node.get_parameter("use_sim_time").value
    require(not simulated, "use_sim_time", simulated, f"false: source {p['source']} has stamps of the real time")
    return {"latency": round(1e9 * p["latency"]), **{name: p[name] for name in ("width", "height", "fps")}}


SOURCES: dict[str, Callable[[ManagedNode], Source]] = {
    "sim": _sim,
    "realsense": _realsense,
    "v4l2": _v4l2,
    "file": _file,
    "bag": _bag,
    "pattern": _pattern,
}

PARAMETERS = (
    Param("source", "sim", "where images come from", choices=tuple(SOURCES)),
    Param("noise_seed", 0, "sim: seed of the sensor noise", 0, 2**31),
    Param("width", 640, "realsense, v4l2, pattern: width of the camera's own pictures, px", 16, 7680),
    Param("height", 480, "realsense, v4l2, pattern: height of the camera's own pictures, px", 16, 4320),
    Param("fps", 30, "realsense, v4l2, pattern, file (a folder of pictures): pictures per second", 1, 300),
    Param("latency", 0.0, "realsense, v4l2: least time from exposure to arrival, s, if stamps do not tell", 0.0, 0.2),
    Param("realsense.serial", "", "serial number of the camera; empty: the only one there is"),
    Param("realsense.file", "", "recording of librealsense to play in place of a camera; empty: none"),
    Param("realsense.exposure", 0, "exposure of the colour sensor, us; 0: automatic", 0, 1_000_000),
    Param("realsense.depth", False, "also publish depth, aligned to colour"),
    Param("v4l2.device", "0", "path of the camera, better in /dev/v4l/by-id, or N of /dev/videoN"),
    Param("v4l2.fourcc", "", "encoding of the camera's pictures; empty: the driver's choice", choices=tuple(FORMATS)),
    Param("file.path", "", "video, or folder of pictures"),
    Param("bag.path", "", "MCAP file, or folder with one, such as a recorded episode"),
    Param("bag.topic", "", "topic of its images; empty: this node's own"),
    Param("loop", True, "file, bag: begin again at the end"),
)
