"""The gate with imagination on: whose verdicts count, and what none, a late or a wrong one does."""

import time

import numpy as np
import pytest
from test_gate_node import SAY, Bench
from vla_mbpo_msgs.msg import CandidateVerdict, GateState, ImaginationVerdict

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.nodes import convert, qos
from vla_mbpo.nodes.gate import GateNode
from vla_mbpo.policy.bundle import Bundle

SAFE, RISKY, UNSAFE = CandidateVerdict.SAFE, CandidateVerdict.RISKY, CandidateVerdict.UNSAFE
UNKNOWN = CandidateVerdict.UNKNOWN


class Vetted(Bench):
    """A gate whose world model is played by the test."""

    def __init__(self, graph, spec, bundle, **parameters):
        self.version = Bundle.load(bundle).version
        vetting = {"vetting.imagination": "on", "vetting.world_model": bundle, "vetting.deadline": 0.5}
        super().__init__(graph, spec, start_engaged=True, **{**vetting, **parameters})
        graph.listen(qos.RESAMPLE)
        self.answer = graph.talk(qos.VERDICT)
        self.until_mode(GateState.AUTONOMOUS)

    def verdict(self, of, verdicts, fit, **changes):
        """A verdict of these kinds on the chunk set ``of`` (id and stamp)."""
        candidates = [
            CandidateVerdict(candidate=k, verdict=kind, cost_probability=0.1 * k, score=1.0 - 0.1 * k, reasons=["why"])
            for k, kind in enumerate(verdicts)
        ]
        message = ImaginationVerdict(chunk_set_id=of, candidates=candidates, order=fit, model_version=self.version)
        message.observation_stamp = convert.to_time(of)
        for name, value in changes.items():
            setattr(message, name, value)
        return message

    def ask(self, speeds, verdicts=None, fit=(), first=False, **changes):
        """Send a set and its verdict, the verdict before the set with ``first``; the decisions on it."""
        before, sent = len(self.decisions), self.chunks
        made = {}

        def send(message):
            made["id"] = message.chunk_set_id
            if verdicts is None:
                sent(message)
                return
            verdict = self.verdict(message.chunk_set_id, verdicts, list(fit), **changes)
            for say, what in ((self.answer, verdict), (sent, message))[:: 1 if first else -1]:
                say(what)
                self.graph.spin(0.05)

        self.chunks = send
        try:
            self.send(*speeds)
        finally:
            self.chunks = sent
        return self.decisions[before:]

    @property
    def asked_again(self):
        return [m.data for m in self.graph.heard[qos.RESAMPLE.name]]


@pytest.fixture
def bench(graph, spec, tiny_world_model):
    return Vetted(graph, spec, tiny_world_model)


@pytest.mark.parametrize("first", [False, True], ids=["set first", "verdict first"])
def test_the_preferred_candidate_is_approved_and_its_scores_recorded(bench, first):
    (decision,) = bench.ask((0.1, 0.2, 0.3), (SAFE, SAFE, RISKY), (1, 0, 2), first=first)
    assert decision.accepted and decision.candidate == 1
    assert decision.imagination.verdict == SAFE and decision.imagination.score == pytest.approx(0.9)
    assert bench.approved[-1].candidate == 1
    assert list(bench.state.vetting_off) == ["failure_detector"]


def test_the_checks_still_have_the_last_word(bench):
    decisions = bench.ask((0.1, 9.0), (SAFE, SAFE), (1, 0))
    assert [(d.candidate, d.accepted) for d in decisions] == [(1, False), (0, True)]
    assert decisions[0].reasons[0].check.startswith("joint_")


def test_an_unsafe_candidate_is_never_approved_and_says_why(bench):
    decisions = bench.ask((0.1, 0.2), (UNSAFE, SAFE), (1,))
    assert [(d.candidate, d.accepted) for d in decisions] == [(0, False), (1, True)]
    assert (decisions[0].reasons[0].check, decisions[0].imagination.verdict) == ("imagination", UNSAFE)
    assert "why" in decisions[0].reasons[0].text


def test_when_all_are_unsafe_the_policy_is_asked_once_and_then_the_arm_holds(bench):
    for turn in range(2):
        decisions = bench.ask((0.1, 0.2), (UNSAFE, UNSAFE))
        assert not any(d.accepted for d in decisions)
        assert len(bench.asked_again) == 1
        if not turn:
            assert bench.asked_again == [decisions[0].chunk_set_id]
    assert not bench.approved
    assert bench.ask((0.1,), (SAFE,), (0,))[0].accepted
    bench.ask((0.1,), (UNSAFE,))
    assert len(bench.asked_again) == 2  # a new plan, a new question


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"model_version": "another@000000000000"}, "another@000000000000"),
        ({"observation_stamp": convert.to_time(1)}, "another observation"),
        ({"order": [0, 0]}, "not fit"),
        ({"order": [7]}, "not fit"),
        ({"order": [1]}, "not fit"),
        ({"candidates": []}, "0 candidates of 2"),
    ],
    ids=["version", "observation", "twice", "no such candidate", "an unsafe one", "of nothing"],
)
def test_a_verdict_that_does_not_fit_is_unknown_and_holds(bench, changes, text):
    (decision,) = bench.ask((0.1, 0.2), (SAFE, UNSAFE), (0,), **changes)
    assert not decision.accepted and not bench.approved
    assert decision.reasons[0].check == "vetting" and "UNKNOWN" in decision.reasons[0].text
    assert text in decision.reasons[0].text


def test_unknown_candidates_hold_with_their_reason(bench):
    (decision,) = bench.ask((0.1, 0.2), (UNKNOWN, UNKNOWN))
    assert not decision.accepted and "UNKNOWN: why" in decision.reasons[0].text


def test_silence_is_unknown_after_the_deadline(bench):
    begin = time.monotonic()
    (decision,) = bench.ask((0.1,))
    assert time.monotonic() - begin >= 0.5
    assert not decision.accepted and "no verdict within 0.5 s" in decision.reasons[0].text


def test_a_set_that_the_next_one_overtakes_is_unknown(bench):
    """Incident: with a deadline longer than the policy's period, silence was never said."""
    bench.node._join.add_set(_set_of(bench, time.time_ns()), time.monotonic())
    decisions = bench.ask((0.1,), (SAFE,), (0,), first=True)
    assert "no verdict before the next chunk set came" in decisions[0].reasons[0].text
    assert decisions[-1].accepted


def test_a_verdict_after_the_deadline_changes_nothing(bench):
    (decision,) = bench.ask((0.1,))
    bench.answer(bench.verdict(decision.chunk_set_id, (SAFE,), [0]))
    bench.graph.spin(0.2)
    assert not bench.approved


def test_a_verdict_that_comes_before_its_lateness_was_noticed_is_late_all_the_same(bench):
    """A gate that was held up for a while finds set, verdict and timer waiting in any order."""
    stamp = time.time_ns()
    bench.node._join.add_set(_set_of(bench, stamp), time.monotonic() - 0.6)
    vetted = bench.node._join.add(bench.verdict(stamp, (SAFE,), [0]), time.monotonic())
    assert not vetted.order and "no verdict within" in vetted.unknown


def test_a_verdict_on_the_set_before_does_not_serve_the_next(bench):
    (old,) = bench.ask((0.1,))
    bench.answer(bench.verdict(old.chunk_set_id, (SAFE,), [0]))
    (decision,) = bench.ask((0.1,))
    assert not decision.accepted and not bench.approved


def test_what_was_waiting_is_dropped_when_the_mode_changes(bench):
    """A verdict that comes after a stop is not an approval, even if the arm has been engaged again."""
    stamp = time.time_ns()
    bench.node._join.add_set(_set_of(bench, stamp), time.monotonic())
    bench.node._machine.hold("test")
    assert bench.node._machine.engage(bench.node._machine.epoch, time.time_ns()) is None
    bench.answer(bench.verdict(stamp, (SAFE,), [0]))
    bench.graph.spin(0.2)
    assert not bench.approved


def test_a_set_whose_candidates_are_not_numbered_in_order_is_refused_and_the_gate_lives(bench):
    """Incident: a number that the verdicts do not have ended the gate, and with it the stack."""
    sent = bench.chunks

    def renumbered(message):
        for chunk in message.chunks:
            chunk.candidate += 5
        sent(message)

    bench.chunks = renumbered
    (decision,) = bench.ask((0.1, 0.2), (SAFE, SAFE), (0, 1))
    assert not decision.accepted and decision.reasons[0].check == "chunks" and not bench.approved
    bench.chunks = sent
    assert bench.ask((0.1, 0.2), (SAFE, SAFE), (0, 1))[0].accepted


def test_slow_lets_slow_chunks_pass_when_nothing_is_known(graph, spec, tiny_world_model):
    slow = {"vetting.on_unknown": "slow", "vetting.slow": 0.2, "vetting.deadline": 0.05}
    bench = Vetted(graph, spec, tiny_world_model, **slow)
    limit = 0.2 * spec.velocity[-1]
    assert not bench.ask((1.5 * limit,))[0].accepted
    decision = bench.ask((0.5 * limit,))[-1]
    assert decision.accepted
    assert "vetting UNKNOWN: no verdict within" in bench.approved[-1].reason


def test_slow_does_not_execute_what_is_unsafe(graph, spec, tiny_world_model):
    """Incident: of a set with one unsafe and one unknown candidate the unsafe one was executed, slowly."""
    bench = Vetted(graph, spec, tiny_world_model, **{"vetting.on_unknown": "slow", "vetting.slow": 0.2})
    slow = 0.1 * spec.velocity[-1]
    decisions = bench.ask((slow, slow), (UNSAFE, UNKNOWN))
    assert [(d.candidate, d.accepted) for d in decisions] == [(0, False), (1, True)]
    assert decisions[0].imagination.verdict == UNSAFE
    decisions = bench.ask((slow, slow), (UNSAFE, SAFE), (0,))  # a verdict that contradicts itself
    assert not any(d.accepted for d in decisions)


def test_a_bundle_that_is_not_there_is_refused_at_configure(graph):
    values = {"vetting.imagination": "on", "vetting.failure_detector": "off", "vetting.world_model": "nowhere"}
    node = graph.start(lambda: GateNode("gate"), parameters={f"gate.{k}": v for k, v in values.items()})
    node.trigger_configure()
    assert "nowhere" in node._fault


def test_vetting_is_on_or_off(graph):
    with pytest.raises(ConfigError, match="imagination: 'maybe' is not valid"):
        graph.start(
            lambda: GateNode("gate"),
            parameters={"gate.vetting.imagination": "maybe", "gate.vetting.failure_detector": "off"},
        )


def _set_of(bench, stamp):
    from vla_mbpo.core.chunk import ActionChunk, ActionType

    spec = bench.spec
    chunk = ActionChunk(
        stamp, 0, stamp, stamp + 800_000_000, ActionType.JOINT_POSITION, spec.joints, spec.home, spec.row_period,
        np.tile(spec.home, (16, 1)), np.full(16, 0.08),
    )  # fmt: skip
    message = convert.to_chunk_set([chunk], stamp, spec.base_frame)
    message.chunk_set_id, message.instruction = stamp, SAY
    message.observation_stamp = convert.to_time(stamp)
    return message
