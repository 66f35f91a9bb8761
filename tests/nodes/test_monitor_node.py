"""The page's node: panels from the topics, orders through the stack's services."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from helpers import free_port
from sensor_msgs.msg import Image
from std_msgs.msg import Bool, String
from vla_mbpo_msgs.msg import CandidateVerdict, FailureRisk, GateState, ImaginationVerdict, TrainingProgress
from vla_mbpo_msgs.srv import GateCommand, ResetScene

from vla_mbpo.monitor.guard import HEADER
from vla_mbpo.nodes import convert, qos
from vla_mbpo.nodes.gate import GateNode
from vla_mbpo.nodes.monitor import MonitorNode
from vla_mbpo.nodes.task import TaskNode

STATED = {"gate.vetting.imagination": "off", "gate.vetting.failure_detector": "off"}


class Page:
    """The node, and a browser's part of the talk."""

    def __init__(self, graph, *others, **parameters):
        self.graph, self.node = graph, None
        given = {"monitor.port": free_port(), **parameters}
        self.node = graph.start(*others, lambda: MonitorNode("monitor"), parameters=given)
        graph.activate()
        graph.spin(0.3)
        self.address = self.node._page.address.rstrip("/")

    def ask(self, path, body=None, token=True):
        headers = {HEADER: self.node._page.guard.token} if token else {}
        data = None if body is None else json.dumps(body).encode()

        def talk():
            try:
                with urlopen(Request(self.address + path, data, headers), timeout=10) as answer:
                    return answer.status, json.loads(answer.read())
            except HTTPError as error:
                return error.code, json.loads(error.read())

        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(talk)
            self.graph.until(asked.done, 12.0)
        return asked.result()

    def rows(self, panel):
        return dict(self.ask("/state")[1][panel]["rows"])

    def until(self, panel, words):
        self.graph.until(lambda: words in json.dumps(self.ask("/state")[1].get(panel, ""), ensure_ascii=False), 10.0)


def test_every_panel_hears_of_the_stack(graph):
    page = Page(graph)
    gate = GateState(mode=GateState.HOLD, epoch=3, reason="start", vetting_off=["imagination"])
    graph.talk(qos.GATE_STATE)(gate)
    page.until("gate", "start")
    graph.talk(qos.INSTRUCTION)(String(data="open the drawer"))
    page.until("task", "open the drawer")
    one = CandidateVerdict(verdict=CandidateVerdict.RISKY, reasons=["it may cost"])
    graph.talk(qos.VERDICT)(ImaginationVerdict(chunk_set_id=9, candidates=[one]))
    page.until("verdicts", "it may cost")
    graph.talk(qos.RISK)(FailureRisk(known=True, score=2.0, band=7.0))
    page.until("risk", "risk 2.00, band 7.00")
    values = [KeyValue(key="version", value="tiny 0123"), KeyValue(key="inference_p95_ms", value="31.0")]
    status = DiagnosticStatus(name="policy", message="active", values=values)
    graph.talk(qos.DIAGNOSTICS)(DiagnosticArray(status=[status]))
    page.until("rates", "inference_p95_ms 31.0")
    page.until("release", "tiny 0123")
    page.until("training", "no trainer")
    graph.talk(qos.TRAINING)(TrainingProgress(state=TrainingProgress.RUNNING, stage="rollouts"))
    page.until("training", "rollouts")
    page.until("training", "no trainer")  # it has fallen silent
    page.until("gate", "unknown")  # so has the gate
    graph.talk(qos.DREAM)(convert.to_image(np.zeros((192, 192, 3), np.uint8), 1, "dream 9"))
    page.until("dream", "chunk set 9")
    assert "no recorder" in page.rows("recording")["Recording"]


def test_a_broken_message_does_not_end_the_page(graph):
    page = Page(graph)
    graph.listen(qos.ESTOP)
    graph.talk(qos.GATE_STATE)(GateState(mode=77))
    page.node._page.viewers.enter()  # dreams are drawn for viewers only
    graph.talk(qos.DREAM)(Image(encoding="bayer", height=3, width=3))
    graph.talk(qos.VERDICT)(ImaginationVerdict(candidates=[CandidateVerdict(verdict=77)]))
    head = graph.talk(qos.HEAD_IMAGE)
    head(Image(encoding="bayer", height=3, width=3))
    graph.spin(0.5)
    scenes, grey = page.node._page.scenes, np.full((32, 32, 3), 90, np.uint8)
    before, _ = scenes.after(0, 0.0)
    head(convert.to_image(grey, time.time_ns(), "head_camera_optical_frame"))
    graph.until(lambda: scenes.after(before, 0.0)[0] > before)  # incident: there were no pictures any more
    assert page.node.state == "active" and page.ask("/stop", {}, token=False) == (200, {"stopped": True})
    graph.until(lambda: bool(graph.heard[qos.ESTOP.name]))


def test_the_token_is_printed_with_the_address_and_not_logged(graph, capfd):
    page = Page(graph)
    out, err = capfd.readouterr()
    assert f"page: {page.node._page.link}\n" in out and page.node._page.guard.token not in err
    assert page.node._page.guard.token not in json.dumps([str(value) for value in page.node.report().values()])


def test_stop_reset_and_engage_through_the_page(graph):
    """The real gate: a stop without token, then reset and engage in the epoch that the page shows."""
    page = Page(graph, lambda: GateNode("gate"), **STATED)
    page.until("gate", "HOLD")
    assert page.ask("/stop", {}, token=False) == (200, {"stopped": True})
    page.until("gate", "ESTOP")
    epoch = page.ask("/state")[1]["gate"]["epoch"]
    assert page.ask("/reset", {"epoch": epoch}, token=False)[0] == 403
    status, answer = page.ask("/engage", {"epoch": epoch})
    assert (status, answer["done"]) == (409, False)  # in ESTOP, and no arm is there
    status, answer = page.ask("/reset", {"epoch": epoch - 1})
    assert status == 409 and "stale epoch" in answer["said"]
    assert page.ask("/reset", {"epoch": epoch}) == (200, {"done": True, "said": "reset"})
    page.until("gate", "HOLD")
    status, answer = page.ask("/engage", {"epoch": epoch + 1})
    assert status == 409 and "no message of joint_states" in answer["said"]
    assert page.ask("/engage", {})[0] == 400


@pytest.mark.parametrize("quality", [qos.ESTOP.qos, qos.SENSOR], ids=["reliable", "best effort"])
def test_the_page_does_not_let_go_of_another_button(graph, quality):
    page = Page(graph, lambda: GateNode("gate"), **STATED)
    page.until("gate", "HOLD")
    page.ask("/stop", {}, token=False)
    graph.talk(replace(qos.ESTOP, qos=quality))(Bool(data=True))
    page.until("gate", "ESTOP")
    status, answer = page.ask("/reset", {"epoch": page.ask("/state")[1]["gate"]["epoch"]})
    assert status == 409 and "cause still present" in answer["said"]


def test_a_stop_of_before_the_page_was_started_can_be_reset(graph, tmp_path):
    """A latch that was kept names the topic as its cause, and nobody there lets go of it."""
    file = tmp_path / "gate.json"
    file.write_text(json.dumps({"epoch": 4, "latched": True, "causes": ["topic /estop"], "reason": "topic /estop"}))
    page = Page(graph, lambda: GateNode("gate"), **STATED, **{"gate.state_file": str(file)})

    def reset():
        return page.ask("/reset", {"epoch": page.ask("/state")[1]["gate"]["epoch"]})

    page.until("gate", "ESTOP")
    status, answer = reset()
    assert status == 409 and "press this page's stop, then reset" in answer["said"]
    page.ask("/stop", {}, token=False)
    graph.until(lambda: reset()[0] == 200, 5.0)
    page.until("gate", "HOLD")


def test_a_task_is_begun_refused_and_ended(graph, bundle):
    page = Page(graph, lambda: TaskNode("task"), **{"task.bundle": bundle})
    say = graph.talk(qos.GATE_STATE)
    graph.probe.create_timer(0.1, lambda: say(GateState(mode=GateState.AUTONOMOUS, epoch=1)))
    status, answer = page.ask("/task", {"instruction": "juggle the cubes"})
    assert status == 409 and "refused: instruction: 'juggle the cubes' is not valid" in answer["said"]
    assert page.ask("/end", {}) == (409, {"done": False, "said": "no attempt is running"})
    status, answer = page.ask("/task", {"instruction": "  press the   button "})
    assert (status, answer["said"]) == (200, "press the button: sent")
    page.until("task", "number 1 is running: press the button")
    assert page.ask("/end", {}) == (200, {"done": True, "said": "the attempt ends"})
    page.until("task", "press the button: stopped: cancelled")


@pytest.mark.parametrize("text", ["", "   ", 7, None, "x" * 201])
def test_a_task_without_words_is_not_sent(graph, text):
    page = Page(graph)
    status, answer = page.ask("/task", {"instruction": text})
    assert status == 400 and "expected 1 to 200 letters" in answer["error"]


def test_the_scene_is_put_to_its_start(graph):
    page = Page(graph)
    status, answer = page.ask("/scene", {"task": "drawer", "seed": 3})
    assert status == 409 and "no simulated scene" in answer["said"]
    asked = []

    def reset(request, answer):
        asked.append((request.task, request.seed))
        answer.success = True
        return answer

    graph.probe.create_service(ResetScene, qos.RESET_SCENE, reset)
    graph.until(page.node._orders._scene.service_is_ready)
    graph.spin(0.2)
    assert page.ask("/scene", {"task": "drawer", "seed": 3})[1]["said"] == "the scene is at its start"
    assert asked == [("drawer", 3)]
    assert page.ask("/scene", {"task": "juggle", "seed": 3})[0] == 400
    assert page.ask("/scene", {"task": "drawer", "seed": -1})[0] == 400


def test_a_gate_that_does_not_answer_is_told(graph, monkeypatch):
    monkeypatch.setattr("vla_mbpo.nodes.orders.ANSWER_TIME", 0.3)
    page = Page(graph)
    assert page.ask("/engage", {"epoch": 1}) == (409, {"done": False, "said": "the gate does not answer"})

    async def never(request, answer):
        raise AssertionError("not called")

    service = graph.probe.create_service(GateCommand, qos.ENGAGE, never)
    graph.until(page.node._orders._engage.service_is_ready)
    graph.probe.destroy_service(service)
    assert page.ask("/engage", {"epoch": 1})[1]["said"] == "the gate does not answer"
