"""The failure detector's node: one risk for every chunk set, and UNKNOWN with its reason where it cannot know."""

import pytest
from made_up import calm_attempt
from std_msgs.msg import String
from vla_mbpo_msgs.msg import ActionChunkSet, GateState

from vla_mbpo.core.chunk import ActionChunk, ActionType
from vla_mbpo.nodes import convert, qos
from vla_mbpo.nodes.failure_detector import FailureDetectorNode
from vla_mbpo.policy.bundle import Bundle

PERIOD = 50_000_000
BEGIN = 10**18  # ns


class Bench:
    """A failure detector whose policy, gate and task are played by the test."""

    def __init__(self, graph, spec, detector, **parameters):
        self.graph, self.spec = graph, spec
        values = {"bundle": detector, "calibration": detector.with_name("bands.json"), **parameters}
        overrides = {f"failure_detector.{k}": str(v) if k != "alpha" else v for k, v in values.items()}
        self.node = graph.start(lambda: FailureDetectorNode("failure_detector"), parameters=overrides)
        self.policy = Bundle.load(detector).manifest["policies"][0]

    def begin(self):
        self.graph.activate()
        self.graph.listen(qos.RISK)
        topics = (qos.ACTION_CHUNKS, qos.INSTRUCTION, qos.GATE_STATE)
        self.chunks, instruction, self.gate = map(self.graph.talk, topics)
        self.told, self._say = "", instruction
        self.instruct("push the red cube to the mark")
        return self

    def instruct(self, words):
        """Begin an attempt."""
        self.told = words
        self._say(String(data=words))
        self.graph.spin(0.1)

    def tell(self, look, at=0, **changes):
        """A chunk set with this look; the risk of it."""
        stamp = BEGIN + (at + look.row) * PERIOD
        chunks = [
            ActionChunk(
                stamp, k, stamp, stamp + 16 * PERIOD, ActionType.JOINT_POSITION, self.spec.joints, look.joints,
                PERIOD, rows[:, :-1], rows[:, -1],
            )
            for k, rows in enumerate(look.chunks)
        ]  # fmt: skip
        message = ActionChunkSet(
            chunk_set_id=stamp, policy_version=self.policy, features=look.features.tolist(),
            chunks=[convert.to_chunk(chunk, stamp, "base") for chunk in chunks],
        )  # fmt: skip
        message.observation_stamp, message.instruction = convert.to_time(stamp), self.told
        for name, value in changes.items():
            setattr(message, name, value)
        before = len(self.risks)
        self.chunks(message)
        self.graph.until(lambda: len(self.risks) > before)
        return self.risks[-1]

    @property
    def risks(self):
        return self.graph.heard[qos.RISK.name]


@pytest.fixture
def bench(graph, spec, tiny_detector):
    return Bench(graph, spec, tiny_detector).begin()


WILD, CALM = (calm_attempt(1, 32, wild=wild).looks for wild in (6.0, 1.0))


def alarm(bench):
    for look in WILD:
        risk = bench.tell(look)
    assert risk.alarm
    return risk


def test_every_set_gets_one_risk_that_names_it(bench):
    risks = [bench.tell(look) for look in CALM[:4]]
    assert all(risk.known and not risk.reason for risk in risks) and len(bench.risks) == 4
    assert [risk.chunk_set_id for risk in risks] == [BEGIN + look.row * PERIOD for look in CALM[:4]]
    assert risks[0].calibration_id.startswith(bench.policy) and list(risks[0].detectors) == list(
        bench.node._detector.members
    )


def test_an_alarm_is_a_warning_in_diagnostics_and_stays_on(bench):
    risk = alarm(bench)
    assert risk.score > risk.band and sum(risk.votes) >= 2
    assert "alarm" in bench.node.warning() and bench.node.report()["alarms"] == 1
    assert bench.tell(CALM[0], at=96).alarm


@pytest.mark.parametrize("how", ["instruction", "engaged"])
def test_a_new_attempt_starts_anew(bench, how):
    alarm(bench)
    if how == "instruction":
        bench.instruct("press the button")
    else:
        bench.gate(GateState(mode=GateState.AUTONOMOUS, epoch=9))
    bench.graph.spin(0.1)
    assert not bench.tell(CALM[0], at=96).alarm


def test_a_stop_is_no_new_attempt(bench):
    bench.gate(GateState(mode=GateState.AUTONOMOUS, epoch=9))
    bench.graph.spin(0.1)
    alarm(bench)
    bench.gate(GateState(mode=GateState.HOLD, epoch=10))
    bench.graph.spin(0.1)
    assert bench.tell(CALM[0], at=96).alarm


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"policy_version": "other@1"}, "other@1"),
        ({"features": []}, "gives no features"),
        ({"features": [float("nan")] * 32}, "finite"),
        ({"chunks": []}, "no candidates"),
    ],
    ids=["policy", "no features", "nan", "no chunks"],
)
def test_what_cannot_be_judged_is_unknown_with_its_reason_and_the_node_lives(bench, changes, text):
    risk = bench.tell(CALM[0], **changes)
    assert not risk.known and text in risk.reason and not risk.alarm
    bench.instruct("press the button")
    assert bench.tell(CALM[1]).known


def test_chunks_for_the_instruction_before_are_no_look_of_the_new_attempt(bench):
    """Such a set, still in flight, was the new attempt's first look, from the middle of the old one."""
    before = bench.told
    bench.instruct("press the button")
    assert "push" in bench.tell(CALM[5], instruction=before).reason
    assert bench.tell(CALM[0]).known and bench.node._began == BEGIN


def test_an_observation_from_before_is_unknown(bench):
    bench.tell(CALM[1])
    assert "older" in bench.tell(CALM[0]).reason


def test_an_attempt_longer_than_the_calibration_is_a_warning(bench):
    assert bench.tell(CALM[0]).known and not bench.node.warning()
    assert bench.tell(CALM[0], at=bench.node._detector.calibrated_rows + 8).known
    assert "longer than any" in bench.node.warning()


def test_malformed_chunks_are_unknown(bench):
    stamp = BEGIN
    broken = convert.to_chunk(
        ActionChunk(stamp, 0, stamp, stamp, ActionType.JOINT_POSITION, bench.spec.joints, CALM[0].joints, PERIOD,
                    CALM[0].chunks[0][:, :-1], CALM[0].chunks[0][:, -1]), stamp, "base")  # fmt: skip
    broken.horizon = 3
    assert "ValueError" in bench.tell(CALM[0], chunks=[broken]).reason


@pytest.mark.parametrize("parameters, text", [({"alpha": 0.01}, "successes"), ({"bundle": "nowhere"}, "nowhere")])
def test_what_does_not_fit_is_refused_at_configure(graph, spec, tiny_detector, parameters, text):
    bench = Bench(graph, spec, tiny_detector, **parameters)
    bench.node.trigger_configure()
    assert text in bench.node._fault
