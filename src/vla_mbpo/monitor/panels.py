"""What the page's panels say, in words, from the stack's messages. No ROS here: messages are read by their fields."""

import re
from typing import Any

from vla_mbpo.gate.machine import Mode

Rows = list[list[str]]

SHAPES = {Mode.HOLD: "❚❚", Mode.AUTONOMOUS: "▶", Mode.TELEOP: "◆", Mode.ESTOP: "■"}
OUTCOMES = ("succeeded", "failed", "stopped", "timed out", "refused")  # ExecuteTask.Result
TRAINING = (
    "idle", "running", "paused", "ended: the candidate is live", "ended: the candidate is refused", "FAILED", "stopped",
)  # fmt: skip  # TrainingProgress
LEVELS = ("● ok", "▲ warning", "■ ERROR", "? stale")  # DiagnosticStatus
# Of a node's values those that are a rate, a duration or a count of something missed.
TELLING = re.compile(r"(_ms|_per_s|_hz|_mb)$|missed|late$|overruns|dropped")
COUNTED = ("frames", "chunk_sets", "verdicts", "sets")  # counters of which the rate is told
MOST = 64  # nodes
SILENT = 3.0  # s without a word of a node, after which the page says so


def gate(message: Any) -> dict[str, Any]:
    """Of a GateState. Without one nothing is known."""
    if message is None:
        return {"mode": "unknown", "rows": [["Mode", "? unknown: the gate has said nothing"]], "epoch": None}
    mode = Mode(message.mode)
    rows = [
        ["Mode", f"{SHAPES[mode]} {mode.name}"],
        ["Reason", message.reason],
        ["Not vetting", ", ".join(message.vetting_off) or "nobody: all inputs vet"],
        ["Person in command", "yes, or was since autonomy was engaged" if message.intervention else "no"],
    ]
    return {"mode": mode.name, "epoch": int(message.epoch), "rows": rows}


def task(instruction: str, attempt: Any, status: Any, said: str) -> dict[str, Any]:
    """Of /instruction, AttemptState and TaskStatus (either may be None), and what came of the page's last order."""
    rows = [["Instruction", instruction or "none"]]
    running = attempt is not None and attempt.running
    if attempt is None or not (attempt.number or running):
        rows.append(["Attempt", "none yet"])
    elif running:
        rows.append(["Attempt", f"number {attempt.number} is running: {attempt.instruction}"])
    else:
        costs = f"; cost events: {', '.join(attempt.cost_events)}" if attempt.cost_events else ""
        ended = f"{OUTCOMES[attempt.outcome]} ({attempt.message}){costs}"
        rows.append(["Attempt", f"number {attempt.number}, {attempt.instruction}: {ended}"])
    if status is not None:
        judged = "success" if status.success else "cannot succeed any more" if status.failed else "under way"
        rows.append(["Scene", f"{status.task}: {judged}, {status.progress:.0%}, {status.elapsed:.0f} s"])
        rows.append(["Cost events", ", ".join(status.cost_events) or "none"])
    rows.append(["Last order from this page", said or "none"])
    return {"running": running, "rows": rows}


def release(message: Any, policy: str) -> dict[str, Any]:
    """Of a ReleaseState (or None) and the version that the policy node says it uses."""
    live = message.version if message is not None else ""
    rows = [["Release", live or "none: started with bundles"], ["Policy", policy or "? not heard yet"]]
    if message is not None and live:
        rows += [["In use by", message.reason or "the start"], ["Before", message.previous or "none"]]
    return {"rows": rows}


def training(message: Any) -> dict[str, Any]:
    """Of a TrainingProgress that is not old, or None."""
    if message is None:
        return {"rows": [["Training", "no trainer"]]}
    rows = [["Training", TRAINING[message.state]]]
    if message.stage:
        rows.append(["Stage", f"{message.stage} ({message.number} of {message.of}), step {message.step}"])
    for name, value in zip(message.loss_names, message.losses, strict=False):
        rows.append([name, f"{value:.4g}"])
    if message.message:
        rows.append(["Message", message.message])
    return {"rows": rows}


def recording(values: dict[str, str] | None, level: int, message: str) -> dict[str, Any]:
    """Of what the recorder says of itself, None: there is no recorder."""
    if values is None:
        return {"rows": [["Recording", "no recorder is heard: start with --record FOLDER"]]}
    episode, wrong = values.get("episode"), f"{LEVELS[level]}: {message}" if level else LEVELS[0]
    rows = [["Recording", f"● recording {episode}" if episode else "○ not now"], ["State", wrong]]
    bad = f"{values.get('episodes', '0')}, of which bad: {values.get('bad', '0')}"
    return {"rows": [*rows, ["Last episode", values.get("last") or "none"], ["Episodes", bad]]}


def scene(message: Any) -> dict[str, Any]:
    """Of a SceneState, None: there is no simulated scene."""
    return {"task": "" if message is None else message.task, "seed": 0 if message is None else int(message.seed)}


def dream(frame: str, seconds: float | None) -> dict[str, Any]:
    """What the picture of a dream is of; ``frame`` as published, empty: there is none. ``seconds``: its age."""
    if not frame or seconds is None:
        return {"number": "", "words": "No imagined frames: no world model is dreaming."}
    number = re.sub(r"\D", "", frame)  # as text: a browser's numbers are too short for it
    words = f"Chosen candidate of chunk set {number}. Above imagined, below what was then seen; head left, wrist right."
    return {"number": number, "words": words if seconds < 10.0 else f"{words} More than 10 s old."}


class Nodes:
    """What the nodes say of themselves on /diagnostics. One thread."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[float, int, str, dict[str, str]]] = {}

    def add(self, message: Any, now: float) -> None:
        """A DiagnosticArray; ``now`` [s]."""
        for status in message.status[:MOST]:
            # A byte in Python; see diagnostic_msgs/DiagnosticStatus.
            level = status.level[0] if isinstance(status.level, bytes) else int(status.level)
            values = {value.key: value.value for value in status.values}
            before, _, _, old = self._said.get(status.name, (now, 0, "", {}))
            values |= _rates(old, values, now - before)
            self._said[status.name] = now, min(level, 3), status.message, values
        while len(self._said) > MOST:
            del self._said[next(iter(self._said))]

    def values(self, name: str, now: float) -> tuple[dict[str, str] | None, int, str]:
        """Values, level and message of a node; None: nothing was heard of it, or not for long."""
        heard, level, message, values = self._said.get(name, (now, 0, "", None))
        return (None, 0, "") if now - heard > SILENT else (values, level, message)

    def panel(self, now: float, commitment: Any = None) -> dict[str, Any]:
        """One row per node: name, state in words, and the values that are rates or latencies.

        ``commitment``: the arm driver's latest, for the counts of rows.
        """
        nodes, rows = [], []
        for name, (heard, level, message, values) in sorted(self._said.items()):
            silent = now - heard > SILENT
            state = f"{LEVELS[3]}: silent for {now - heard:.0f} s" if silent else f"{LEVELS[level]}: {message}"
            telling = ", ".join(f"{key} {value}" for key, value in values.items() if TELLING.search(key))
            nodes.append([name, state, telling or "–"])
        if commitment is not None:
            late = f"{commitment.rows_dropped_late} dropped late, {commitment.rows_executed_late} executed late"
            rows = [["Rows", f"{commitment.rows_executed} executed, {late}"]]
        return {"rows": rows, "nodes": nodes}


def _rates(old: dict[str, str], new: dict[str, str], seconds: float) -> dict[str, str]:
    """Per second, of what is counted in both."""
    counted = {key: (old[key], new[key]) for key in COUNTED if key in old and key in new}
    whole = {key: pair for key, pair in counted.items() if all(text.isdecimal() for text in pair)}
    if seconds <= 0.1:
        return {}
    return {f"{key}_per_s": f"{(int(b) - int(a)) / seconds:.1f}" for key, (a, b) in whole.items()}
