"""One attempt in one process, on simulated time."""

from dataclasses import asdict, replace

import pytest

from vla_mbpo.eval.lockstep import Attempt, Settings
from vla_mbpo.policy.runtime import PolicySession

SHORT = Settings(k=2, timeout=1.6)


@pytest.fixture(scope="module")
def session(tiny_bundle):
    return PolicySession.load(tiny_bundle)


def attempt(spec, session, settings=SHORT, task="button", seed=2_000_000) -> dict:
    outcome = asdict(Attempt(spec, session, task, seed, settings).run())
    del outcome["stage_ms"]
    return outcome


def test_the_same_seed_gives_the_same_outcome(spec, session):
    assert attempt(spec, session) == attempt(spec, session)


def test_an_attempt_ends_at_its_timeout(spec, session):
    outcome = attempt(spec, session)
    assert not outcome["success"]
    assert outcome["seconds"] == pytest.approx(SHORT.timeout)


def test_the_policy_looks_every_replan_rows(spec, session):
    outcome = attempt(spec, session)
    assert outcome["chunks"] == SHORT.timeout / (SHORT.replan_rows * spec.row_period / 1e9)


def test_an_untrained_policys_chunks_are_vetoed_with_reasons(spec, session):
    outcome = attempt(spec, session, replace(SHORT, noise=4.0))
    assert outcome["vetoes"] == SHORT.k * outcome["chunks"]
    assert outcome["stops"] == outcome["chunks"]
    assert sum(outcome["reasons"].values()) >= outcome["vetoes"]


def test_without_the_gate_nothing_is_vetoed(spec, session):
    outcome = attempt(spec, session, replace(SHORT, gate=False, noise=4.0))
    assert outcome["vetoes"] == outcome["stops"] == 0
    assert outcome["reasons"] == {}


def test_every_stage_is_timed(spec, session):
    outcome = Attempt(spec, session, "button", 2_000_000, SHORT).run()
    assert set(outcome.stage_ms) == {"policy", "gate", "driver"}
    assert len(outcome.stage_ms["policy"]) == outcome.chunks
