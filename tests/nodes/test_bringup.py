import os
import shutil
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import rclpy
import yaml
from rclpy.context import Context
from rclpy.node import Node
from scripted_bundle import write_bundle

from vla_mbpo import bringup, processes, up
from vla_mbpo.bringup import Options, Restart, graph, parse_override
from vla_mbpo.core.chunk import ActionChunk, ActionType
from vla_mbpo.core.errors import ConfigError
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.gate.drive import Drive
from vla_mbpo.nodes import checking
from vla_mbpo.nodes.checking import gate_of
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.releases.release import assemble
from vla_mbpo.releases.store import Store
from vla_mbpo.sim.tasks import TASKS


def by_name(options=None):
    return {spec.name: spec for spec in graph(options=options or Options())}


def test_the_manager_brings_up_every_node_in_order():
    specs = graph()
    manager = specs[-1]
    assert manager.name == bringup.MANAGER and not manager.lifecycle
    assert manager.parameters["nodes"] == [spec.name for spec in specs[:-1]]
    order = manager.parameters["nodes"]
    assert order.index("sim") < order.index("arm_driver") < order.index("gate") < order.index("policy")


def test_what_moves_the_arm_is_not_restarted_by_itself():
    specs = by_name()
    critical = {name for name, spec in specs.items() if spec.motion_critical}
    assert critical == {"sim", "arm_driver", "gate"}
    assert all(specs[name].restart == Restart.NEVER and specs[name].nice == 0 for name in critical)
    assert specs["policy"].restart == Restart.ON_FAILURE


def test_options_reach_their_nodes():
    overrides = {"gate": {"input_timeout": 0.5}, "policy": {"k": 2}}
    specs = by_name(Options("sft_few", "button", 7, 4, overrides, use_sim_time=True))
    assert (specs["sim"].parameters["task"], specs["sim"].parameters["seed"]) == ("button", 7)
    assert specs["policy"].parameters["bundle"] == specs["task"].parameters["bundle"] == "sft_few"
    assert specs["policy"].parameters["k"] == 2  # an override is the strongest
    assert specs["gate"].parameters["input_timeout"] == 0.5
    assert all(spec.parameters["use_sim_time"] for spec in specs.values())


def said_in(folder, where, name, value):
    """A copy of the robot with a parameter in a section of params.yaml; or, of the arm driver, the override for it."""
    robot = shutil.copytree(bringup.robot_dir("sim_panda"), folder / "sim_panda")
    if where == "--set":
        return robot, {"arm_driver": {name: value}}
    said = yaml.safe_load((robot / "params.yaml").read_text())
    said.setdefault(where, {}).setdefault("ros__parameters", {})[name] = value
    (robot / "params.yaml").write_text(yaml.safe_dump(said))
    return robot, {}


@pytest.mark.parametrize("where", ["arm_driver", "/arm_driver", "/**/arm_driver", "/**", "--set"])
def test_the_gate_runs_the_arm_driver_ahead_as_it_is_set(tmp_path, where):
    """Incident: with its defaults, whatever the driver had been given."""
    folder, overrides = said_in(tmp_path, where, "settle", 0.2)
    (gate,) = (spec for spec in graph(str(folder), Options(overrides=overrides)) if spec.name == "gate")
    assert {name: value for name, value in gate.parameters.items() if name.startswith("driver.")} == {
        "driver.settle": 0.2
    }
    made = gate_of(RobotSpec.load(folder), {p.name: p.default for p in checking.PARAMETERS} | gate.parameters)
    rows = np.tile(made.spec.home, (16, 1))
    rows[:, -1] += 0.02 * np.arange(1, 17)
    still, now = np.zeros(7), 1_000_000_000
    chunk = ActionChunk(1, 0, now, now + 800_000_000, ActionType.JOINT_POSITION, made.spec.joints, made.spec.home,
                        50_000_000, rows, np.zeros(0))  # fmt: skip
    here, usual = (drive.path(chunk, rows, made.spec.home, still, now) for drive in (made.drive, Drive(made.spec)))
    assert abs(here[10, -1] - usual[10, -1]) > 0.01


@pytest.mark.parametrize("where", ["arm_driver", "/gate", "--set"])
def test_gate_and_arm_driver_with_different_limits_are_refused(tmp_path, where):
    """Incident: motions that the gate approved for a driver at full speed were driven into the table by a slow one."""
    folder, overrides = said_in(tmp_path, where, "limits_scale", 0.5)
    with pytest.raises(ConfigError, match=r"limits_scale: 'arm_driver \S+, gate \S+' is not valid"):
        graph(str(folder), Options(overrides=overrides))
    with nullcontext() if not overrides else pytest.raises(ConfigError):
        graph(str(folder), Options(overrides=overrides, limits_scale=0.2))  # stronger than the file


def test_a_terminal_that_is_closed_during_the_attempt_ends_nothing(monkeypatch):
    """Incident: the bar could not be ended, and all nodes were killed with the command."""
    master, slave = os.openpty()
    monkeypatch.setattr(sys, "stdout", os.fdopen(slave, "w", 1))
    display = up.Display()
    display.begin("press the button")
    os.close(master)
    display.progress(SimpleNamespace(chunks_accepted=1, chunks_rejected=0, progress=0.5, elapsed=1.0, message=""))
    display.say("going on")
    display.end()
    display.close()


def test_an_override_for_nobody_names_the_nodes():
    with pytest.raises(ConfigError, match="nobody.*arm_driver"):
        graph(options=Options(overrides={"nobody": {"x": 1}}))


@pytest.mark.parametrize(
    ("text", "value"),
    [("a.b=1", 1), ("a.b=0.5", 0.5), ("a.b=off", False), ("a.b=x y", "x y"), ("a.b=", ""), ("a.b='2'", "2")],
)
def test_overrides_are_read_as_yaml(text, value):
    assert parse_override(text) == ("a", "b", value)


@pytest.mark.parametrize("text", ["a.b", "a=1", ".b=1", "a.=1", "a.b=[1"])
def test_a_wrong_override_is_an_error(text):
    with pytest.raises(ConfigError, match="--set"):
        parse_override(text)


@pytest.mark.parametrize("value", ["off", "2", "a b", "", True, 3, 2.5, ["a", "b"], "x: y", "/tmp/some folder"])
def test_parameters_survive_the_command_line(value):
    spec = by_name(Options(overrides={"gate": {"x": value}}))["gate"]
    (text,) = [word for word in processes.command(spec) if word.startswith("x:=")]
    assert "\n" not in text
    assert yaml.safe_load(text.removeprefix("x:=")) == value


@pytest.mark.parametrize(
    "value", ["0815", "038122250346", "1e5", "y", "nan", "0x10", "off", ["0908", "a"], 3, True, 2.5]
)
def test_what_a_node_reads_is_what_was_said(value):
    """Incident (review): a camera's serial number of digits reached its node as a number, and the stack ended."""
    spec = by_name(Options(overrides={"gate": {"x": value}}))["gate"]
    (text,) = [word for word in processes.command(spec) if word.startswith("x:=")]
    context, said = Context(), ["--ros-args", "-p", text]
    rclpy.init(context=context)
    try:
        node = Node("said", context=context, cli_args=said, automatically_declare_parameters_from_overrides=True)
        assert node.get_parameter("x").value == value
        node.destroy_node()
    finally:
        rclpy.shutdown(context=context)


def test_the_scene_is_the_one_of_the_instruction():
    for name, task in TASKS.items():
        assert up.scene_for(task.instruction.upper()) == name
    assert up.scene_for("do something else") == up.scene_for(None) == bringup.DEFAULT_SCENE


@pytest.mark.parametrize("text", ["gate: [1", "gate: 3", "gate:\n  x: 1", "[]"])
def test_a_wrong_params_file_is_one_line(tmp_path, monkeypatch, text):
    (tmp_path / "params.yaml").write_text(text)
    monkeypatch.setattr(bringup, "robot_dir", lambda name: tmp_path)
    with pytest.raises(ConfigError) as error:
        graph()
    assert "params.yaml" in str(error.value) and "\n" not in str(error.value)


@pytest.fixture(scope="module")
def store(tmp_path_factory, spec):
    """Whose live release is a policy alone, and its folder."""
    folder = tmp_path_factory.mktemp("home") / "releases"
    made = Store(folder)
    policy = Bundle.load(write_bundle(folder.with_name("policy"), spec))
    with made.locked():
        added = made.add(lambda place: assemble(place, policy, {"reason": "test"}))
        made.promote(added.path.name, "test")
    return made


def test_a_release_reaches_the_nodes_that_read_models(store):
    specs = by_name(Options(release="live", store=str(store.folder)))
    folder = str(store.find("live"))
    with_release = {name for name, spec in specs.items() if spec.parameters.get("release") == folder}
    assert with_release == {"gate", "policy", "task"}
    assert specs["task"].parameters["swap_nodes"] == ["gate", "policy"]
    assert specs["task"].parameters["store"] == str(store.folder)


def test_a_release_by_name_stays_that_release_when_the_task_node_is_started_again(store):
    specs = by_name(Options(release=store.state().live, store=str(store.folder)))
    assert "store" not in specs["task"].parameters


def test_a_release_without_a_world_model_leaves_imagination_off(store):
    specs = by_name(Options(release="live", store=str(store.folder)))
    assert "imagination" not in specs and "vetting.imagination" not in specs["gate"].parameters


def test_the_parts_of_a_release_are_on(tmp_path, tiny_bundle, tiny_world_model, tiny_detector):
    (tmp_path / "full").mkdir()
    policy, model, watch = (Bundle.load(path) for path in (tiny_bundle, tiny_world_model, tiny_detector))
    release = assemble(tmp_path / "full", policy, {}, model, watch, tiny_detector.with_name("bands.json"))
    specs = by_name(Options(release=str(release.path)))
    asked = specs["gate"].parameters
    assert (asked["vetting.imagination"], asked["vetting.failure_detector"]) == ("on", "on")
    nodes = ("gate", "policy", "task", "imagination", "failure_detector")
    assert {specs[name].parameters["release"] for name in nodes} == {str(release.path)}
    assert specs["task"].parameters["swap_nodes"] == ["gate", "policy", "imagination", "failure_detector"]


@pytest.mark.parametrize("more", [{"bundle": "sft_few"}, {"world_model": "world_model"}, {"detector": "detector_few"}])
def test_a_release_and_a_bundle_of_ones_own_contradict_each_other(store, more):
    with pytest.raises(ConfigError, match="none with --release live"):
        graph(options=Options(release="live", store=str(store.folder), **more))


def test_a_trainer_is_there_only_where_it_is_asked_for_and_moves_nothing():
    assert "trainer" not in by_name(Options())
    spec = by_name(Options(trainer="runs/loop"))["trainer"]
    assert spec.parameters["out"] == "runs/loop" and not spec.motion_critical


def test_the_recorder_is_up_first_and_down_last():
    specs = graph(options=Options(record="episodes"))
    assert specs[0].name == "recorder" and specs[0].parameters["out"] == "episodes"
    assert not specs[0].motion_critical and "recorder" not in by_name()


def test_nothing_waits_for_the_markers():
    """They come last, the manager does not know them, and the others go on without them."""
    assert "markers" not in by_name()
    specs = graph(options=Options(markers=True, overrides={"markers": {"rate": 2.0}}))
    spec, manager = specs[-2:]
    assert spec.name == "markers" and spec.parameters["rate"] == 2.0 and spec.nice == 10
    assert (spec.spare, spec.lifecycle, spec.motion_critical) == (True, False, False)
    assert "markers" not in manager.parameters["nodes"]


@pytest.mark.parametrize("spare", [True, False])
@pytest.mark.parametrize("code", [0, 1])
def test_a_spare_process_that_ends_or_keeps_failing_does_not_end_the_others(spare, code, monkeypatch):
    """A recorder that cannot run is no reason to end motion."""
    (spec,) = [replace(s, spare=spare) for s in graph(options=Options(record="episodes")) if s.name == "recorder"]
    monkeypatch.setattr(processes, "command", lambda _: [sys.executable, "-c", f"raise SystemExit({code})"])
    monkeypatch.setattr(processes, "RESTART_DELAY", 0.0)
    lines = []
    supervisor = processes.Supervisor([spec], dict(os.environ), lambda name, line: lines.append(line))
    supervisor.start()
    ended, until = None, time.monotonic() + 20.0
    while ended is None and not any("without it" in line for line in lines) and time.monotonic() < until:
        ended = supervisor.poll()
        time.sleep(0.01)
    supervisor.stop()
    assert (ended is None) == spare and any("without it" in line for line in lines) == spare
