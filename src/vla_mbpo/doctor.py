"""`vla-mbpo doctor`: what works on this machine and what does not, in one table."""

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.paths import bundle_dir, bundles, domain, robot_dir, robots, ros_environment, share_dir
from vla_mbpo.processes import lock_domain

PACKAGES = ("vla_mbpo", "vla_mbpo_msgs", "rclpy", "mujoco", "onnxruntime", "numpy", "ruckig")


STACK_TIME = 5.0  # s for the stack to be found
FREE_DISK = 2e9  # bytes; a minute of recording is some hundred MB


class CheckError(Exception):
    """A check failed; the text says what to do."""


class Advice(Exception):
    """Nothing failed, but something is better changed; the text says what."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--stack", action="store_true", help="only whether the stack of this domain is ready")


def run(args: argparse.Namespace) -> int:
    """Print what was found. Returns 1 if anything failed."""
    os.environ.update(ros_environment())
    wanted = {"stack": _stack} if args.stack else CHECKS
    found = {name: _look(check) for name, check in wanted.items()}
    ok = all(status != "failed" for status, _ in found.values())
    if args.json:
        checks = {name: {"status": status, "text": text} for name, (status, text) in found.items()}
        print(json.dumps({"ok": ok, "checks": checks}, indent=1))
    else:
        _print(found)
    return int(not ok)


def _look(check: Callable[[], str]) -> tuple[str, str]:
    """Status (ok, advice or failed) and text of one check."""
    try:
        return "ok", check()
    except Advice as advice:
        return "advice", str(advice)
    except (CheckError, ConfigError) as error:
        return "failed", str(error)
    except Exception as error:
        return "failed", f"{type(error).__name__}: {error}"


def _print(found: dict[str, tuple[str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    colours = {"ok": "green", "advice": "yellow", "failed": "red"}
    table = Table("check", "", "result", box=None)
    for name, (status, text) in found.items():
        table.add_row(name, f"[{colours[status]}]{status.upper() if status == 'failed' else status}[/]", text)
    Console().print(table)


def _python() -> str:
    return f"{platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"


def _packages() -> str:
    found, missing = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    # On a ROS install rclpy and the messages come from apt and colcon, without pip metadata.
    missing = [name for name in missing if not _importable(name)]
    if missing:
        raise CheckError(f"missing: {', '.join(missing)}; run `make setup`")
    return ", ".join(found)


def _importable(name: str) -> bool:
    try:
        __import__(name)
    except ImportError:
        return False
    return True


def _messages() -> str:
    from rclpy.serialization import deserialize_message, serialize_message
    from vla_mbpo_msgs.msg import ActionChunkSet

    sent = ActionChunkSet(chunk_set_id=7)
    if deserialize_message(serialize_message(sent), ActionChunkSet) != sent:
        raise CheckError("a message does not survive serialisation; rebuild vla_mbpo_msgs")
    return "vla_mbpo_msgs serialises"


def _rendering() -> str:
    import mujoco

    begin = time.monotonic()
    model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><geom size='1'/></worldbody></mujoco>")
    with mujoco.Renderer(model, 96, 96) as renderer:
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        renderer.update_scene(data)
        if not renderer.render().any():
            raise CheckError("the picture is black")
    return f"MUJOCO_GL={os.environ.get('MUJOCO_GL')}, first picture after {1e3 * (time.monotonic() - begin):.0f} ms"


def _transport() -> str:
    """A message from one process to another: this one listens."""
    import rclpy
    from std_msgs.msg import String

    from vla_mbpo.nodes.process import start_ros

    start_ros([])
    code = (
        "import rclpy, time; from std_msgs.msg import String; rclpy.init(); n = rclpy.create_node('doctor_talker')\n"
        "p = n.create_publisher(String, '/doctor', 1)\n"
        "for _ in range(100): p.publish(String(data=str(time.time_ns()))); time.sleep(0.1)"
    )
    heard: list[float] = []
    node = rclpy.create_node("doctor")
    node.create_subscription(String, "/doctor", lambda m: heard.append((time.time_ns() - int(m.data)) / 1e6), 1)
    talker = subprocess.Popen([sys.executable, "-c", code], env=ros_environment(), stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 10.0
        while len(heard) < 5 and time.monotonic() < until:
            rclpy.spin_once(node, timeout_sec=0.1)
    finally:
        talker.kill()
        talker.wait()
        node.destroy_node()
        rclpy.try_shutdown()
    if len(heard) < 5:
        raise CheckError("no message came through within 10 s; is a firewall in the way of multicast on the loopback?")
    rmw = os.environ.get("RMW_IMPLEMENTATION", "default middleware")
    return f"{rmw}, domain {os.environ.get('ROS_DOMAIN_ID', '0')}, {min(heard):.1f} ms between processes"


def _domain() -> str:
    number = str(domain())
    try:
        lock = lock_domain(number)
    except ConfigError:
        raise Advice(
            f"a stack of this machine runs on domain {number}; another one needs another ROS_DOMAIN_ID"
        ) from None
    if lock is None:
        raise Advice(f"another user has had a stack on domain {number}; choose another ROS_DOMAIN_ID")
    lock.close()
    return f"domain {number} has no stack"


def _stack() -> str:
    """For a container's health check; what looks at the stack publishes nothing."""
    from vla_mbpo.nodes.client import StackClient

    client = StackClient("vla_mbpo_doctor")
    try:
        until = time.monotonic() + STACK_TIME
        while not client.ready and time.monotonic() < until:
            client.spin(0.05)
        if not client.ready:
            raise CheckError(f"no stack is ready on domain {domain()}")
        return f"ready on domain {domain()}"
    finally:
        client.close()


def _cpu() -> str:
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if not governor.exists():
        return "no frequency governor to be seen"
    name = governor.read_text().strip()
    if name != "performance":
        raise Advice(f"governor {name}: latency is steadier with `cpupower frequency-set -g performance`")
    return f"governor {name}"


def _gpu() -> str:
    try:
        command = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "none: inference runs on the CPU"


def _disk() -> str:
    free = shutil.disk_usage(Path.cwd()).free
    text = f"{free / 1e9:.1f} GB free in {Path.cwd()}"
    if free < FREE_DISK:
        raise Advice(f"{text}: less than {FREE_DISK / 1e9:.0f} GB")
    return text


def _robots() -> str:
    from vla_mbpo.core.controllers import FILE, check_controllers
    from vla_mbpo.core.robot import RobotSpec

    for name in robots():
        folder = robot_dir(name)
        spec = RobotSpec.load(folder)
        if (folder / FILE).exists():
            check_controllers(folder / FILE, spec)
    return f"{', '.join(robots())} in {share_dir() / 'config' / 'robots'}"


def _models() -> str:
    from vla_mbpo.core.robot import RobotSpec
    from vla_mbpo.failure.calibration import Calibration, calibration_file
    from vla_mbpo.failure.detector import Parts
    from vla_mbpo.imagination.session import WorldModelSession
    from vla_mbpo.policy.bundle import Bundle
    from vla_mbpo.policy.foreign.reading import read_description
    from vla_mbpo.policy.runtime import PolicySession

    if not bundles():
        raise CheckError(f"no bundle in {share_dir() / 'models'}")
    found = [Bundle.load(bundle_dir(name)) for name in bundles()]
    for bundle in found:
        if bundle.manifest["kind"] == "world_model":
            WorldModelSession(bundle, RobotSpec.load(robot_dir(bundle.manifest["robot"])))
        elif bundle.manifest["kind"] == "failure_detector":
            Calibration.load(calibration_file(bundle.path.name), Parts(bundle).bundle)
        elif bundle.adapter is not None:  # its server is none of this machine
            read_description(bundle.path, RobotSpec.load(robot_dir(bundle.manifest["robot"])))
        else:
            PolicySession(bundle)
    return ", ".join(bundle.version for bundle in found)


CHECKS: dict[str, Callable[[], str]] = {
    "python": _python,
    "packages": _packages,
    "messages": _messages,
    "rendering": _rendering,
    "transport": _transport,
    "domain": _domain,
    "cpu": _cpu,
    "gpu": _gpu,
    "disk": _disk,
    "robots": _robots,
    "models": _models,
}
