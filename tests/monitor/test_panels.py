"""What the panels say; messages are played by plain objects with the same fields."""

import json
from types import SimpleNamespace as Message

import pytest

from vla_mbpo.monitor import panels
from vla_mbpo.monitor.feed import Feed
from vla_mbpo.monitor.risk import POINTS, RiskHistory
from vla_mbpo.monitor.stops import ECHO, Stops
from vla_mbpo.monitor.verdicts import MOST, Verdicts


def rows(panel):
    json.dumps(panel, allow_nan=False)
    return dict(panel["rows"])


# Gate, task, training, models, recording


@pytest.mark.parametrize(("mode", "word"), [(0, "HOLD"), (1, "▶ AUTONOMOUS"), (2, "TELEOP"), (3, "■ ESTOP")])
def test_the_gates_mode_is_a_shape_and_a_word(mode, word):
    state = Message(mode=mode, epoch=7, reason="why", vetting_off=["imagination"], intervention=True)
    panel = panels.gate(state)
    assert word in rows(panel)["Mode"] and rows(panel)["Reason"] == "why" and panel["epoch"] == 7
    assert rows(panel)["Not vetting"] == "imagination" and rows(panel)["Person in command"].startswith("yes")


def test_a_silent_gate_is_unknown_and_has_no_epoch_to_order_in():
    panel = panels.gate(None)
    assert panel["mode"] == "unknown" and panel["epoch"] is None and rows(panel)["Mode"].startswith("?")


def test_the_task_says_what_runs_and_how_the_last_one_ended():
    attempt = Message(running=True, number=2, instruction="open the drawer")
    assert rows(panels.task("open the drawer", attempt, None, ""))["Attempt"] == "number 2 is running: open the drawer"
    attempt = Message(running=False, number=2, instruction="x", outcome=3, message="no success", cost_events=["drop"])
    status = Message(task="drawer", success=False, failed=True, progress=0.4, elapsed=9.0, cost_events=["drop"])
    told = rows(panels.task("", attempt, status, "x: sent"))
    assert told["Attempt"] == "number 2, x: timed out (no success); cost events: drop"
    assert (
        told["Scene"] == "drawer: cannot succeed any more, 40%, 9 s" and told["Last order from this page"] == "x: sent"
    )
    assert rows(panels.task("", None, None, ""))["Attempt"] == "none yet"
    started = Message(running=False, number=0, instruction="", outcome=2, message="the task node was started")
    assert rows(panels.task("", started, None, ""))["Attempt"] == "none yet"


def test_training_is_told_with_its_losses_or_that_there_is_no_trainer():
    assert rows(panels.training(None)) == {"Training": "no trainer"}
    said = {"state": 1, "stage": "dream", "number": 3, "of": 6, "step": 40, "message": ""}
    told = rows(panels.training(Message(**said, loss_names=["kl"], losses=[0.01234])))
    assert told == {"Training": "running", "Stage": "dream (3 of 6), step 40", "kl": "0.01234"}


def test_models_without_and_with_a_release():
    assert rows(panels.release(None, "sft_full 0123")) == {
        "Release": "none: started with bundles",
        "Policy": "sft_full 0123",
    }
    told = rows(panels.release(Message(version="r2", reason="promoted", previous="/r1"), "p"))
    assert (told["Release"], told["In use by"], told["Before"]) == ("r2", "promoted", "/r1")


def test_recording_is_told_in_words():
    assert "no recorder" in rows(panels.recording(None, 0, ""))["Recording"]
    told = rows(panels.recording({"episode": "e1", "last": "e0", "episodes": "4", "bad": "1"}, 1, "disk full"))
    assert told["Recording"] == "● recording e1" and told["State"] == "▲ warning: disk full"
    assert told["Episodes"] == "4, of which bad: 1"


def test_a_dream_that_is_old_says_so():
    assert panels.dream("", None)["number"] == ""
    new, old = panels.dream("dream 12", 1.0), panels.dream("dream 12", 60.0)
    assert new["number"] == "12" and "old" not in new["words"] and "old" in old["words"]


def test_a_candidate_that_a_check_refuses_says_so_whatever_imagination_has_against_it():
    verdicts = Verdicts()
    risky = Message(candidate=0, verdict=2, success_probability=0.5, cost_probability=0.2, reasons=["it may cost"])
    for number, check in enumerate(("joint_velocity", "imagination")):
        reason = Message(check=check, text="refused")
        decision = {"candidate": 0, "accepted": False, "reasons": [reason], "imagination": risky}
        verdicts.decided(Message(chunk_set_id=number, **decision))
    assert [verdicts.of(number, 0)["why"] for number in (0, 1)] == ["refused", "it may cost"]


# Nodes


def said(name, level, message, **values):
    fields = [Message(key=key, value=value) for key, value in values.items()]
    return Message(status=[Message(name=name, level=level, message=message, values=fields)])


def test_nodes_are_told_with_state_latencies_and_rates():
    nodes = panels.Nodes()
    nodes.add(said("policy", b"\x00", "active", inference_p95_ms="31.0", chunk_sets="10", version="x"), 100.0)
    nodes.add(said("policy", b"\x00", "active", inference_p95_ms="32.0", chunk_sets="15", version="x"), 102.0)
    nodes.add(said("joy", b"\x01", "no gamepad"), 102.0)
    late = Message(rows_executed=9, rows_dropped_late=1, rows_executed_late=0)
    panel = nodes.panel(102.5, late)
    assert panel["nodes"] == [
        ["joy", "▲ warning: no gamepad", "–"],
        ["policy", "● ok: active", "inference_p95_ms 32.0, chunk_sets_per_s 2.5"],
    ]
    assert rows(panel)["Rows"] == "9 executed, 1 dropped late, 0 executed late"
    assert nodes.panel(110.0)["nodes"][1][1] == "? stale: silent for 8 s"
    assert nodes.values("policy", 104.0)[0]["version"] == "x" and nodes.values("nobody", 104.0) == (None, 0, "")
    assert nodes.values("policy", 110.0)[0] is None  # incident: a recorder that had died was recording for ever


# Verdicts


def imagined(set_id, *verdicts, reasons=()):
    kinds = [
        Message(candidate=k, verdict=v, success_probability=0.5, cost_probability=float("nan"), reasons=list(reasons))
        for k, v in enumerate(verdicts)
    ]
    return Message(chunk_set_id=set_id, candidates=kinds)


def decided(set_id, candidate, accepted, *texts):
    reasons = [Message(text=text) for text in texts]
    unknown = Message(verdict=0)
    return Message(chunk_set_id=set_id, candidate=candidate, accepted=accepted, reasons=reasons, imagination=unknown)


def test_each_candidate_has_verdict_decision_and_reason():
    verdicts = Verdicts()
    verdicts.imagined(imagined(5, 1, 2, 3, 0, reasons=["costly"]))
    verdicts.decided(decided(5, 2, False, "imagination: verdict", "more"))
    verdicts.decided(decided(5, 0, True))
    panel = verdicts.panel()
    first, second, third, last = panel["candidates"]
    assert (first["shape"], first["verdict"], first["decision"], first["why"]) == (
        "●",
        "SAFE",
        "✓ accepted",
        "passed all checks",
    )
    assert (second["shape"], second["decision"], second["why"]) == ("▲", "– not looked at", "costly")
    assert (third["verdict"], third["decision"]) == ("UNSAFE", "✗ rejected")
    assert third["why"] == "imagination: verdict; more" and third["cost"] == "–"
    assert last["verdict"] == "UNKNOWN"
    told = rows(panel)
    assert (told["Accepted"], told["Rejected"]) == ("1 chunks", "1 candidates")
    assert told["Last rejection"] == "candidate 2: imagination: verdict; more"


def test_why_a_candidate_was_refused_is_the_gates_to_say_whoever_is_heard_first():
    """Incident: what imagination had against a candidate stood as the gate's reason when its verdict came later."""
    verdicts = Verdicts()
    verdicts.decided(decided(5, 0, False, "joint_velocity: too fast"))
    verdicts.imagined(imagined(5, 2, reasons=["it may cost"]))
    (row,) = verdicts.panel()["candidates"]
    assert (row["verdict"], row["why"]) == ("RISKY", "joint_velocity: too fast")


def test_only_the_newest_set_is_shown_and_memory_is_bounded():
    verdicts = Verdicts()
    for set_id in range(1, 200):
        verdicts.imagined(imagined(set_id, 1))
        for k in range(MOST + 20):
            verdicts.decided(decided(set_id, k, False, "no"))
    panel = verdicts.panel()
    assert rows(panel)["Chunk set"] == "199" and len(panel["candidates"]) == MOST and len(verdicts._sets) < 10


# Risk


def risk(at, score, band, alarm=False, known=True):
    stamp = Message(sec=int(at), nanosec=int(at % 1 * 1e9))
    names = {"detectors": ["mlp", "clock"], "votes": [alarm, False]}
    return Message(
        header=Message(stamp=stamp), known=known, score=score, band=band, alarm=alarm, reason="late", **names
    )


def test_risk_is_points_and_words():
    history = RiskHistory()
    assert history.panel()["points"] == [] and "No risk yet" in history.panel()["words"]
    history.add(risk(10.0, 1.0, 7.0))
    history.add(risk(10.5, 0.0, 0.0, known=False))
    assert history.panel()["words"] == "? UNKNOWN: late"
    history.add(risk(11.0, 8.0, 7.0, alarm=True))
    panel = history.panel()
    assert panel["points"] == [[-1.0, 1.0, 7.0, False], [-0.5, None, None, False], [0.0, 8.0, 7.0, True]]
    assert panel["words"] == "■ ALARM: risk 8.00, band 7.00; voting for an alarm: mlp"


def test_a_risk_that_is_long_ago_is_not_said_as_if_it_were_now():
    """Incident: no alarm, said the page of a detector that had been stopped."""
    history = RiskHistory()
    history.add(risk(10.0, 1.0, 7.0))
    assert history.panel(1.0)["words"].startswith("● no alarm")
    assert history.panel(60.0)["words"].startswith("○ silent for more than 5 s; then: ● no alarm")


def test_a_risk_that_is_no_number_is_unknown_and_old_ones_go():
    history = RiskHistory()
    for i in range(3 * POINTS):
        history.add(risk(float(i), float("inf"), 7.0))
    assert history.panel()["words"].startswith("? UNKNOWN") and len(history.panel()["points"]) == POINTS
    json.dumps(history.panel(), allow_nan=False)


# Whose stop it is


def test_the_page_lets_go_of_its_own_stop_only():
    stops = Stops()
    assert not stops.mine
    stops.send()
    stops.hear(True)
    assert stops.mine
    stops.hear(True)  # somebody else presses, too
    assert not stops.mine
    stops.hear(False)
    stops.send()
    assert stops.mine  # even before it is heard
    stops.hear(True)
    stops.hear(False)
    assert not stops.mine


def test_a_stop_right_after_letting_go_is_the_pages_own():
    stops = Stops()
    stops.send()
    stops.hear(True)
    stops.send()  # before the page hears that it let go
    stops.hear(False)
    stops.hear(True)
    assert stops.mine


def test_a_stop_that_was_never_heard_does_not_hide_another_button():
    stops = Stops()
    stops.send()
    for _ in range(ECHO + 1):
        stops.tick()
    stops.hear(True)
    assert not stops.mine


def test_the_pages_own_stop_is_its_own_however_late_it_is_heard():
    """Incident (review): a busy page heard itself after 2 s, took it for another button, and could never reset."""
    stops = Stops()
    stops.send()
    stops.tick()  # the first thing after a stall of any length
    stops.hear(True)
    assert stops.mine


# The latest of everything


def test_a_viewer_gets_what_is_newer_than_what_it_has_seen():
    feed = Feed()
    feed.put("a", b"1")
    feed.put("b", b"1")
    feed.put("a", b"2")
    seen, news = feed.after(0, 0.0)
    assert news == [("b", b"1"), ("a", b"2")]
    feed.put("a", b"2")  # the same is no news
    assert feed.after(seen, 0.0) == (seen, [])
    feed.put("b", b"3")
    assert feed.after(seen, 0.0)[1] == [("b", b"3")] and feed.get("a") == b"2" and feed.get("c") == b""
