"""The permissions are the graph of the running stack, and security is not silently off."""

import os
import subprocess
import sys
from importlib.metadata import distributions
from importlib.util import find_spec

import pytest
from helpers import Up, free_port

from vla_mbpo.bringup import Options
from vla_mbpo.bringup import graph as specs_of
from vla_mbpo.nodes import qos
from vla_mbpo.security import keystore
from vla_mbpo.security.live import compare
from vla_mbpo.security.rights import stack_rights

MODELS = {"world_model": "world_model", "detector": "detector_full"}


@pytest.mark.slow
@pytest.mark.parametrize("everything", [False, True])
def test_the_running_stack_does_what_it_may_and_nothing_else(graph, tmp_path, everything, bundle):
    """Of all nodes: topics, services, actions. A topic too many, and a node too many, are found."""
    folders = {"record": str(tmp_path / "episodes"), "trainer": str(tmp_path / "loop")}
    options = {**MODELS, **folders} if everything else {"bundle": str(bundle), "page": False, "joy": False}
    words = [] if everything else ["--headless"]
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", value] if isinstance(value, str) else []
    words, options = [*words, "--markers"], options | {"markers": True}
    usual = {"monitor": {"port": free_port()}} if everything else {}
    usual["markers"] = {"transforms": find_spec("tf2_msgs") is not None}
    one_more = {"gate": {"pendant_timeout": 2.0}, **usual}
    granted = stack_rights(specs_of(options=Options(**options, overrides=one_more)))
    words += [
        word for node, values in one_more.items() for n, v in values.items() for word in ("--set", f"{node}.{n}={v}")
    ]
    graph.start()
    graph.listen(qos.READY)
    process = Up(tmp_path / "up.log", *words)
    try:
        graph.until(lambda: any(m.data for m in graph.heard[qos.READY.name]), 60.0)
        found = compare(graph.probe, granted)
        assert found == (len(granted), []), process.output
        asked = [sys.executable, "-m", "vla_mbpo.cli", "doctor", "--stack"]  # by a container's health check
        assert subprocess.run(asked, stdout=subprocess.DEVNULL).returncode == 0
        less = stack_rights(specs_of(options=Options(**options, overrides=usual)))
        assert compare(graph.probe, less, 0.0)[1] == ["gate: subscribes /pendant, which it may not"]
        policy = granted.pop("policy")
        assert "policy: runs without an enclave" in compare(graph.probe, granted, 0.0)[1]
        more = {**granted, "policy": policy | granted["gate"]}
        unused = "policy: may and does not: publishes /gate/approved_chunk"
        assert unused in compare(graph.probe, more, 0.0)[1]
    finally:
        process.close()


@pytest.mark.skipif(not any(distributions(name="ros-fastdds")), reason="this middleware has security")
def test_a_middleware_without_security_is_refused_in_one_line(tmp_path):
    """That of PyPI's wheels."""
    place = tmp_path / "keystore"
    keystore.create(place, stack_rights(specs_of(options=Options(page=False, joy=False))))
    run = [sys.executable, "-m", "vla_mbpo.cli", "up", "--headless", "--security", str(place)]
    ended = subprocess.run(run, capture_output=True, text=True, timeout=60, env=dict(os.environ))
    said = [line for line in ended.stderr.splitlines() if line.startswith("vla-mbpo: error: ")]
    assert ended.returncode == 64 and len(said) == 1, ended.stderr
    assert "built without DDS security" in said[0] and str(place) in said[0]
    assert "[sim]" not in ended.stdout  # nothing was started
