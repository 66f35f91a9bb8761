"""Reads `policy.yaml`, strictly: what cannot be right for this robot is refused, with field, value and valid range."""

import ipaddress
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import yaml
from numpy.typing import NDArray

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.section import Section
from vla_mbpo.policy.bundle import require_name
from vla_mbpo.policy.foreign.description import (
    ADAPTERS,
    FILE,
    JOINT_TYPES,
    STATES,
    TOOL_TYPES,
    VIEWS,
    Actions,
    Description,
    Graphs,
    Numbers,
    Picture,
    Reads,
    Server,
)


def read_description(folder: Path, spec: RobotSpec) -> Description:
    """Read and check ``folder/policy.yaml`` for a robot. ConfigError names the field."""
    path = folder / FILE
    try:
        raw = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(str(path), " ".join(str(error).split()), "expected a readable YAML file") from error
    top = Section(raw, FILE)
    robot = top.take("robot", str, spec.name)
    require(robot == spec.name, f"{FILE}: robot", robot, f"the robot is {spec.name}")
    adapter = top.choice("adapter", ADAPTERS)
    reads = _reads(top.section("observation"), adapter)
    instructions = tuple(map(str, top.take("instructions", list, []))) or tuple(reads.known)
    hears = adapter == "openpi" and reads.instruction
    require(bool(hears or instructions), f"{FILE}.instructions", [], "needed: the policy is not told in free text")
    unknown = sorted(set(instructions) - set(reads.known)) if reads.known else []
    require(not unknown, f"{FILE}.instructions", unknown, "instructions that observation.instruction.known has")
    found = Description(
        name=top.take("name", str, needed=True),
        adapter=adapter,
        image_size=top.whole("image_size", 16, 2048),
        instructions=instructions,
        reads=reads,
        actions=_actions(top.section("actions"), spec),
        server=_server(top.section("server")) if adapter == "openpi" else None,
        graphs=_graphs(top.section("onnx")) if adapter == "onnx" else None,
    )
    require_name(f"{FILE}.name", found.name)
    top.end()
    return found


def _reads(raw: Section, adapter: str) -> Reads:
    pictures = {key: _picture(Section(value, f"observation.images.{key}")) for key, value in
                raw.section("images").items()}  # fmt: skip
    numbers = {key: _numbers(value, f"observation.state.{key}") for key, value in
               raw.section("state", needed=False).items()}  # fmt: skip
    told = raw.take("instruction", (str, dict), "")
    known: dict[str, NDArray[np.float64]] = {}
    if isinstance(told, dict):
        section = Section(told, "observation.instruction")
        told = section.take("input", str, needed=True)
        known = {text: Section({"numbers": value}, f"observation.instruction.known.{text}").array("numbers", 0.0)
                 for text, value in section.section("known").items()}  # fmt: skip
        require(len({array.shape for array in known.values()}) == 1, "observation.instruction.known", list(known),
                "at least one instruction, and as many numbers for each")  # fmt: skip
        section.end()
    fits = bool(known) == (adapter == "onnx") or not told
    require(fits, "observation.instruction", told, "a key for an openpi server; input and known for an ONNX pair")
    raw.end()
    return Reads(pictures, numbers, told, known)


def _picture(raw: Section) -> Picture:
    found = Picture(
        view=raw.choice("view", VIEWS),
        size=raw.whole("size", 16, 2048),
        layout=raw.choice("layout", ("hwc", "chw"), "hwc"),
        float32=raw.choice("dtype", ("uint8", "float32"), "uint8") == "float32",
        mean=raw.array("mean", 0.0),
        std=raw.array("std", 1.0),
    )
    for name, value in (("mean", found.mean), ("std", found.std)):
        require(value.shape in ((), (3,)), f"{raw.where}.{name}", value.tolist(), "one number, or one per colour")
        plain = bool((value == (name == "std")).all())
        require(found.float32 or plain, f"{raw.where}.{name}", value.tolist(), "with dtype: float32 only")
    require(bool((found.std > 0).all()), f"{raw.where}.std", found.std.tolist(), "expected above 0")
    raw.end()
    return found


def _numbers(raw: Any, where: str) -> Numbers:
    section = Section(raw if isinstance(raw, dict) else {"parts": raw}, where)
    parts = tuple(section.take("parts", list, needed=True))
    require(bool(parts) and set(parts) <= set(STATES), f"{where}.parts", list(parts), f"some of {', '.join(STATES)}")
    found = Numbers(parts, section.array("mean", 0.0), section.array("std", 1.0))
    require(bool((found.std > 0).all()), f"{where}.std", found.std.tolist(), "expected above 0")
    section.end()
    return found


def _actions(raw: Section, spec: RobotSpec) -> Actions:
    kind = raw.choice("type", (*JOINT_TYPES, *TOOL_TYPES))
    width = len(spec.joints) if kind in JOINT_TYPES else 6
    rows, columns = raw.whole("rows", 2, 1000), raw.whole("columns", width, 1000)
    motion = tuple(raw.take("motion", list, list(range(width))))
    inside = all(type(one) is int and 0 <= one < columns for one in motion) and len(set(motion)) == width == len(motion)
    require(inside, "actions.motion", list(motion), f"{width} different columns, each from 0 to {columns - 1}")
    gripper = raw.section("gripper", needed=False)
    column = gripper.whole("column", -1, columns - 1, -1)
    open_, closed = (gripper.number(key, -1e6, 1e6, default) for key, default in (("open", 1.0), ("closed", 0.0)))
    require(open_ != closed, "actions.gripper.open", open_, "another value than closed")
    require(column not in motion, "actions.gripper.column", column, "no column of the arm's motion")
    gripper.end()
    found = Actions(
        key=raw.take("key", str, "actions"), rows=rows, columns=columns,
        row_period=raw.number("row_period", 0.001, 1.0), type=kind, motion=motion,
        scale=raw.array("scale", 1.0), offset=raw.array("offset", 0.0),
        gripper=column, open=open_, closed=closed, join_rows=raw.whole("join_rows", 0, 16, 4),
    )  # fmt: skip
    for name, value in (("scale", found.scale), ("offset", found.offset)):
        shapes = ((), (columns,), (rows, columns))
        require(
            value.shape in shapes, f"actions.{name}", f"shape {value.shape}", f"one of {', '.join(map(str, shapes))}"
        )
    raw.end()
    return found


def _server(raw: Section) -> Server:
    url, remote = raw.take("url", str, needed=True), raw.take("remote", bool, False)
    where = urlsplit(url)
    require(where.scheme in ("ws", "wss") and bool(where.hostname), "server.url", url, "ws://HOST:PORT or wss://HOST")
    require(
        not (where.username or where.password), "server.url", "with a password", "api_key_env names the key's place"
    )
    text = "a host of this machine, such as an ssh tunnel's end; or remote: true"
    require(remote or _loopback(str(where.hostname)), "server.url", url, text)
    variable, headers = raw.take("api_key_env", str, ""), {}
    if variable:
        key = os.environ.get(variable, "")
        require(bool(key), "server.api_key_env", variable, "a variable of the environment that holds the key")
        headers = {"Authorization": f"Api-Key {key}"}
    found = Server(
        url=url, answer_within=raw.number("answer_within", 0.02, 5.0, 0.25),
        candidates=raw.whole("candidates", 1, 64, 1),
        largest=raw.whole("largest_answer", 1000, 64_000_000, 1_000_000), headers=headers,
        expect=raw.take("expect", dict, {}),
    )  # fmt: skip
    raw.end()
    return found


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _graphs(raw: Section) -> Graphs:
    step, carry = raw.take("step", str, ""), raw.take("carry", (list, dict), {})
    names = {str(name): str(name) for name in carry} if isinstance(carry, list) else {
        str(key): str(value) for key, value in carry.items()}  # fmt: skip
    found = Graphs(
        encoder=raw.take("encoder", str, needed=True), step=step, carry=names,
        noise=raw.take("noise", str, needed=bool(step)) or "", time=raw.take("time", str, needed=bool(step)) or "",
        velocity=raw.take("velocity", str, needed=bool(step)) or "",
        begin=raw.number("begin", -1.0, 2.0, 0.0), end=raw.number("end", -1.0, 2.0, 1.0),
        steps=raw.whole("steps", 1, 100, 5), features=raw.take("features", str, ""),
    )  # fmt: skip
    require(found.begin != found.end, "onnx.end", found.end, "another time than begin")
    raw.end()
    return found
