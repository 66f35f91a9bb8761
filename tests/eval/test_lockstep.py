"""One attempt in one process, on simulated time."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.core.verdict import Verdict
from vla_mbpo.eval.lockstep import Attempt, Settings
from vla_mbpo.imagination.planner import Choice, Imagined
from vla_mbpo.imagination.vetting import Judgement
from vla_mbpo.policy.runtime import PolicySession
from vla_mbpo.sim.world import TABLETOP

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


@pytest.mark.parametrize(("rows", "looks"), [(1, 15), (2, 15), (3, 10), (4, 8), (8, 4)])
def test_the_policy_looks_every_replan_rows_but_never_before_it_has_answered(spec, session, rows, looks):
    """Looks that came faster than answers, 2 rows later, took each other's place: none was ever decided on.

    And 3 rows were 6: a look was only due where its time fell on a tick of the driver.
    """
    assert SHORT.timeout == 32 * spec.row_period / 1e9
    assert attempt(spec, session, replace(SHORT, replan_rows=rows))["chunks"] == looks


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


class Opinion:
    """In a world model's place: the same verdicts on every set."""

    def __init__(self, *verdicts, order=()):
        self.verdicts, self.order, self.resets = verdicts, order, 0

    def reset(self):
        self.resets += 1

    def judge(self, observation, instruction, positions, *_):
        nothing = np.zeros(len(positions))
        choice = Choice(self.verdicts, (("why",),) * len(positions), nothing, self.order)
        return Judgement(choice, Imagined(nothing, nothing, nothing, nothing))


def vetted(spec, session, opinion, **changes):
    settings = replace(SHORT, imagination="on", gate=False, **changes)
    tried = Attempt(spec, session, "button", 2_000_000, settings, opinion)
    offered = []
    offer = tried._driver.offer
    tried._driver.offer = lambda rows, now: (offered.append(rows.candidate), offer(rows, now))[1]
    return tried.run(), offered


def test_the_candidate_that_imagination_prefers_is_executed(spec, session):
    opinion = Opinion(Verdict.SAFE, Verdict.SAFE, order=(1, 0))
    outcome, offered = vetted(spec, session, opinion)
    assert set(offered) == {1} and len(offered) == outcome.chunks and opinion.resets == 1
    assert outcome.unsafe == outcome.unknown == outcome.resampled == outcome.stops == 0


def test_when_all_are_unsafe_other_samples_are_asked_for_once(spec, session):
    outcome, offered = vetted(spec, session, Opinion(Verdict.UNSAFE, Verdict.UNSAFE), timeout=3.2)
    assert not offered
    assert outcome.resampled > 0 and outcome.resampled + outcome.stops == outcome.chunks
    assert abs(outcome.resampled - outcome.stops) <= 1
    assert outcome.unsafe == 2 * outcome.chunks


def test_what_is_unknown_holds_and_is_no_reason_to_ask(spec, session):
    """As the gate does it."""
    outcome, offered = vetted(spec, session, Opinion(Verdict.UNKNOWN, Verdict.UNSAFE))
    assert not offered and outcome.resampled == 0
    assert outcome.stops == outcome.unknown == outcome.chunks


def test_imagination_is_not_on_without_a_world_model(spec, session):
    with pytest.raises(ConfigError, match="vetting"):
        Attempt(spec, session, "button", 2_000_000, replace(SHORT, imagination="on"))


def test_a_random_choice_is_of_all_candidates_and_the_same_for_a_seed(spec, session):
    settings = replace(SHORT, imagination="random", k=4)
    tried = Attempt(spec, session, "button", 2_000_000, settings)
    assert sorted(tried._order(None, [None] * 4)[0]) == [0, 1, 2, 3]
    assert attempt(spec, session, settings) == attempt(spec, session, settings)
    tried._camera.close()


class AlarmAfter:
    """In a failure detector's place: raises the alarm at a look."""

    def __init__(self, looks):
        self.wanted, self.looks, self.resets = looks, [], 0

    def reset(self):
        self.resets += 1

    def alarm(self, look):
        self.looks.append(look)
        return len(self.looks) > self.wanted


def watched(spec, session, watch, **changes):
    settings = replace(SHORT, **{"timeout": 12.0, **changes})
    return Attempt(spec, session, "button", 2_000_000, settings, watch=watch).run()


def test_an_alarm_hands_the_arm_to_a_person_for_the_rest_of_the_attempt(spec, session):
    watch = AlarmAfter(2)
    outcome = watched(spec, session, watch)
    assert outcome.success and outcome.chunks == len(watch.looks) == 3 and watch.resets == 1
    assert outcome.alarm == pytest.approx(2 * 8 * 0.05 + SHORT.latency, abs=0.03)


def test_what_goes_wrong_goes_wrong_for_a_person_too(spec, session):
    """After a takeover the disturbance never happened, which flattered every alarm that came before it."""
    settings = replace(SHORT, disturbance="camera_bump", timeout=5.0)
    tried = Attempt(spec, session, "push", 2_000_000, settings, watch=AlarmAfter(0))
    tried.run()
    assert tried.outcome.alarm < 0.5 and tried.disturbance.happened >= 0.5


def test_an_alarm_may_leave_the_arm_at_rest(spec, session):
    watch = AlarmAfter(2)
    outcome = watched(spec, session, watch, on_alarm="hold", timeout=3.0)
    assert not outcome.success and outcome.chunks == 3 and outcome.seconds == pytest.approx(3.0)


def test_a_detector_sees_each_inference_once_with_its_row(spec, session):
    watch = AlarmAfter(99)
    outcome = Attempt(spec, session, "button", 2_000_000, SHORT, watch=watch).run()
    assert [look.row for look in watch.looks] == [0, 8, 16, 24] and outcome.alarm is None
    assert watch.looks[0].chunks.shape == (2, 16, 8) and watch.looks[0].features.shape == (32,)


def test_a_disturbance_is_named_in_the_outcome_and_the_policy_is_told_its_instruction(spec, session, monkeypatch):
    told, infer = set(), session.infer
    monkeypatch.setattr(session, "infer", lambda seen, words, *rest: (told.add(words), infer(seen, words, *rest))[1])
    outcome = attempt(spec, session, replace(SHORT, disturbance="wrong_instruction"))
    assert outcome["disturbance"] == "wrong_instruction"
    assert told and "press the button" not in told


@pytest.mark.parametrize(("waits", "decided"), [(True, 1), (False, 0)])
def test_a_world_may_wait_for_the_policy(spec, session, waits, decided):
    """In 0.1 s the first chunk has not come yet, but where time stands still until it has."""
    made = Attempt(spec, session, "button", 1, replace(SHORT, timeout=0.1), world=replace(TABLETOP, waits=waits))
    made.drive()
    assert made.outcome.chunks == decided
