"""Node `failure_detector`: whether the attempt under way is going wrong, with a false-alarm rate that is chosen."""

import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from std_msgs.msg import String
from vla_mbpo_msgs.msg import ActionChunkSet, GateState, ImaginationVerdict

from vla_mbpo.engines.sessions import describe
from vla_mbpo.failure.detector import FailureDetector, Risk
from vla_mbpo.failure.scores import Look
from vla_mbpo.nodes import convert, qos
from vla_mbpo.nodes.base import ManagedNode
from vla_mbpo.nodes.models import PLACEMENT, RELEASE, Models, placement, say
from vla_mbpo.nodes.parameters import Param
from vla_mbpo.nodes.process import run
from vla_mbpo.releases.release import BANDS, part


class FailureDetectorNode(ManagedNode):
    """One risk for each chunk set, in the executor's thread: it takes a millisecond.

    An attempt begins with an instruction, and anew whenever somebody engages autonomy. The alarm stays on until then.
    """

    PARAMETERS = (
        Param("bundle", "detector_full", "failure-detector bundle: a name in models/ or a folder"),
        RELEASE,
        *PLACEMENT,
        Param("calibration", "", "file of conformal bands; empty: the bundle's in calibration/"),
        Param("alpha", 0.0, "share of attempts that go well with an alarm; 0: as the bands were made for", 0.0, 0.5),
    )

    def configure(self) -> None:
        """Load bundle and bands; ConfigError if they do not belong together or are too few for alpha."""
        self._spec = self.spec()
        self._models = Models(self, self._load, self._use)
        self._out = self.publisher(qos.RISK)
        self._sets = self._unknown = self._alarms = 0
        self._latency: deque[float] = deque(maxlen=200)

    def activate(self) -> None:
        """Listen."""
        self._instruction, self._epoch = "", 0
        self._begin()
        self._models.listen()
        self.subscribe(qos.INSTRUCTION, self._on_instruction)
        self.subscribe(qos.GATE_STATE, self._on_gate)
        self.subscribe(qos.VERDICT, self._on_verdict)
        self.subscribe(qos.ACTION_CHUNKS, self._on_chunks)

    def report(self) -> dict[str, object]:
        """Values for /diagnostics."""
        p50, p99 = np.percentile(self._latency, [50, 99]) if self._latency else (0.0, 0.0)
        return {
            "calibration": self._calibration.id,
            "alpha": self._alpha,
            "members": ", ".join(self._detector.members),
            "providers": describe(self._detector.graphs),
            "sets": self._sets,
            "unknown": self._unknown,
            "alarms": self._alarms,
            "score": f"{self._risk.score:.2f}",
            "band": f"{self._risk.band:.2f}",
            "latency_p50_ms": f"{p50:.2f}",
            "latency_p99_ms": f"{p99:.2f}",
        }

    def warning(self) -> str:
        """What is wrong at the moment."""
        now = self._alarm or self._models.warning or self._risk.reason or self._beyond()
        return now or placement(self).warning(self._detector.graphs)

    def _load(self, release: str) -> tuple[FailureDetector, str]:
        """Detector and bands of a release; without one those of bundle and calibration file."""
        bundle, alpha, file = (self.parameters[name] for name in ("bundle", "alpha", "calibration"))
        if release:
            bundle, file = str(part(Path(release), "failure_detector").path), str(Path(release) / BANDS)
        found = FailureDetector.load(bundle, alpha, calibration=file, place=placement(self))
        say(self, found.calibration.id, found.graphs)
        return found, found.calibration.id

    def _use(self, detector: FailureDetector) -> None:
        self._detector, self._calibration = detector, detector.calibration
        self._alpha = self.parameters["alpha"] or self._calibration.alpha
        if self.state == "active":
            self._begin()

    def _beyond(self) -> str:
        lasted, known = self._newest - self._began, self._detector.calibrated_rows * self._spec.row_period
        return f"longer than any attempt of the calibration ({known / 1e9:g} s)" if lasted > known else ""

    def _begin(self) -> None:
        self._detector.reset()
        self._failure, self._risk, self._alarm = float("nan"), Risk(False), ""
        self._began = self._newest = 0  # stamps of the attempt's first and last look [ns]

    def _on_instruction(self, message: String) -> None:
        if message.data != self._instruction:
            self._instruction = message.data
            self._begin()

    def _on_gate(self, message: GateState) -> None:
        if message.epoch != self._epoch and message.mode == GateState.AUTONOMOUS:
            self._begin()
        self._epoch = message.epoch

    def _on_verdict(self, message: ImaginationVerdict) -> None:
        known = [one.success_probability for one in message.candidates]
        self._failure = 1.0 - float(np.mean(known)) if known else float("nan")

    def _on_chunks(self, message: ActionChunkSet) -> None:
        began, before = time.monotonic(), self._risk.alarm
        try:
            self._risk = self._judge(message)
        except Exception as error:  # malformed chunks: nothing is known, and the node goes on
            self._risk = Risk(False, reason=f"{type(error).__name__}: {error}")
        answer = convert.to_risk(self._risk, message, self._detector.members, self._calibration.id, self.now())
        self._alarm = f"alarm: {convert.alarm_text(answer)}" if self._risk.alarm else ""
        if self._risk.alarm and not before:
            self._alarms += 1
            self.get_logger().warning(self._alarm)
        self._out.publish(answer)
        self._sets, self._unknown = self._sets + 1, self._unknown + (not self._risk.known)
        self._latency.append(1e3 * (time.monotonic() - began))

    def _judge(self, message: ActionChunkSet) -> Risk:
        if message.policy_version != self._calibration.policy:
            return Risk(False, reason=f"policy {message.policy_version!r}; bands are of {self._calibration.policy!r}")
        if message.instruction != self._instruction:
            return Risk(False, reason=f"chunks for {message.instruction!r}; the attempt is {self._instruction!r}")
        stamp, period = convert.to_ns(message.observation_stamp), self._spec.row_period
        if stamp < self._newest:
            return Risk(False, reason="an observation older than the one before")
        self._newest = stamp
        chunks = [convert.from_chunk(chunk) for chunk in message.chunks]
        if not chunks or any(chunk.joint_names != self._spec.joints for chunk in chunks):
            return Risk(False, reason="no candidates of this arm")
        rows = np.stack([np.concatenate([chunk.positions, chunk.gripper[:, None]], 1) for chunk in chunks])
        features = np.array(message.features, np.float32)
        self._began = self._began or stamp
        look = Look(features, rows, chunks[0].reference, (stamp - self._began) / period, self._failure)
        return self._detector.add(look)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return run(lambda: FailureDetectorNode("failure_detector"), argv)
