"""The trainer's node: one loop, set aside while the arm may move, also while a person has it."""

import sys

import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger
from vla_mbpo_msgs.msg import GateState, TrainingProgress

from vla_mbpo.nodes import qos
from vla_mbpo.nodes import trainer as module
from vla_mbpo.nodes.trainer import TrainerNode
from vla_mbpo.training.job import TrainingJob

COUNT = """
import json, pathlib, sys, time
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
(out / "progress.json").write_text(json.dumps({"stage": "dream_rl", "number": 3, "of": 5, "run": str(out / "run")}))
(out / "run").mkdir(exist_ok=True)
(out / "run" / "state.json").write_text(json.dumps({"history": [{"step": 50, "policy": -0.25}]}))
for number in range(10**6):
    (out / "count").write_text(str(number))
    time.sleep(0.01)
"""


@pytest.fixture
def bench(graph, monkeypatch, tmp_path):
    monkeypatch.setattr(
        module, "TrainingJob", lambda out, arguments: TrainingJob(out, arguments, (sys.executable, "-c", COUNT))
    )
    graph.start(lambda: TrainerNode("trainer"), parameters={"trainer.out": str(tmp_path)})
    graph.activate()
    graph.listen(qos.TRAINING)
    return Bench(graph, tmp_path)


class Bench:
    def __init__(self, graph, out):
        self.graph, self._out = graph, out
        self._gate = graph.talk(qos.GATE_STATE)

    def ask(self, what):
        return self.graph.call(Trigger, getattr(qos, f"TRAINER_{what}"), Trigger.Request())

    def mode(self, mode):
        self._gate(GateState(mode=mode))
        self.graph.spin(0.2)

    def works(self, seconds=0.6):
        """Whether the loop's process does something."""
        file = self._out / "count"
        before = file.read_text() if file.exists() else ""
        self.graph.spin(seconds)
        return file.exists() and file.read_text() not in ("", before)

    @property
    def last(self):
        return self.graph.heard[qos.TRAINING.name][-1]


def test_the_loop_waits_while_the_arm_may_move(bench):
    bench.mode(GateState.HOLD)
    assert bench.ask("START").success
    bench.graph.until(bench.works, 40)
    for moving in (GateState.AUTONOMOUS, GateState.TELEOP):
        bench.mode(moving)
        assert not bench.works()
        bench.mode(GateState.HOLD)
        bench.graph.until(bench.works, 40)


def test_until_the_gate_has_spoken_the_arm_may_move(bench):
    assert bench.ask("START").success
    assert not bench.works(2.0)


def test_what_a_person_set_aside_waits_for_a_person(bench):
    bench.mode(GateState.HOLD)
    bench.ask("START")
    bench.graph.until(bench.works, 40)
    assert bench.ask("PAUSE").success
    bench.mode(GateState.AUTONOMOUS)
    bench.mode(GateState.HOLD)
    assert not bench.works()
    assert bench.ask("START").success
    bench.graph.until(bench.works, 40)


def test_progress_is_told(bench):
    bench.mode(GateState.HOLD)
    bench.ask("START")
    bench.graph.until(lambda: bench.last.step == 50, 40)
    said = bench.last
    assert (said.state, said.stage, said.number, said.of) == (TrainingProgress.RUNNING, "dream_rl", 3, 5)
    assert dict(zip(said.loss_names, said.losses, strict=True)) == {"policy": -0.25}


def test_deactivation_ends_the_loop(bench):
    bench.mode(GateState.HOLD)
    bench.ask("START")
    bench.graph.until(bench.works, 40)
    bench.graph.nodes[0].trigger_deactivate()
    assert not bench.works()


def test_a_request_that_cannot_be_met_says_why(bench):
    answer = bench.ask("PAUSE")
    assert not answer.success and "idle" in answer.message


def test_a_wrong_word_for_what_it_does_while_the_arm_moves_is_refused_when_it_is_set(graph):
    """Incident: it was taken, and refused only at configure."""
    node = graph.start(lambda: TrainerNode("trainer"))
    (result,) = node.set_parameters([Parameter("while_moving", value="wait")])
    assert not result.successful and "choose one of: pause, run" in result.reason


@pytest.mark.parametrize(
    ("name", "value", "valid"), [("arguments", "--task 'open", "No closing quotation"), ("out", "", "a folder")]
)
def test_a_parameter_that_cannot_be_used_is_named_with_its_value(graph, tmp_path, name, value, valid):
    """Incident: 'No closing quotation' without a name; and a value in quotes of quotes."""
    node = graph.start(lambda: TrainerNode("trainer"), parameters={"trainer.out": str(tmp_path)})
    node.set_parameters([Parameter(name, value=value)])
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert f"trainer.{name}: {value!r} is not valid" in node._fault and valid in node._fault
