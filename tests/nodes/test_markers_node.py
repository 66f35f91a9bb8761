"""What the markers node publishes for RViz, and that it is nothing that anybody waits for."""

import time
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from geometry_msgs.msg import Point
from helpers import finish, spawn
from std_msgs.msg import String
from visualization_msgs.msg import Marker
from vla_mbpo_msgs.msg import CandidateVerdict, FailureRisk, GateDecision, GateState, ImaginationVerdict, Reason

from vla_mbpo.core.chunk import ActionChunk, ActionType
from vla_mbpo.core.robot import Obstacle
from vla_mbpo.nodes import convert, drawing, qos
from vla_mbpo.nodes.markers import MarkersNode

PERIOD = 50_000_000
TOO_FAST = "joint_velocity: row 3 panda_joint2 2.3 (limit 2.1)"


class Bench:
    """A markers node whose stack is played by the test."""

    def __init__(self, graph, spec, **parameters):
        self.graph, self.spec, self.sets = graph, spec, 0
        overrides = {f"markers.{name}": value for name, value in {"rate": 10.0, **parameters}.items()}
        self.node = graph.start(lambda: MarkersNode("markers"), parameters=overrides)
        graph.listen(qos.MARKERS, qos.VOLUMES, qos.OVERLAY)
        self.all = []  # scenes, those that are looked for and the others
        graph.probe.create_subscription(qos.MARKERS.type, qos.MARKERS.name, self.all.append, qos.EVERY)
        graph.activate()
        topics = (qos.ACTION_CHUNKS, qos.VERDICT, qos.GATE_DECISION, qos.GATE_STATE, qos.RISK, qos.INSTRUCTION)
        self.chunks, self.verdict, self.decision, self.gate, self.risk, self.instruct = map(graph.talk, topics)

    def propose(self, candidates=4, spoil=lambda rows: None):
        """A chunk set of candidates that turn the last but one joint, each more than the one before."""
        self.sets, stamp = self.sets + 1, time.time_ns()
        made = []
        for k in range(candidates):
            rows = np.tile(self.spec.home, (16, 1))
            rows[:, -2] += 0.01 * (k + 1) * np.arange(1, 17)
            spoil(rows)
            chunk = ActionChunk(
                self.sets, k, stamp, stamp + 16 * PERIOD, ActionType.JOINT_POSITION, self.spec.joints, self.spec.home,
                PERIOD, rows, np.full(16, 0.08),
            )  # fmt: skip
            made.append(chunk)
        self.chunks(convert.to_chunk_set(made, stamp, self.spec.base_frame))
        return made

    def judge(self, *verdicts):
        said = [CandidateVerdict(candidate=k, verdict=int(v)) for k, v in enumerate(verdicts)]
        self.verdict(ImaginationVerdict(chunk_set_id=self.sets, candidates=said))

    def decide(self, candidate, text="", check="joint_velocity"):
        reasons = [Reason(check=check, text=text)] if text else []
        self.decision(GateDecision(chunk_set_id=self.sets, candidate=candidate, accepted=not reasons, reasons=reasons))

    def shown(self, condition=lambda found: True):
        """The next scene of which ``condition`` holds: (namespace, id) -> marker."""
        heard, found = self.graph.heard[qos.MARKERS.name], {}
        heard.clear()

        def seen():
            found.clear()
            found.update({(m.ns, m.id): m for m in heard[-1].markers if m.action == Marker.ADD} if heard else {})
            return bool(heard) and condition(found)

        self.graph.until(seen)
        return dict(found)


@pytest.fixture
def bench(graph, spec):
    return Bench(graph, spec)


def lines(found):
    return {number: marker for (ns, number), marker in found.items() if ns == "candidates"}


def finite(marker):
    spots = [marker.pose.position, *marker.points, marker.scale, marker.pose.orientation]
    return all(np.isfinite([getattr(spot, axis) for axis in "xyz"]).all() for spot in spots)


def test_candidates_are_ribbons_the_chosen_one_bold_and_refused_ones_say_why(bench):
    chunks = bench.propose()
    bench.judge(1, 2, 3, 1)
    bench.decide(0, TOO_FAST)
    bench.decide(2, "imagination: verdict 0.8 (limit 0); it may cost", "imagination")
    bench.decide(1)
    found = bench.shown(lambda f: len(lines(f)) == 4 and ("refused", 2) in f and lines(f)[1].scale.x == drawing.BOLD)
    drawn = lines(found)
    assert [drawn[k].scale.x for k in range(4)] == [drawing.THIN, drawing.BOLD, drawing.THIN, drawing.THIN]
    colours = [(m.color.r, m.color.g, m.color.b) for m in (drawn[k] for k in range(4))]
    wanted = [drawing.GREEN, drawing.YELLOW, drawing.RED, drawing.GREEN]
    assert np.allclose(colours, wanted, atol=1e-6)
    assert {number for ns, number in found if ns == "refused"} == {0, 2}
    assert found["refused", 0].text == f"0: {TOO_FAST}"[: drawing.LONGEST]
    assert "it may cost" in found["refused", 2].text
    end = drawn[0].points[-1]
    bench.node._ways.kinematics.place(chunks[0].positions[-1:])
    assert np.allclose([end.x, end.y, end.z], bench.node._ways.kinematics.tool[0])
    spot = found["refused", 0].pose.position
    assert np.linalg.norm([spot.x - end.x, spot.y - end.y, spot.z - end.z]) < 0.1


def test_no_ribbon_of_an_older_set_stays(bench):
    bench.propose(4)
    bench.shown(lambda f: len(lines(f)) == 4)
    bench.propose(2)
    bench.shown(lambda f: len(lines(f)) == 2)
    bench.graph.spin(0.15)
    gone = {(m.ns, m.id) for message in bench.all for m in message.markers if m.action == Marker.DELETE}
    assert {("candidates", 2), ("candidates", 3)} <= gone
    bench.graph.until(lambda: not lines(bench.shown()), 6.0)  # nobody proposes any more


def test_a_set_that_is_still_being_vetted_does_not_take_the_place_of_one_that_was_decided_on(bench):
    bench.propose(3)
    bench.decide(0)
    bench.shown(lambda f: len(lines(f)) == 3)
    bench.propose(2)
    bench.graph.spin(0.2)
    assert len(lines(bench.shown())) == 3
    bench.decide(1, TOO_FAST)
    bench.shown(lambda f: len(lines(f)) == 2)


def test_everything_goes_by_itself_when_the_node_is_gone_and_begins_with_a_clean_sheet(bench):
    bench.propose()
    found = bench.shown(lambda f: lines(f))
    assert all(0 < m.lifetime.sec + m.lifetime.nanosec / 1e9 <= 4.0 for m in found.values())
    sheet = drawing.Sheet("base", 3.0)
    first, second = (sheet.message([Marker(ns="x", id=k)], convert.to_time(0)).markers for k in (1, 2))
    assert first[0].action == Marker.DELETEALL
    assert [(m.action, m.id) for m in second] == [(Marker.DELETE, 1), (Marker.ADD, 2)]


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_coordinates_are_finite_whatever_is_proposed(bench, value):
    def spoil(rows):
        rows[5:, 2] = value

    bench.propose(3, spoil)
    bench.decide(0, "finite: row 5 panda_joint3 nan (limit 0)", "finite")
    bench.risk(FailureRisk(known=True, score=float("inf"), band=float("nan")))
    found = bench.shown(lambda f: len(lines(f)) == 3 and ("refused", 0) in f and ("risk", 0) in f)
    assert all(finite(marker) for marker in found.values())


def test_frames_are_links_of_the_robot(bench, spec):
    """robot_state_publisher publishes the transforms of all of them."""
    links = {link.get("name") for link in ET.parse(spec.urdf).getroot().iter("link")}
    bench.propose()
    found = bench.shown(lambda f: lines(f))
    bench.graph.until(lambda: bool(bench.graph.heard[qos.VOLUMES.name]))
    volumes = bench.graph.heard[qos.VOLUMES.name][-1].markers
    frames = {marker.header.frame_id for marker in (*found.values(), *volumes)}
    assert frames <= links and spec.base_frame in frames and len(frames) > len(spec.joints)


def test_volumes_are_what_the_gate_checks_against(bench, spec):
    with_box = replace(
        spec, obstacles=(Obstacle("post", np.array([0.4, 0.1, 0.0]), np.array([0.5, 0.2, 0.3])),), obstacle_margin=0.02
    )
    drawn = {(m.ns, m.id): m for m in drawing.volumes(with_box, bench.node._ways.kinematics)}
    corners = np.array([[p.x, p.y, p.z] for p in drawn["workspace", 0].points])
    assert np.allclose(corners.min(0), spec.workspace_lower) and np.allclose(corners.max(0), spec.workspace_upper)
    assert len(corners) == 24
    corners = np.array([[p.x, p.y, p.z] for p in drawn["workspace", 2].points])
    assert np.allclose(corners.min(0), spec.links_lower) and np.allclose(corners.max(0), spec.links_upper)
    post, around = drawn["obstacles", 0], drawn["obstacles", 1]
    assert post.pose.position == Point(x=0.45, y=0.15000000000000002, z=0.15)
    assert around.scale.x == pytest.approx(0.14) and drawn["obstacles", 2].text == "post"
    shapes = [m for (ns, _), m in drawn.items() if ns == "collision"]
    kinematics = bench.node._ways.kinematics
    assert len(shapes) == kinematics.model.ngeom and all(m.frame_locked and finite(m) for m in shapes)
    assert set(kinematics.links) <= {m.header.frame_id for m in shapes}


def test_gate_instruction_and_risk_are_words(bench):
    bench.instruct(String(data="open the drawer"))
    bench.gate(GateState(mode=GateState.ESTOP, reason="topic /estop", vetting_off=["failure_detector"]))
    bench.risk(FailureRisk(known=True, score=9.0, band=7.0, alarm=True, detectors=["clock"], votes=[True]))
    found = bench.shown(lambda f: ("risk", 0) in f and f["instruction", 0].text == "open the drawer")
    assert found["gate", 0].text == "ESTOP: topic /estop (not vetting: failure_detector)"
    assert found["risk", 0].text.startswith("ALARM") and found["risk", 1].scale.z > found["risk", 2].pose.position.z
    bench.risk(FailureRisk(known=False, reason="late"))
    found = bench.shown(lambda f: ("risk", 1) not in f)
    assert found["risk", 0].text == "risk unknown: late"
    found = bench.shown(lambda f: f["gate", 0].text == "gate silent")


def test_the_cameras_come_with_words(bench, spec):
    head, wrist = bench.graph.talk(qos.HEAD_IMAGE), bench.graph.talk(qos.WRIST_IMAGE)
    bench.propose()
    bench.decide(0, TOO_FAST)
    image, heard = np.full((96, 96, 3), 120, np.uint8), bench.graph.heard[qos.OVERLAY.name]

    def seen():
        stamp = time.time_ns()
        head(convert.to_image(image, stamp, "head_camera_optical_frame"))
        wrist(convert.to_image(image // 2, stamp, "wrist_camera_optical_frame"))
        bench.graph.spin(0.05)
        return bool(heard)

    bench.graph.until(seen)
    picture = convert.from_image(heard[-1])
    assert picture[100, 100].tolist() == [120] * 3 and picture[100, 400].tolist() == [60] * 3
    assert picture[288:].max() > 150 and heard[-1].header.frame_id == "head_camera_optical_frame"


def test_no_topic_has_more_messages_than_the_rate_allows(graph, spec):
    bench = Bench(graph, spec, rate=2.0)
    begin = time.monotonic()
    bench.graph.heard[qos.MARKERS.name].clear()
    while time.monotonic() < begin + 1.6:
        bench.propose()
        bench.graph.spin(0.02)
    assert 1 <= len(graph.heard[qos.MARKERS.name]) <= 2 * (time.monotonic() - begin) + 1
    assert len(graph.heard[qos.VOLUMES.name]) == 1


def test_what_is_off_has_no_publisher(graph, spec):
    bench = Bench(graph, spec, scene=False, volumes=False, cameras=False)
    names = [f"/{topic.name}" for topic in (qos.MARKERS, qos.VOLUMES, qos.OVERLAY)]
    assert [graph.probe.count_publishers(name) for name in names] == [0, 0, 0]
    bench.propose()
    graph.spin(0.3)
    assert bench.node.state == "active"


def test_a_message_that_makes_no_sense_does_not_end_it(bench):
    bench.verdict(ImaginationVerdict(chunk_set_id=1, candidates=[CandidateVerdict(verdict=99)]))
    bench.graph.spin(0.3)
    bench.propose()
    assert len(lines(bench.shown(lambda f: lines(f)))) == 4


def test_no_writer_waits_for_it(bench):
    """Of the topics on the way to the arm it is a best-effort reader: nothing is kept or repeated for it."""
    for topic in (qos.ACTION_CHUNKS, qos.VERDICT, qos.GATE_DECISION, qos.GATE_STATE, qos.RISK):
        (info,) = bench.graph.probe.get_subscriptions_info_by_topic(topic.name)
        assert info.node_name == "markers" and info.qos_profile.reliability.name == "BEST_EFFORT"
    published = bench.node.get_publisher_names_and_types_by_node("markers", "/")
    assert not [name for name, _ in published if name.split("/")[1] not in ("markers", "rosout", "diagnostics",
                "parameter_events")]  # fmt: skip


def test_a_process_activates_itself_in_its_namespace_and_ends(graph):
    """The lifecycle manager, which everything else waits for, does not know it."""
    process = spawn("vla_mbpo.nodes", "markers", "--ros-args", "-r", "__ns:=/cell")
    graph.start()
    topic = replace(qos.VOLUMES, name=f"/cell/{qos.VOLUMES.name}")
    graph.listen(topic)
    graph.until(lambda: bool(graph.heard[topic.name]), 30.0)
    code, output, _ = finish(process)
    assert code == 0 and "Traceback" not in output
