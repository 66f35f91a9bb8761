"""The one description of the node graph. `launch/robot.launch.py` and `vla-mbpo up` both start what stands here."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from vla_mbpo.arm.config import SHAPING
from vla_mbpo.core.controllers import FILE, check_controllers
from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.core.robot import LIMITS_SCALE, RobotSpec
from vla_mbpo.paths import bundle_dir, robot_dir, store_dir
from vla_mbpo.releases.store import Store
from vla_mbpo.sim.tasks import find_task

DEFAULT_ROBOT, DEFAULT_BUNDLE, DEFAULT_SCENE = "sim_panda", "sft_full", "red_bin"
MANAGER = "lifecycle_manager"
Row = tuple[str, str, dict[str, Any], dict[str, Any]]  # executable, name, parameters, rest of a NodeSpec
RESTART_WINDOW = 60.0  # s; a process that ends more than RESTARTS times within it stays down
FINAL = (0, 64)  # exit codes after which none is started again: it was asked to end, or its configuration is wrong
RESTARTS, RESTART_DELAY = 5, 0.5  # a failing process is started again at most so often, each time after so many s


class Restart(StrEnum):
    """What to do when a process ends by itself."""

    NEVER = "never"
    ON_FAILURE = "on_failure"


@dataclass(frozen=True)
class Options:
    """What a user chooses.

    Attributes:
        bundle: model bundle, a name in models/ or a folder.
        scene: task whose scene the simulator builds.
        seed: scene seed.
        k: candidates per inference.
        overrides: node -> parameter -> value, stronger than everything else.
        use_sim_time: nodes follow /clock.
        page: with the monitor node and its web page.
        world_model: bundle that vets chunks by imagination; empty: none does.
        detector: bundle that watches for failure; empty: none does.
        release: live, a name in the store or a folder: policy, and if it has them world model and detector with its
            bands, in place of ``bundle``, ``world_model`` and ``detector``; empty: those.
        store: folder of the releases; empty: the default one.
        trainer: folder of a training loop beside the stack; empty: none.
        record: folder of recorded episodes; empty: nothing is recorded.
        markers: with what RViz shows beside robot and transforms.
        joy: with our own reader of gamepads; without it, where the ROS package joy runs or nobody takes over.
        dry_run: a real arm's stack without the arm: a node plays ros2_control, cameras show a test pattern, and the
            default bundle, which is no real arm's, is replaced by a small motion to and fro.
        limits_scale: share of the robot's limits of speed and acceleration, for every node.
    """

    bundle: str = DEFAULT_BUNDLE
    scene: str = DEFAULT_SCENE
    seed: int = 0
    k: int = 8
    overrides: dict[str, dict[str, Any]] = field(default_factory=dict)
    use_sim_time: bool = False
    page: bool = True
    world_model: str = ""
    detector: str = ""
    joy: bool = True
    release: str = ""
    store: str = ""
    trainer: str = ""
    record: str = ""
    markers: bool = False
    dry_run: bool = False
    limits_scale: float = 1.0


@dataclass(frozen=True)
class NodeSpec:
    """One process of the graph.

    Attributes:
        executable: module in `nodes/` and executable of the package.
        name: node name.
        parameters: stronger than ``params_file``.
        params_file: ROS parameters of the robot.
        restart: what to do when the process ends by itself.
        spare: when it keeps failing, the others go on without it.
        motion_critical: its loss ends motion, and starting it again is a person's decision.
        nice: scheduling priority; what makes the arm move goes before what looks and thinks.
        condition: robots of which kind have it: ``always``, ``simulated``, or ``dry``: the dry run of a real one.
        lifecycle: managed by the lifecycle manager; another activates itself.
    """

    executable: str
    name: str
    parameters: dict[str, Any]
    params_file: Path
    restart: Restart = Restart.ON_FAILURE
    motion_critical: bool = False
    spare: bool = False
    nice: int = 0
    condition: str = "always"
    lifecycle: bool = True


def graph(
    robot: str = DEFAULT_ROBOT, options: Options = Options(), only: Collection[str] | None = None
) -> list[NodeSpec]:
    """The processes of ``robot``, in order of bring-up, the lifecycle manager last.

    Args:
        robot: a folder in config/robots.
        options: what a user chooses.
        only: nodes that are wanted beside the lifecycle manager; None: all.

    Raises:
        ConfigError: unknown robot, bundle, release or scene, unreadable params.yaml, controllers that do not fit the
            robot, a dry run of a simulated one, or an override for a node that does not exist.
    """
    options, release = _released(options) if options.release else (options, {})
    bundle_dir(options.bundle)
    find_task(options.scene)
    params_file = robot_dir(robot) / "params.yaml"
    _check_params_file(params_file)
    kind, scale = _kind(robot, options), _scale(options)
    dry = _dry(options) if kind == "dry" else {}
    rows = [row for row in _rows(options, release) if row[3].get("condition", "always") in ("always", kind)]
    rows = [row for row in rows if only is None or row[1] in only]
    names = [name for _, name, _, _ in rows]
    driver = {"gate": _driver(params_file, scale, options.overrides)}
    managed = [name for _, name, _, rest in rows if rest.get("lifecycle", True)]
    rows.append((MANAGER, MANAGER, {"nodes": managed}, {"lifecycle": False, "restart": Restart.NEVER}))

    unknown = set(options.overrides) - {name for _, name, _, _ in rows}
    require(not unknown, "--set", ", ".join(sorted(unknown)), f"nodes: {', '.join([*names, MANAGER])}")
    return [
        NodeSpec(
            executable=executable,
            name=name,
            parameters={
                "robot": robot,
                "use_sim_time": options.use_sim_time,
                **(scale if name != MANAGER else {}),
                **parameters,
                **dry.get(name, {}),
                **driver.get(name, {}),
                **options.overrides.get(name, {}),
            },
            params_file=params_file,
            **rest,
        )
        for executable, name, parameters, rest in rows
    ]


def _rows(options: Options, release: dict[str, Any]) -> list[Row]:
    """The nodes that ``options`` ask for, of robots of any kind; ``release``: the parameter of those that read one."""
    critical = {"restart": Restart.NEVER, "motion_critical": True}
    policy = ("policy", {"bundle": options.bundle, "k": options.k, **release})
    if options.dry_run and options.bundle == DEFAULT_BUNDLE:  # no real arm's
        policy = ("sway", {"k": options.k})
    rows: list[Row] = [
        ("sim", "sim", {"task": options.scene, "seed": options.seed}, {**critical, "condition": "simulated"}),
        ("mock_arm", "mock_arm", {}, {**critical, "condition": "dry"}),
        ("camera", "head_camera", {"view": "head"}, {"nice": 5}),
        ("camera", "wrist_camera", {"view": "wrist"}, {"nice": 5}),
        ("arm_driver", "arm_driver", {}, critical),
        ("gate", "gate", _vetting(options) | release, critical),
        ("teleop", "teleop", {}, {}),
        (policy[0], "policy", policy[1], {"nice": 5}),
        ("task", "task", {"bundle": options.bundle, **release, **_swaps(options)}, {}),
    ]
    if options.record:  # first up and last down: it hears how everything else begins and ends
        rows.insert(0, ("recorder", "recorder", {"out": options.record}, {"nice": 5, "spare": True}))
    if options.world_model:
        rows.append(("imagination", "imagination", {"bundle": options.world_model, **release}, {"nice": 3}))
    if options.detector:
        rows.append(("failure_detector", "failure_detector", {"bundle": options.detector, **release}, {"nice": 3}))
    if options.trainer:
        rows.append(("trainer", "trainer", {"out": options.trainer}, {"nice": 10}))
    if options.joy:
        rows.append(("joy", "joy", {}, {}))
    if options.page:
        rows.append(("monitor", "monitor", {}, {}))  # all but its stop steps back by itself
    if options.markers:  # it activates itself, so that the manager waits for nothing that is only looked at
        rows.append(("markers", "markers", {}, {"nice": 10, "spare": True, "lifecycle": False}))
    return rows


def _released(options: Options) -> tuple[Options, dict[str, Any]]:
    """The parts of a release as bundles, and its folder as the parameter of those that read them."""
    for name in ("bundle", "world_model", "detector"):
        value, default = getattr(options, name), getattr(Options, name)
        require(value == default, f"--{name.replace('_', '-')}", value, f"none with --release {options.release}")
    found = Store(store_dir(options.store)).release(options.release)
    model, detector = (str(part.path) if part else "" for part in (found.world_model, found.detector))
    chosen = replace(options, bundle=str(found.policy.path), world_model=model, detector=detector)
    return chosen, {"release": str(found.path)}


def _kind(robot: str, options: Options) -> str:
    """simulated, real or dry. The controllers of a real one have to be of the joints that robot.yaml names."""
    if Path(robot).name.startswith("sim_"):
        require(not options.dry_run, "--dry-run", robot, "a real robot: a simulated one has no hardware to leave out")
        return "simulated"
    file = robot_dir(robot) / FILE
    if options.dry_run or file.exists():
        check_controllers(file, RobotSpec.load(robot_dir(robot)))
    return "dry" if options.dry_run else "real"


def _scale(options: Options) -> dict[str, Any]:
    """The parameter of every node that reads the robot's limits; nothing where they are the robot's own."""
    scale, (low, high) = options.limits_scale, LIMITS_SCALE
    require(low <= scale <= high, "--limits-scale", scale, f"expected a number from {low} to {high}")
    return {"limits_scale": float(scale)} if scale != 1.0 else {}


def _dry(options: Options) -> dict[str, dict[str, Any]]:
    """What a dry run changes: nothing that needs hardware or the drivers' messages, and no latch of the real arm."""
    changed: dict[str, dict[str, Any]] = {f"{view}_camera": {"source": "pattern"} for view in ("head", "wrist")}
    changed |= {"gate": {"state_file": ""}, "arm_driver": {"gripper_output": "opening"}}
    if options.bundle == DEFAULT_BUNDLE:
        changed["task"] = {"bundle": ""}
    return changed


def _swaps(options: Options) -> dict[str, Any]:
    """Whom the task node asks to use another release, and where it finds the live one when it is started again."""
    asked = {"gate": True, "policy": True, "imagination": options.world_model, "failure_detector": options.detector}
    live = {"store": str(store_dir(options.store))} if options.release == "live" else {}
    return {"swap_nodes": [name for name, there in asked.items() if there], **live}


def _vetting(options: Options) -> dict[str, Any]:
    """Whom the gate asks: those that are started. Of the others params.yaml decides, and says off."""
    asked: dict[str, Any] = {}
    if options.world_model:
        bundle_dir(options.world_model)
        asked |= {"vetting.imagination": "on", "vetting.world_model": options.world_model}
    if options.detector:
        bundle_dir(options.detector)
        asked |= {"vetting.failure_detector": "on", "vetting.detector": options.detector}
    return asked


def parse_override(text: str) -> tuple[str, str, Any]:
    """``node.param=value`` to its parts; the value is read as YAML. Raises ConfigError."""
    where, equals, value = text.partition("=")
    node, dot, name = where.partition(".")
    require(bool(equals and dot and node and name), "--set", text, "expected node.param=value")
    try:
        return node, name, yaml.safe_load(value) if value else ""
    except yaml.YAMLError as error:
        raise ConfigError("--set", text, " ".join(str(error).split())) from None


def _driver(params_file: Path, scale: dict[str, Any], overrides: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What the gate has to know of the arm driver, where somebody has said it.

    ConfigError: they have limits of their own each, so that the gate would run another driver ahead.
    """
    driver, gate = (
        {**said_of(params_file, node), **scale, **overrides.get(node, {})} for node in ("arm_driver", "gate")
    )
    theirs, its = (float(said.get("limits_scale", 1.0)) for said in (driver, gate))
    require(theirs == its, "limits_scale", f"arm_driver {theirs}, gate {its}", "the same: --limits-scale is for all")
    return {f"driver.{name}": driver[name] for name in SHAPING if name in driver}


def said_of(params_file: Path, node: str) -> dict[str, Any]:
    """Parameters of the file for ``node``, by each name that ROS takes for it: node, /node, /**, /*, /**/node."""
    found: dict[str, Any] = {}
    raw = yaml.safe_load(params_file.read_text())
    for name in sorted(raw, key=lambda name: "*" not in name):  # what names it goes before what fits it, too
        if fnmatchcase(f"/{node}", f"/{name.lstrip('/')}".replace("/**/", "/")):
            found |= raw[name]["ros__parameters"]
    return found


def _check_params_file(path: Path) -> None:
    """Say which file is unreadable once, instead of once per node."""
    try:
        raw = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(str(path), " ".join(str(error).split()), "expected a ROS parameter file") from None
    require(isinstance(raw, dict), str(path), type(raw).__name__, "expected nodes with ros__parameters")
    for node, body in raw.items():
        ok = isinstance(body, dict) and isinstance(body.get("ros__parameters"), dict)
        require(ok, f"{path}: {node}", body, "expected ros__parameters below the node's name")
