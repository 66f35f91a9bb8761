import os
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "nodes"))

from fixtures import bundle, graph, ros_domain  # noqa: E402, F401
from helpers import Graph  # noqa: E402
from stack import started  # noqa: E402


@pytest.fixture
def stack(graph, bundle, tmp_path, record_property):  # noqa: F811
    graph.start()
    yield from started(graph, bundle, tmp_path / "up.log", record_property)


@pytest.fixture(scope="module")
def shared_stack(ros_domain, bundle, tmp_path_factory):  # noqa: F811
    """One stack for all tests of a file: what they do to it must not end it."""
    made = Graph()
    made.start()
    yield from started(made, bundle, tmp_path_factory.mktemp("shared") / "up.log", lambda *_: None)
    made.close()


@pytest.fixture
def graph_of(survivor):
    return survivor.graph


@pytest.fixture
def survivor(shared_stack, record_property):
    """The shared stack in motion, before and after."""
    shared_stack.record = record_property
    shared_stack.move()
    yield shared_stack
    print(shared_stack.up.output[-3000:])
    for pid in shared_stack.pids.values():
        os.kill(pid, signal.SIGCONT)


def pytest_terminal_summary(terminalreporter):
    """One line per fault: seconds from it to a measured standstill, and the bound."""
    reports = [r for name in ("passed", "failed") for r in terminalreporter.stats.get(name, [])]
    rows = [(r.nodeid.split("::")[-1], value) for r in reports for key, value in r.user_properties if key == "to rest"]
    if rows:
        terminalreporter.section("faults: seconds to rest")
        for name, (took, limit) in rows:
            terminalreporter.write_line(f"{name:60} {took:5.2f}  at most {limit:5.2f}")
