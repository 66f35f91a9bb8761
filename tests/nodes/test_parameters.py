import pytest
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.nodes.base import ManagedNode
from vla_mbpo.nodes.parameters import Param

COUNT = Param("count", 3, "how many", 1, 8)
RATE = Param("rate", 2.5, "how fast", 0.5, 10.0)
SWITCH = Param("switch", "on", "whether", choices=("on", "off"))


class Example(ManagedNode):
    PARAMETERS = (COUNT, RATE, SWITCH, Param("group.name", "x", "a name"))


@pytest.mark.parametrize(
    ("param", "value", "result"),
    [(COUNT, 8, 8), (RATE, 5, 5.0), (SWITCH, False, "off"), (SWITCH, True, "on"), (SWITCH, "off", "off")],
)
def test_valid_values_come_back_in_the_parameter_s_type(param, value, result):
    checked = param.check("node", value)
    assert checked == result and type(checked) is type(param.default)


@pytest.mark.parametrize(
    ("param", "value", "valid"),
    [
        (COUNT, 9, "expected an integer from 1 to 8"),
        (COUNT, 2.0, "expected an integer from 1 to 8"),
        (COUNT, True, "expected an integer from 1 to 8"),
        (COUNT, "x", "expected an integer from 1 to 8"),
        (RATE, float("nan"), "expected a number from 0.5 to 10.0"),
        (SWITCH, "maybe", "choose one of: on, off"),
        (Param("s", "a", "text"), 4, "expected a string"),
        (Param("l", ["a"], "texts"), "a", "expected strings"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_valid(param, value, valid):
    with pytest.raises(ConfigError) as error:
        param.check("node", value)
    assert str(error.value) == f"node.{param.name}: {value!r} is not valid; {valid}"


def test_overrides_reach_the_node(graph):
    values = {"example.count": 5, "example.rate": 4, "example.switch": "off", "example.group.name": "yy"}
    node = graph.start(lambda: Example("example"), parameters=values)
    assert [node.parameters[name] for name in ("count", "rate", "switch", "group.name")] == [5, 4.0, "off", "yy"]
    assert node.describe_parameter("count").integer_range[0].to_value == 8


@pytest.mark.parametrize("wrong", [{"example.count": 99}, {"example.cuont": 3}])
def test_a_node_with_wrong_parameters_is_not_made(graph, wrong):
    with pytest.raises(ConfigError, match="example.cu?o"):
        graph.start(lambda: Example("example"), parameters=wrong)


def test_changes_are_checked_and_refused_once_configured(graph):
    node = graph.start(lambda: Example("example"))

    def change(value):
        request = SetParameters.Request(parameters=[Parameter("count", value=value).to_parameter_msg()])
        return graph.call(SetParameters, "/example/set_parameters", request).results[0]

    assert change(4).successful and node.parameters["count"] == 4
    refused = change(44)
    assert not refused.successful and "range" in refused.reason
    graph.activate()
    refused = change(5)
    assert not refused.successful and "unconfigured" in refused.reason
    assert node.parameters["count"] == 4
