"""What each node of the graph publishes, hears, serves and calls, and nothing else: the one source of permissions.

Topics are those of `nodes/qos.py`, nodes and their parameters those of `bringup.graph`. `vla-mbpo security check`
compares it with a running stack. Needs the ROS 2 messages, starts nothing.
"""

import importlib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any

from vla_mbpo.bringup import MANAGER, NodeSpec, said_of
from vla_mbpo.nodes import qos
from vla_mbpo.nodes.client import BRIEFLY, NAME
from vla_mbpo.nodes.models import service_of
from vla_mbpo.nodes.parameters import Param
from vla_mbpo.nodes.qos import Topic
from vla_mbpo.nodes.recorded import RECORDED

PARAMETER_SERVICES = (
    "describe_parameters get_parameter_types get_parameters list_parameters set_parameters set_parameters_atomically "
    "get_type_description".split()
)
LIFECYCLE_SERVICES = (
    "change_state get_state get_available_states get_available_transitions get_transition_graph".split()
)
ACTION_SERVICES = ("send_goal", "cancel_goal", "get_result")
ACTION_TOPICS = ("feedback", "status")


@dataclass(frozen=True)
class Rights:
    """Absolute names of topics and services, those of actions and parameters among them."""

    publishes: frozenset[str] = frozenset()
    subscribes: frozenset[str] = frozenset()
    serves: frozenset[str] = frozenset()
    calls: frozenset[str] = frozenset()

    def __or__(self, other: "Rights") -> "Rights":
        """What either may do."""
        return Rights(*(getattr(self, f.name) | getattr(other, f.name) for f in fields(self)))

    def beyond(self, other: "Rights") -> list[str]:
        """What this may do and ``other`` may not, in words: ``subscribes /pendant``."""
        return [
            f"{f.name} {name}" for f in fields(self) for name in sorted(getattr(self, f.name) - getattr(other, f.name))
        ]


def _rights(
    says: Iterable[Topic] = (),
    hears: Iterable[Topic] = (),
    serves: Iterable[str] = (),
    calls: Iterable[str] = (),
    executes: Iterable[str] = (),
    goals: Iterable[str] = (),
) -> Rights:
    """Of topics and services, of actions that the node executes, and of those that it sends goals to."""
    executes, goals = list(executes), list(goals)
    return Rights(
        _names(says) | _action(executes, ACTION_TOPICS),
        _names(hears) | _action(goals, ACTION_TOPICS),
        frozenset(serves) | _action(executes, ACTION_SERVICES),
        frozenset(calls) | _action(goals, ACTION_SERVICES),
    )


def _names(topics: Iterable[Topic]) -> frozenset[str]:
    return frozenset(topic.name if topic.name.startswith("/") else f"/{topic.name}" for topic in topics)


def _action(actions: Iterable[str], parts: Iterable[str]) -> frozenset[str]:
    return frozenset(f"{action}/_action/{part}" for action in actions for part in parts)


_PICTURES = (qos.HEAD_IMAGE, qos.WRIST_IMAGE)
_VIEWS = {"head": (qos.HEAD_IMAGE, qos.HEAD_INFO), "wrist": (qos.WRIST_IMAGE, qos.WRIST_INFO)}
_DEPTH = {"head": qos.HEAD_DEPTH, "wrist": qos.WRIST_DEPTH}
_EXCLUSIVE = {"joint_trajectory": [qos.TRAJECTORY], "position_stream": [qos.POSITION_STREAM]}
_RECORDER = {word: f"{qos.RECORDER}/{word}" for word in ("start", "stop", "save", "label")}
_TRAINER = (qos.TRAINER_START, qos.TRAINER_PAUSE, qos.TRAINER_STOP)
Settings = dict[str, Any]


def _sim(_: Settings) -> Rights:
    says = (qos.JOINT_STATES, qos.SCENE_STATE, qos.CLOCK, qos.TASK_STATUS)
    return _rights(says, (qos.TRAJECTORY, qos.GRIPPER), [qos.RESET_SCENE])


def _camera(p: Settings) -> Rights:
    depth = [_DEPTH[p["view"]]] if p["realsense.depth"] else []
    return _rights((*_VIEWS[p["view"]], *depth), [qos.SCENE_STATE] if p["source"] == "sim" else [])


def _arm_driver(p: Settings) -> Rights:
    alone = _EXCLUSIVE.get(p["output"], [])  # heard too: nobody else may publish there
    hears = (qos.GATE_STATE, qos.APPROVED_CHUNK, qos.HEARTBEAT, qos.JOINT_STATES, qos.ESTOP, qos.INSTRUCTION)
    goals = [] if alone else [qos.FOLLOW_TRAJECTORY]
    gripper = {"opening": [qos.GRIPPER], "position": [qos.GRIPPER_POSITION]}.get(p["gripper_output"], [])
    goals += [] if gripper else [p["gripper_action"]]
    return _rights((*gripper, qos.COMMITMENT, *alone), (*hears, *alone), goals=goals)


def _mock_arm(_: Settings) -> Rights:
    return _rights([qos.JOINT_STATES], (qos.TRAJECTORY, qos.GRIPPER, qos.GRIPPER_POSITION))


def _gate(p: Settings) -> Rights:
    says = (qos.APPROVED_CHUNK, qos.RESAMPLE, qos.GATE_DECISION, qos.HEARTBEAT, qos.GATE_STATE)
    hears = [qos.JOINT_STATES, qos.COMMITMENT, qos.INSTRUCTION, qos.TASK_HEARTBEAT]
    hears += [qos.ESTOP, qos.ACTION_CHUNKS, qos.TELEOP_COMMAND]
    asked = {"vetting.imagination": qos.VERDICT, "vetting.failure_detector": qos.RISK}
    hears += [topic for name, topic in asked.items() if p[name] != "off"]
    hears += [qos.PENDANT] if p["pendant_timeout"] else []
    return _rights(says, (*hears, qos.APPROVED_CHUNK), (qos.ENGAGE, qos.RESET_GATE, qos.ESTOP_SERVICE)) | _models(
        "gate"
    )


def _policy(_: Settings) -> Rights:
    hears = (qos.INSTRUCTION, qos.GATE_STATE, qos.COMMITMENT, qos.JOINT_STATES, qos.RESAMPLE, *_PICTURES)
    return _rights([qos.ACTION_CHUNKS], hears) | _models("policy")


def _task(p: Settings) -> Rights:
    says = (qos.INSTRUCTION, qos.ATTEMPT, qos.TASK_HEARTBEAT, qos.RELEASE)
    calls = [service_of(name) for name in (*filter(None, p["swap_nodes"]), "task")]
    hears = (qos.GATE_STATE, qos.GATE_DECISION, qos.TASK_STATUS)
    return _rights(says, hears, [qos.SWAP], calls, executes=[qos.EXECUTE_TASK]) | _models("task")


def _imagination(_: Settings) -> Rights:
    hears = (qos.JOINT_STATES, qos.GATE_STATE, qos.ACTION_CHUNKS, *_PICTURES)
    return _rights((qos.VERDICT, qos.DREAM), hears) | _models("imagination")


def _failure_detector(_: Settings) -> Rights:
    hears = (qos.INSTRUCTION, qos.GATE_STATE, qos.VERDICT, qos.ACTION_CHUNKS)
    return _rights([qos.RISK], hears) | _models("failure_detector")


def _teleop(_: Settings) -> Rights:
    return _rights([qos.TELEOP_COMMAND], (qos.GATE_STATE, qos.JOY), calls=[qos.ENGAGE])


def _monitor(_: Settings) -> Rights:
    state = (qos.TASK_STATUS, qos.INSTRUCTION, qos.ATTEMPT, qos.RELEASE, qos.COMMITMENT, qos.TRAINING, qos.GATE_STATE)
    judged = (qos.DREAM, qos.GATE_DECISION, qos.VERDICT, qos.RISK, qos.DIAGNOSTICS, qos.SCENE_STATE, qos.ESTOP)
    records = (_RECORDER[word] for word in ("start", "stop", "save"))
    calls = (qos.ENGAGE, qos.RESET_GATE, qos.RESET_SCENE, *records)
    return _rights([qos.ESTOP], (*_PICTURES, *state, *judged), calls=calls, goals=[qos.EXECUTE_TASK])


def _markers(p: Settings) -> Rights:
    drawn = {"scene": qos.MARKERS, "volumes": qos.VOLUMES, "cameras": qos.OVERLAY}
    hears = [qos.ACTION_CHUNKS, qos.VERDICT, qos.GATE_DECISION, qos.GATE_STATE, qos.RISK, qos.INSTRUCTION, *_PICTURES]
    says = [topic for name, topic in drawn.items() if p[name]]
    if p["transforms"]:
        says, hears = [*says, *qos.transforms()], [*hears, qos.JOINT_STATES]
    return _rights(says, hears)


def _manager(p: Settings) -> Rights:
    calls = [f"/{name}/{what}" for name in p["nodes"] for what in ("change_state", "get_state")]
    return _rights([qos.READY], [qos.DIAGNOSTICS], calls=calls)


def _models(name: str) -> Rights:
    """Of a node that follows the task node to another release."""
    return _rights(hears=[qos.RELEASE], serves=[service_of(name)])


TABLE: dict[str, Callable[[Settings], Rights]] = {
    "sim": _sim,
    "mock_arm": _mock_arm,
    "camera": _camera,
    "arm_driver": _arm_driver,
    "gate": _gate,
    "teleop": _teleop,
    "policy": _policy,
    "sway": _policy,
    "task": _task,
    "imagination": _imagination,
    "failure_detector": _failure_detector,
    "trainer": lambda _: _rights([qos.TRAINING], [qos.GATE_STATE], _TRAINER),
    "recorder": lambda _: _rights(hears=[row.topic for row in RECORDED], serves=_RECORDER.values()),
    "joy": lambda _: _rights([qos.JOY]),
    "monitor": _monitor,
    "markers": _markers,
    MANAGER: _manager,
}


def rights(spec: NodeSpec) -> Rights:
    """What this node may do with these parameters. ConfigError: a parameter that the node would refuse."""
    made = TABLE[spec.executable](settings(spec)) | _of_every_node(spec.name)
    if spec.executable != MANAGER:
        made |= _of_managed(spec.name)
    return made | (_rights(hears=[qos.CLOCK]) if spec.parameters.get("use_sim_time") else Rights())


def stack_rights(specs: Iterable[NodeSpec]) -> dict[str, Rights]:
    """Rights by node name, of a graph and of the client beside it: `vla-mbpo up`, `promote` and `rollback`."""
    found = {spec.name: rights(spec) for spec in specs}
    return {**found, NAME: client_rights() | _rights(calls=[f"/{name}/{BRIEFLY}" for name in found])}


def client_rights() -> Rights:
    """Of the client for as long as it is there; before the stack starts it looks whether its names are taken."""
    calls = (qos.SWAP, qos.ENGAGE, qos.RESET_SCENE)
    events = Rights(frozenset({"/parameter_events"}))
    return events | _rights((), (qos.READY, qos.GATE_STATE, qos.RELEASE), (), calls, goals=[qos.EXECUTE_TASK])


def settings(spec: NodeSpec) -> Settings:
    """The values that the node's parameters will have: default, params.yaml, then those of the graph."""
    module = importlib.import_module(f"vla_mbpo.nodes.{spec.executable}")
    own = [kind for kind in vars(module).values() if inspect.isclass(kind) and kind.__module__ == module.__name__]
    tables = (getattr(kind, "PARAMETERS", None) or getattr(kind, "TABLE", None) for kind in own)
    table: tuple[Param, ...] = next(filter(None, tables), ())
    given = {**said_of(spec.params_file, spec.name), **spec.parameters}
    return {param.name: param.check(spec.name, given.get(param.name, param.default)) for param in table}


def _of_every_node(name: str) -> Rights:
    says = frozenset({"/rosout", "/parameter_events"})
    return Rights(says, serves=frozenset(f"/{name}/{service}" for service in PARAMETER_SERVICES))


def _of_managed(name: str) -> Rights:
    made = Rights(
        frozenset({f"/{name}/transition_event"}), serves=frozenset(f"/{name}/{s}" for s in LIFECYCLE_SERVICES)
    )
    return made | _rights([qos.DIAGNOSTICS])
