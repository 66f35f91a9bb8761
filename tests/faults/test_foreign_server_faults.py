"""The whole stack with the policy of a server, as `up --bundle` starts it: the server dies, hangs and comes back."""

import signal

import foreign_server
import pytest
from foreign_server import DESCRIPTION, changed, describe
from helpers import free_port
from stack import BRAKE, ROWS, SLACK, started

from vla_mbpo.policy.foreign.command import wrap

ANSWER = 0.5  # s


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def servers(port):
    made = []

    def start():
        made.append(foreign_server.process(port))
        return made[-1]

    yield start
    for process in made:
        process.kill()
        process.wait()


@pytest.fixture
def served(graph, spec, servers, port, tmp_path, record_property):
    first = servers()
    url = f"ws://127.0.0.1:{port}"
    description = changed(DESCRIPTION, server__url=url, server__answer_within=ANSWER)
    bundle = wrap(describe(tmp_path / "served", description), spec).path
    graph.start()
    for stack in started(graph, bundle, tmp_path / "up.log", record_property):
        yield stack, first


@pytest.mark.slow
def test_the_arm_rests_while_the_server_is_gone_and_goes_on_when_it_is_back(served, servers, graph):
    stack, server = served
    stack.move()
    server.kill()
    stack.time_to_rest(ROWS + BRAKE + SLACK)
    graph.until(lambda: "unreachable" in stack.complaint("policy"), 5.0)
    server = servers()
    stack.until_moving()
    server.send_signal(signal.SIGSTOP)
    stack.time_to_rest(ROWS + BRAKE + SLACK)
    graph.until(lambda: "late" in stack.complaint("policy"), 5.0)
    server.send_signal(signal.SIGCONT)
    stack.until_moving()
    assert stack.late == 0
