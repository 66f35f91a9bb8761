"""The gate with the failure detector on: whose risks count, and what an alarm does."""

import json

import numpy as np
import pytest
from test_gate_node import Bench
from vla_mbpo_msgs.msg import CandidateVerdict, FailureRisk, GateState, ImaginationVerdict

from vla_mbpo.failure.calibration import Calibration
from vla_mbpo.nodes import convert, qos
from vla_mbpo.nodes.gate import GateNode
from vla_mbpo.policy.bundle import Bundle

NAN = float("nan")


class Watched(Bench):
    """A gate whose failure detector is played by the test."""

    def __init__(self, graph, spec, detector, **parameters):
        bands = detector.with_name("bands.json")
        self.id = Calibration.load(bands, Bundle.load(detector)).id
        vetting = {
            "vetting.failure_detector": "on", "vetting.detector": detector, "vetting.calibration": str(bands),
            "vetting.deadline": 0.5,
        }  # fmt: skip
        super().__init__(graph, spec, start_engaged=True, **{**vetting, **parameters})
        self.answer = graph.talk(qos.RISK)
        self.until_mode(GateState.AUTONOMOUS)

    def risk(self, of, alarm=False, **changes):
        """A risk of the chunk set ``of`` (id and stamp)."""
        message = FailureRisk(
            chunk_set_id=of, known=True, score=3.0 if alarm else 1.0, band=2.0, alarm=alarm,
            detectors=["one", "two", "three"], votes=[alarm, False, alarm], calibration_id=self.id,
        )  # fmt: skip
        message.observation_stamp = convert.to_time(of)
        for name, value in changes.items():
            setattr(message, name, value)
        return message

    def ask(self, speeds=(0.1, 0.2), first=False, silent=False, **changes):
        """Send a set and the risk of it, the risk before the set with ``first``; the decisions on it."""
        before, sent = len(self.decisions), self.chunks

        def send(message):
            said = [] if silent else [(self.answer, self.risk(message.chunk_set_id, **changes))]
            for say, what in [(sent, message), *said][:: -1 if first else 1]:
                say(what)
                self.graph.spin(0.05)

        self.chunks = send
        try:
            self.send(*speeds)
        finally:
            self.chunks = sent
        return self.decisions[before:]


@pytest.fixture
def bench(graph, spec, tiny_detector):
    return Watched(graph, spec, tiny_detector)


@pytest.mark.parametrize("first", [False, True], ids=["set first", "risk first"])
def test_without_an_alarm_the_first_candidate_that_passes_is_approved(bench, first):
    decisions = bench.ask((9.0, 0.1), first=first)
    assert [(d.candidate, d.accepted) for d in decisions] == [(0, False), (1, True)]
    assert list(bench.state.vetting_off) == ["imagination"]


def test_an_alarm_holds_and_ends_the_attempt(bench):
    (decision,) = bench.ask(alarm=True)
    assert not decision.accepted and not bench.approved
    assert decision.reasons[0].check == "failure_detector"
    assert "risk 3.00 above 2.00 (one, three)" in decision.reasons[0].text
    bench.until_mode(GateState.HOLD)
    assert "failure detector" in bench.state.reason and not bench.state.intervention


def test_an_alarm_may_wait_for_a_person_instead(graph, spec, tiny_detector):
    bench = Watched(graph, spec, tiny_detector, **{"vetting.on_alarm": "human"})
    bench.ask(alarm=True)
    bench.until_mode(GateState.HOLD)
    assert bench.state.intervention
    assert bench.node._machine.engage(bench.node._machine.epoch, 0) is None
    assert not bench.node._machine.intervention


def test_an_alarm_may_only_be_noted(graph, spec, tiny_detector):
    bench = Watched(graph, spec, tiny_detector, **{"vetting.on_alarm": "note"})
    assert bench.ask(alarm=True)[-1].accepted and bench.state.mode == GateState.AUTONOMOUS


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"calibration_id": "other@1/0"}, "other@1/0"),
        ({"observation_stamp": convert.to_time(1)}, "another observation"),
        ({"known": False, "reason": "features late"}, "features late"),
        ({"score": NAN}, "not finite"),
        ({"band": NAN}, "not finite"),
        ({"silent": True}, "no risk within 0.5 s"),
    ],
    ids=["calibration", "observation", "unknown", "score", "band", "silence"],
)
def test_a_risk_that_says_nothing_is_unknown_and_holds(bench, changes, text):
    decision = bench.ask(**changes)[-1]
    assert not decision.accepted and not bench.approved
    assert decision.reasons[0].check == "vetting" and text in decision.reasons[0].text
    assert bench.state.mode == GateState.AUTONOMOUS  # the arm comes to a stop; the next set may be known


def test_a_risk_of_the_set_before_does_not_serve_the_next(bench):
    (old,) = bench.ask(silent=True)
    bench.answer(bench.risk(old.chunk_set_id))
    assert not bench.ask(silent=True)[-1].accepted


def test_with_imagination_too_both_answers_are_waited_for(graph, spec, tiny_detector, tiny_world_model):
    vetting = {"vetting.imagination": "on", "vetting.world_model": tiny_world_model}
    bench = Watched(graph, spec, tiny_detector, **vetting)
    verdict = graph.talk(qos.VERDICT)
    sent, version = bench.answer, Bundle.load(tiny_world_model).version

    def both(risk):
        sent(risk)
        fit = [CandidateVerdict(candidate=k, verdict=CandidateVerdict.SAFE) for k in range(2)]
        answer = ImaginationVerdict(chunk_set_id=risk.chunk_set_id, candidates=fit, order=[1, 0], model_version=version)
        answer.observation_stamp = risk.observation_stamp
        graph.spin(0.1)
        assert not bench.approved  # one of two is not enough
        verdict(answer)

    bench.answer = both
    (decision,) = bench.ask()
    assert decision.accepted and decision.candidate == 1
    bench.answer = sent
    text = bench.ask()[-1].reasons[0].text
    assert "no verdict within" in text and "no risk" not in text


class Both(Watched):
    """A gate whose imagination is played by the test, too: ``verdicts`` of both candidates, None: it is silent."""

    def __init__(self, graph, spec, detector, world_model, verdicts, **parameters):
        vetting = {"vetting.imagination": "on", "vetting.world_model": world_model, **parameters}
        super().__init__(graph, spec, detector, **vetting)
        self.verdicts, self.version = verdicts, Bundle.load(world_model).version
        answer, verdict = self.answer, graph.talk(qos.VERDICT)

        def both(risk):
            if self.verdicts is not None:
                verdict(self.verdict(risk))
                graph.spin(0.05)
            answer(risk)

        self.answer, self.only_verdict = both, lambda risk: verdict(self.verdict(risk))

    def verdict(self, risk):
        said = [CandidateVerdict(candidate=k, verdict=v) for k, v in enumerate(self.verdicts)]
        order = [k for k, v in enumerate(self.verdicts) if v == CandidateVerdict.SAFE]
        message = ImaginationVerdict(
            chunk_set_id=risk.chunk_set_id, candidates=said, order=order, model_version=self.version
        )
        message.observation_stamp = risk.observation_stamp
        return message


UNSAFE, SAFE = CandidateVerdict.UNSAFE, CandidateVerdict.SAFE


@pytest.mark.parametrize("silent", [False, True], ids=["unknown risk", "no risk"])
def test_slow_does_not_execute_what_is_unsafe_because_the_risk_is_unknown(
    graph, spec, tiny_detector, tiny_world_model, silent
):
    """Both candidates were UNSAFE, the risk was not known, and the arm executed the first one slowly."""
    bench = Both(graph, spec, tiny_detector, tiny_world_model, [UNSAFE, UNSAFE], **{"vetting.on_unknown": "slow"})
    if silent:
        bench.answer = bench.only_verdict
    decisions = bench.ask(known=False, reason="features late")
    assert decisions and not any(d.accepted for d in decisions) and not bench.approved


def test_slow_executes_what_is_safe_though_the_risk_is_unknown(graph, spec, tiny_detector, tiny_world_model):
    bench = Both(graph, spec, tiny_detector, tiny_world_model, [UNSAFE, SAFE], **{"vetting.on_unknown": "slow"})
    assert [d.candidate for d in bench.ask((0.1, 0.1), known=False) if d.accepted] == [1]


def test_an_alarm_does_not_wait_for_a_verdict(graph, spec, tiny_detector, tiny_world_model):
    bench = Both(graph, spec, tiny_detector, tiny_world_model, None, **{"vetting.deadline": 1.0})
    (decision,) = bench.ask(alarm=True)
    assert decision.reasons[0].check == "failure_detector"
    bench.until_mode(GateState.HOLD)


def test_an_alarm_counts_after_its_set_went_on_slowly(graph, spec, tiny_detector):
    """An alarm that came after the deadline was thrown away, and the arm drove on."""
    bench = Watched(graph, spec, tiny_detector, **{"vetting.on_unknown": "slow", "vetting.deadline": 0.1})
    decisions = bench.ask((0.1, 0.1), silent=True)
    assert decisions[-1].accepted
    bench.answer(bench.risk(decisions[-1].chunk_set_id, alarm=True))
    bench.until_mode(GateState.HOLD)


def test_an_alarm_about_motion_before_a_stop_does_not_count(graph, spec, tiny_detector):
    bench = Watched(graph, spec, tiny_detector, **{"vetting.deadline": 0.1})
    old = bench.ask((0.1, 0.1), silent=True)[-1].chunk_set_id
    bench.node._machine.hold("a person")
    bench.until_mode(GateState.HOLD)
    assert bench.node._machine.engage(bench.node._machine.epoch, 0) is None
    bench.until_mode(GateState.AUTONOMOUS)
    bench.answer(bench.risk(old, alarm=True))
    graph.spin(0.2)
    assert bench.state.mode == GateState.AUTONOMOUS


def test_bands_that_are_not_there_are_refused_at_configure(graph, tiny_detector, tmp_path):
    bands = tmp_path / "bands.json"
    bands.write_text(json.dumps({"kind": "nothing", "mean": np.zeros(3).tolist()}))
    values = {
        "vetting.imagination": "off", "vetting.failure_detector": "on", "vetting.detector": str(tiny_detector),
        "vetting.calibration": str(bands),
    }  # fmt: skip
    node = graph.start(lambda: GateNode("gate"), parameters={f"gate.{k}": v for k, v in values.items()})
    node.trigger_configure()
    assert "calibration" in node._fault and "calibrate detector" in node._fault
