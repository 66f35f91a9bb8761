"""A node says what runs its model, and does not start where that is not what was asked for."""

import pytest
from rclpy.lifecycle import TransitionCallbackReturn

from vla_mbpo.nodes import qos
from vla_mbpo.nodes.failure_detector import FailureDetectorNode
from vla_mbpo.nodes.imagination import ImaginationNode
from vla_mbpo.nodes.policy import PolicyNode

NODES = {"policy": PolicyNode, "imagination": ImaginationNode, "failure_detector": FailureDetectorNode}
CPU = "cpu int8 (not tensorrt or cuda: no NVIDIA driver (libcuda.so.1))"


@pytest.mark.parametrize("name", NODES)
def test_a_provider_that_cannot_be_had_stops_the_node_at_configure(graph, name):
    node = graph.start(lambda: NODES[name](name), parameters={f"{name}.provider": "tensorrt"})
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert f"{name}.provider: 'tensorrt' is not valid" in node._fault and "no NVIDIA driver" in node._fault


def test_a_fallback_that_is_allowed_is_a_warning_in_diagnostics(graph, bundle):
    values = {"policy.bundle": bundle, "policy.provider": "tensorrt", "policy.allow_fallback": "true"}
    node = graph.start(lambda: PolicyNode("policy"), parameters=values)
    graph.activate()
    graph.listen(qos.DIAGNOSTICS)
    graph.until(lambda: any(m.status[0].values for m in graph.heard[qos.DIAGNOSTICS.name]))
    status = graph.heard[qos.DIAGNOSTICS.name][-1].status[0]
    assert status.message == f"fallback: encoder, step: {CPU}" and status.level == status.WARN
    assert {pair.key: pair.value for pair in status.values}["providers"] == f"encoder, step: {CPU}"
    assert node.state == "active"


def test_the_cpu_where_there_is_no_gpu_is_no_warning(graph, bundle):
    node = graph.start(lambda: PolicyNode("policy"), parameters={"policy.bundle": bundle})
    graph.activate()
    assert node.report()["providers"] == f"encoder, step: {CPU}" and node.warning() == ""
