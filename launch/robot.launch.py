"""The node graph of `vla_mbpo.bringup` for `ros2 launch vla_mbpo robot.launch.py scene:=red_bin use_rviz:=true`."""

import os
import time
from typing import IO

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node

from launch import LaunchContext, LaunchDescription
from vla_mbpo.bringup import (
    DEFAULT_BUNDLE,
    DEFAULT_ROBOT,
    DEFAULT_SCENE,
    FINAL,
    RESTART_DELAY,
    RESTART_WINDOW,
    RESTARTS,
    NodeSpec,
    Options,
    Restart,
    graph,
    parse_override,
)
from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.engines.budget import check
from vla_mbpo.paths import domain, enclave, robot_dir, ros_environment, share_dir
from vla_mbpo.processes import lock_domain
from vla_mbpo.sim.tasks import TASKS

_HELD: list[IO[str] | None] = []  # the domain, for this stack, until launch ends

ARGUMENTS = (
    DeclareLaunchArgument("robot", default_value=DEFAULT_ROBOT, description="Robot: a name or a folder."),
    DeclareLaunchArgument("bundle", default_value=DEFAULT_BUNDLE, description="Model bundle: a name or a folder."),
    DeclareLaunchArgument("scene", default_value=DEFAULT_SCENE, choices=list(TASKS), description="Simulated scene."),
    DeclareLaunchArgument("seed", default_value="0", description="Seed of the simulated scene."),
    DeclareLaunchArgument(
        "dry_run",
        default_value="false",
        choices=["true", "false"],
        description="A real robot's stack without the robot and its cameras.",
    ),
    DeclareLaunchArgument(
        "limits_scale", default_value="1.0", description="Share of the robot's limits of speed, for first days."
    ),
    DeclareLaunchArgument("k", default_value="8", description="Candidate chunks per inference."),
    DeclareLaunchArgument("use_rviz", default_value="false", choices=["true", "false"], description="Start RViz."),
    DeclareLaunchArgument(
        "markers",
        default_value="false",
        choices=["true", "false"],
        description="Start what RViz shows beside robot and transforms; use_rviz does, too.",
    ),
    DeclareLaunchArgument(
        "use_sim_time", default_value="false", choices=["true", "false"], description="Follow the simulator's /clock."
    ),
    DeclareLaunchArgument(
        "page", default_value="true", choices=["true", "false"], description="Start the web page (monitor node)."
    ),
    DeclareLaunchArgument("world_model", default_value="", description="Bundle that vets chunks; empty: none."),
    DeclareLaunchArgument("detector", default_value="", description="Bundle that watches for failure; empty: none."),
    DeclareLaunchArgument("release", default_value="", description="Models as one: live, a name or a folder."),
    DeclareLaunchArgument("store", default_value="", description="Folder of the releases; empty: the default one."),
    DeclareLaunchArgument("trainer", default_value="", description="Folder of a training loop; empty: none."),
    DeclareLaunchArgument("record", default_value="", description="Folder of recorded episodes; empty: none."),
    DeclareLaunchArgument(
        "joy", default_value="true", choices=["true", "false"], description="Read gamepads with our own node."
    ),
    DeclareLaunchArgument(
        "budget", default_value="", description="For all models: vram=MB,memory=MB,threads=N; empty: what is free."
    ),
    DeclareLaunchArgument("security", default_value="", description="Keystore for DDS security; empty: none."),
    DeclareLaunchArgument(
        "set", default_value="", description="More parameters: node.param=value, separated by semicolons."
    ),
)


def generate_launch_description() -> LaunchDescription:
    """Arguments, the middleware's environment, and the nodes."""
    environment = [
        SetEnvironmentVariable(name, value)
        for name, value in ros_environment().items()
        if os.environ.get(name) != value
    ]
    rviz, nodes = OpaqueFunction(function=_rviz), OpaqueFunction(function=_nodes)
    return LaunchDescription([*ARGUMENTS, *environment, rviz, nodes])


def _nodes(context: LaunchContext) -> list:
    """Actions for the graph; the lifecycle manager configures and activates it in order."""
    values = {argument.name: LaunchConfiguration(argument.name).perform(context) for argument in ARGUMENTS}
    overrides: dict[str, dict] = {}
    for text in filter(None, (part.strip() for part in values["set"].split(";"))):
        node, name, value = parse_override(text)
        overrides.setdefault(node, {})[name] = value
    options = Options(
        bundle=values["bundle"],
        scene=values["scene"],
        seed=_whole("seed", values["seed"]),
        k=_whole("k", values["k"]),
        overrides=overrides,
        use_sim_time=values["use_sim_time"] == "true",
        page=values["page"] == "true",
        joy=values["joy"] == "true",
        world_model=values["world_model"],
        detector=values["detector"],
        release=values["release"],
        store=values["store"],
        trainer=values["trainer"],
        record=values["record"],
        markers="true" in (values["markers"], values["use_rviz"]),
        dry_run=values["dry_run"] == "true",
        limits_scale=_number("limits_scale", values["limits_scale"]),
    )
    specs = graph(values["robot"], options)
    check(specs, values["budget"])
    _HELD.append(lock_domain(str(domain())))
    secured: dict[str, str] = {}  # for the nodes alone: that of launch itself has no enclave and needs none
    if values["security"]:
        from vla_mbpo.security.keystore import environment

        secured = environment(values["security"], specs)
    actions: list = []
    for spec in specs:
        action = _action(spec, secured)
        actions += [action, RegisterEventHandler(OnProcessExit(target_action=action, on_exit=_Watch(spec)))]
    return actions


def _whole(name: str, text: str) -> int:
    require(text.isdecimal(), name, text, "expected a whole number, 0 or more")
    return int(text)


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(name, text, "expected a number") from None


def _rviz(context: LaunchContext) -> list:
    """RViz and what publishes the robot's model and transforms for it."""
    names = ("robot", "use_rviz", "use_sim_time", "security")
    values = {name: LaunchConfiguration(name).perform(context) for name in names}
    if values["use_rviz"] != "true":
        return []
    alone = "false with security: its nodes are in no enclave; start them by hand with enclaves of their own"
    require(not values["security"], "use_rviz", "true", alone)
    clock = {"use_sim_time": values["use_sim_time"] == "true"}
    spec = RobotSpec.load(robot_dir(values["robot"]))
    model = {"robot_description": spec.urdf.read_text()}
    shown = ["-d", str(share_dir() / "config" / "rviz" / "vla_mbpo.rviz"), "-f", spec.base_frame]
    return [
        Node(package="robot_state_publisher", executable="robot_state_publisher", parameters=[model, clock]),
        Node(package="rviz2", executable="rviz2", arguments=shown, parameters=[clock]),
    ]


class _Watch:
    """A process that is not to be restarted, or too often, ends everything, as in `vla-mbpo up`.

    Launch itself starts the others again, spare ones RESTARTS times in all: without them the rest goes on.
    """

    def __init__(self, spec: NodeSpec) -> None:
        self._spec = spec
        self._ends: list[float] = []

    def __call__(self, event: ProcessExited, context: LaunchContext) -> list:
        if context.is_shutdown:  # that is why it ended
            return []
        now = time.monotonic()
        self._ends = [*(end for end in self._ends if now - end < RESTART_WINDOW), now]
        final = self._spec.restart == Restart.NEVER or event.returncode in FINAL
        if self._spec.spare and (event.returncode == 0 or not final):  # the others go on without it
            return []
        if not final and len(self._ends) <= RESTARTS:
            return []
        if event.returncode:
            raise RuntimeError(f"{event.process_name} ended with exit code {event.returncode}")  # so that launch fails
        return [EmitEvent(event=Shutdown(reason=f"{event.process_name} ended"))]


def _action(spec: NodeSpec, secured: dict[str, str]) -> Node:
    kind = LifecycleNode if spec.lifecycle else Node
    return kind(
        package="vla_mbpo",
        executable=spec.executable,
        name=spec.name,
        exec_name=spec.name,
        namespace="",
        parameters=[str(spec.params_file), spec.parameters],
        ros_arguments=["--enclave", enclave(spec.name)],
        additional_env=secured,
        prefix=f"nice -n {spec.nice}" if spec.nice else None,
        respawn=spec.restart == Restart.ON_FAILURE,
        respawn_delay=RESTART_DELAY,
        respawn_max_retries=RESTARTS if spec.spare else -1,  # else _Watch counts
        output="screen",
        emulate_tty=True,
    )
