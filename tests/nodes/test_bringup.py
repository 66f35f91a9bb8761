import pytest
import yaml

from vla_mbpo import bringup, processes, up
from vla_mbpo.bringup import Options, Restart, graph, parse_override
from vla_mbpo.core.errors import ConfigError
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
