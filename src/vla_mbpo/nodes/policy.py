"""Node `policy`: looks at the scene every few rows and proposes K action chunks."""

import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import String, UInt64
from vla_mbpo_msgs.msg import ActionChunkSet, Commitment, GateState

from vla_mbpo.core.chunk import ActionChunk, ActionType
from vla_mbpo.core.observation import FreshnessLimits, Observation, StaleInput
from vla_mbpo.nodes import convert, qos
from vla_mbpo.nodes.base import ManagedNode
from vla_mbpo.nodes.frames import DEAF, FRAMES, ObservationBuilder
from vla_mbpo.nodes.models import PLACEMENT, RELEASE, Models, placement
from vla_mbpo.nodes.parameters import Param
from vla_mbpo.nodes.prefix import committed_prefix
from vla_mbpo.nodes.process import run
from vla_mbpo.nodes.worker import Worker
from vla_mbpo.paths import bundle_dir
from vla_mbpo.policy.foreign.errors import NoChunk
from vla_mbpo.policy.runtime import REPLAN_ROWS, Candidates
from vla_mbpo.policy.sessions import Policy, load_policy, open_policy
from vla_mbpo.releases.release import part


@dataclass(frozen=True)
class Job:
    """One inference."""

    session: Policy
    observation: Observation
    instruction: str
    prefix: NDArray[np.float64]
    prefix_gripper: NDArray[np.float64]
    round: int
    noise: float


class PolicyNode(ManagedNode):
    """Builds observations in the executor's thread, infers in one worker thread, publishes from there."""

    PARAMETERS = (
        Param("bundle", "sft_full", "model bundle: a name in models/ or a folder"),
        RELEASE,
        *PLACEMENT,
        Param("k", 8, "candidate chunks per inference", 1, 64),
        Param("threads", 1, "threads of the inference session", 1, 16),
        Param("steps", 5, "Euler steps of the flow", 1, 32),
        Param("replan_rows", REPLAN_ROWS, "rows between inferences", 1, 64),
        Param("wider", 1.5, "noise of new samples that are asked for after all were refused", 1.0, 4.0),
        Param("spread", 1.0, "noise of the last candidate in multiples of the first one's", 1.0, 4.0),
        Param("seed", 0, "seed of the candidates' noise, with each observation's stamp", 0, 2**31),
        Param("max_age", 0.25, "oldest input, s", 0.05, 2.0),
        Param("max_skew", 0.06, "largest difference of stamps in one observation, images half of it, s", 0.0, 0.2),
        *FRAMES,
        Param("max_frozen", 0.5, "longest time with identical pixels, s", 0.1, 5.0),
    )

    def configure(self) -> None:
        """Load the bundle."""
        self._spec = self.spec()
        self._models = Models(self, self._load, self._use)
        self._out = self.publisher(qos.ACTION_CHUNKS)
        age, skew, frozen = (round(self.parameters[key] * 1e9) for key in ("max_age", "max_skew", "max_frozen"))
        self._limits = FreshnessLimits(max_age=age, max_skew=skew, max_frozen=frozen)
        self._sets = self._missed = 0
        self._latency: deque[float] = deque(maxlen=100)
        self._none: Counter[str] = Counter()  # looks that gave no chunk, by reason
        self._refused = self._blind = self._failed = ""

    def activate(self) -> None:
        """Listen and start the worker."""
        frames = {view: self.parameters[f"{view}_frame"] for view in ("head", "wrist")}
        self._inputs = ObservationBuilder(convert.JointStateReader(self._spec), self._limits, frames)
        self._commitments: deque[Commitment] = deque(maxlen=64)
        self._instruction, self._mode, self._epoch = "", GateState.HOLD, 0
        self._round, self._started, self._last, self._wide = 0, False, 0, False
        self._worker: Worker[Job] = Worker(self._infer, self._on_error)
        self._models.listen()
        self.subscribe(qos.INSTRUCTION, self._on_instruction)
        self.subscribe(qos.GATE_STATE, self._on_gate)
        self.subscribe(qos.COMMITMENT, lambda message: self._commitments.append(message))
        self.subscribe(qos.JOINT_STATES, self._inputs.add_joints)
        self.subscribe(qos.RESAMPLE, self._on_resample)
        self.subscribe(qos.HEAD_IMAGE, lambda image: self._on_image("head", image))
        self.subscribe(qos.WRIST_IMAGE, lambda image: self._on_image("wrist", image))

    def deactivate(self) -> None:
        """Stop the worker; a running inference is dropped."""
        self._round += 1
        self._worker.stop(1.0)

    def report(self) -> dict[str, object]:
        """Values for /diagnostics."""
        p95 = float(np.percentile(self._latency, 95)) if self._latency else 0.0
        return {
            "version": self._session.version,
            "frame_pairs": self._inputs.pairs,
            "chunk_sets": self._sets,
            "missed_cycles": self._missed,
            "inference_p95_ms": f"{p95:.1f}",
            "no_chunk": ", ".join(f"{reason} {count}" for reason, count in list(self._none.items())) or "never",
            **self._session.facts(),
        }

    def warning(self) -> str:
        """What is wrong at the moment."""
        return self._models.warning or self._refused or self._blind or self._failed or self._session.trouble

    def _load(self, release: str) -> tuple[Policy, str]:
        """The session for a release, tried out; without one that of the bundle."""
        options = {key: self.parameters[key] for key in ("threads", "steps")} | {"place": placement(self)}
        if not release:
            session = load_policy(bundle_dir(self.parameters["bundle"]), self._spec, **options)
        else:
            session = open_policy(part(Path(release), "policy"), self._spec, **options)
            session.try_out(len(self._spec.joints), self._spec.horizon)
        self.get_logger().info(f"{session.version} runs on {session.facts().get('providers', 'its own terms')}")
        return session, session.version

    def _use(self, session: Policy) -> None:
        self._session = session
        if self.state == "active":
            self._restart()

    def _on_instruction(self, message: String) -> None:
        self._refused = ""  # also at the end of an attempt whose instruction was refused: to this node it is no news
        if message.data == self._instruction:
            return
        self._restart()
        self._instruction = message.data
        if message.data:
            try:
                self._session.check_instruction(message.data)
            except ValueError as error:
                self._instruction, self._refused = "", str(error)
                self.get_logger().error(f"instruction refused: {error}")

    def _on_gate(self, message: GateState) -> None:
        if (message.mode, message.epoch) != (self._mode, self._epoch):
            self._mode, self._epoch = message.mode, message.epoch
            self._restart()

    def _restart(self) -> None:
        """What was committed no longer counts: motion starts again from the measured pose."""
        self._round += 1
        self._started, self._last, self._wide, self._failed = False, 0, False, ""

    def _on_resample(self, message: UInt64) -> None:
        """Nothing of the last set was accepted: look again at the next pictures, with more variety."""
        if message.data == self._last:
            self._wide, self._last = True, 0

    def _on_image(self, view: str, image: Image) -> None:
        try:
            stamp = self._inputs.add_image(view, image)
            if stamp is not None:
                self._blind = ""
            wanted = self._instruction and self._mode == GateState.AUTONOMOUS and self._models.agreed
            if stamp is None or not wanted or stamp < self._due():
                return
            if not self._worker.idle:
                self._missed += 1
                return
            observation = self._inputs.observation(self.now())
            prefix = self._prefix(observation.stamp)
        except (StaleInput, ValueError) as error:
            self._blind = str(error)
            self.get_logger().warning(f"input refused: {error}", throttle_duration_sec=1.0)
            if self._mode == GateState.AUTONOMOUS and self._inputs.deaf:
                self.leave(DEAF)
            return
        self._started, self._last = True, observation.stamp
        noise = self.parameters["wider"] if self._wide else 1.0
        self._wide = False
        self._worker.submit(Job(self._session, observation, self._instruction, *prefix, self._round, noise))

    def _due(self) -> int:
        """Stamp from which on an observation is to be looked at [ns]; half a row early, as stamps jitter."""
        period = self._spec.row_period
        return self._last + self.parameters["replan_rows"] * period - period // 2

    def _prefix(self, stamp: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rows that are already committed; none after a restart."""
        if not self._started:
            return np.zeros((0, len(self._spec.joints))), np.zeros(0)
        return committed_prefix(self._commitments, stamp, self._spec.commit_rows, len(self._spec.joints))

    def _infer(self, job: Job) -> None:
        begin, k, spread = time.monotonic(), self.parameters["k"], self.parameters["spread"]
        # The noise of a look, whatever was looked at before: a replay of a recording draws the same.
        rng = np.random.default_rng((self.parameters["seed"], job.observation.stamp))
        found = job.session.infer(
            job.observation, job.instruction, job.prefix, job.prefix_gripper, k, rng, job.noise, spread
        )  # fmt: skip
        seconds = time.monotonic() - begin
        if job.round == self._round:
            self._out.publish(self._message(job, found, seconds))
            self._sets, self._failed = self._sets + 1, ""
            self._latency.append(1e3 * seconds)

    def _on_error(self, error: Exception) -> None:
        """Nothing is proposed: the arm drives what is committed, and holds."""
        if isinstance(error, NoChunk):
            reason, self._failed = error.reason, str(error)
        else:
            reason, self._failed = "failed", f"inference failed: {type(error).__name__}: {error}"
        self._none[reason] += 1
        self.get_logger().error(self._failed, throttle_duration_sec=1.0)

    def _message(self, job: Job, found: Candidates, seconds: float) -> ActionChunkSet:
        stamp, spec = job.observation.stamp, self._spec
        chunks = [
            ActionChunk(
                chunk_set_id=stamp,
                candidate=i,
                observation_stamp=stamp,
                expiry=stamp + len(positions) * spec.row_period,
                action_type=ActionType.JOINT_POSITION,
                joint_names=spec.joints,
                reference=job.observation.joints,
                row_period=spec.row_period,
                positions=positions,
                gripper=gripper,
                committed_rows=len(job.prefix),
            )
            for i, (positions, gripper) in enumerate(zip(found.positions, found.gripper, strict=True))
        ]
        message = convert.to_chunk_set(chunks, self.now(), spec.base_frame)
        message.policy_version, message.instruction = job.session.version, job.instruction
        message.features = convert.to_floats(found.features)
        message.inference_time = convert.to_duration(round(seconds * 1e9))
        return message


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return run(lambda: PolicyNode("policy"), argv)
