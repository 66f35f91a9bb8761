"""Attempts in lockstep with the policy of a server: what it proposes moves the arm, what it fails at is counted."""

import numpy as np
import pytest
from foreign_server import DESCRIPTION, PolicyServer, changed, describe, turning

from vla_mbpo.eval.lockstep import Attempt, Settings
from vla_mbpo.policy.foreign.command import wrap
from vla_mbpo.policy.foreign.errors import NoChunk
from vla_mbpo.policy.sessions import load_policy

SHORT = Settings(timeout=2.0)


@pytest.fixture
def served(tmp_path, spec):
    server = PolicyServer()
    folder = wrap(describe(tmp_path / "served", changed(DESCRIPTION, server__url=server.url)), spec).path
    session = load_policy(folder, spec, patient=True)
    yield server, session
    session.close()
    server.close()


def test_its_chunks_pass_the_gate_and_join_without_stops(served, spec):
    server, session = served
    attempt = Attempt(spec, session, "button", 1, SHORT)
    before = attempt.robot.state().positions
    outcome = attempt.run()
    assert (outcome.chunks, outcome.vetoes, outcome.stops) == (5, 0, 0)
    moved = attempt.robot.state().positions - before
    assert moved[6] > 0.2 and np.abs(moved[:6]).max() < 0.02
    assert {asked["prompt"] for asked in server.asked} == {"press the button"}


def test_a_look_that_the_policy_gives_nothing_sound_for_is_a_stop(served, spec):
    server, session = served
    server.answer = lambda asked: {"actions": turning(asked)["actions"] * np.nan}
    outcome = Attempt(spec, session, "button", 1, SHORT).run()
    assert (outcome.chunks, outcome.stops, outcome.reasons) == (0, 5, {"not_finite": 5})


def test_a_server_that_fails_ends_the_evaluation_and_is_no_result(served, spec):
    server, session = served
    server.answer = lambda asked: "Traceback\nRuntimeError: out of memory"
    with pytest.raises(NoChunk, match="server_error: .*out of memory"):
        Attempt(spec, session, "button", 1, SHORT).run()
