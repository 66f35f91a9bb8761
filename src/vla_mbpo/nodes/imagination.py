"""Node `imagination`: vets every chunk set in the world model before the gate looks at it."""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sensor_msgs.msg import Image
from vla_mbpo_msgs.msg import ActionChunkSet, GateState

from vla_mbpo.core.chunk import ActionType
from vla_mbpo.core.observation import FreshnessLimits, Observation, StaleInput
from vla_mbpo.engines.sessions import describe
from vla_mbpo.imagination.dreaming import Dreamer
from vla_mbpo.imagination.planner import RANGES, PlannerConfig
from vla_mbpo.imagination.session import WorldModelSession
from vla_mbpo.imagination.vetting import Judgement, Vetting, unknown
from vla_mbpo.nodes import convert, qos
from vla_mbpo.nodes.base import ManagedNode
from vla_mbpo.nodes.dreams import Dreams, Wish
from vla_mbpo.nodes.frames import DEAF, FRAMES, ObservationBuilder
from vla_mbpo.nodes.models import PLACEMENT, RELEASE, Models, placement, say
from vla_mbpo.nodes.parameters import Param
from vla_mbpo.nodes.process import run
from vla_mbpo.nodes.worker import Worker
from vla_mbpo.paths import bundle_dir
from vla_mbpo.releases.release import part

KEPT, MOST = 600_000_000, 200  # observations [ns], at most so many; what is older the gate would refuse anyway
_DEFAULTS = PlannerConfig()


@dataclass(frozen=True)
class Asked:
    """A chunk set to be judged, when it came (monotonic, s), and by whom it is judged."""

    message: ActionChunkSet
    arrived: float
    vetting: Vetting


class ImaginationNode(ManagedNode):
    """Keeps observations by stamp in the executor's thread, judges in one worker thread. One answer per chunk set."""

    PARAMETERS = (
        Param("bundle", "world_model", "world-model bundle: a name in models/ or a folder"),
        RELEASE,
        *PLACEMENT,
        Param("threads", 1, "threads of the fast mode's sessions", 1, 16),
        Param("deadline", 0.12, "longest time from a chunk set to its verdict, then it is UNKNOWN, s", 0.01, 1.0),
        Param("dream_period", 1.5, "shortest time from one slow dream to the next, s; 0: no dreams", 0.0, 60.0),
        Param("flow_steps", 4, "flow steps per view of a dream", 1, 32),
        Param("max_age", 0.4, "oldest observation, s", 0.05, 2.0),
        *FRAMES,
        *(Param(name, getattr(_DEFAULTS, name), f"PlannerConfig.{name}", *RANGES[name]) for name in RANGES),
    )

    def configure(self) -> None:
        """Load the bundle."""
        self._spec = self.spec()
        self._dreamer: Dreamer | None = None
        self._dreams: Dreams | None = None
        self.on_cleanup_do(self._end_dreamer)
        self._models = Models(self, self._load, self._use)
        self._out, self._pictures = self.publisher(qos.VERDICT), self.publisher(qos.DREAM)
        self._sets = self._late = self._unknown = 0
        self._latency: deque[float] = deque(maxlen=200)

    def activate(self) -> None:
        """Listen and start the worker."""
        age = round(self.parameters["max_age"] * 1e9)
        frames = {view: self.parameters[f"{view}_frame"] for view in ("head", "wrist")}
        limits = FreshnessLimits(max_age=age)
        self._inputs = ObservationBuilder(convert.JointStateReader(self._spec), limits, frames)
        self._observations: OrderedDict[int, Observation | str] = OrderedDict()
        self._refused, self._epoch = "", 0
        self._open: Asked | None = None
        self._lock = threading.Lock()
        self._worker: Worker[Asked] = Worker(self._judge, self._on_error)
        self._begin_dreams()
        self._models.listen()
        self.subscribe(qos.JOINT_STATES, self._inputs.add_joints)
        self.subscribe(qos.HEAD_IMAGE, lambda image: self._on_image("head", image))
        self.subscribe(qos.WRIST_IMAGE, lambda image: self._on_image("wrist", image))
        self.subscribe(qos.GATE_STATE, self._on_gate)
        self.subscribe(qos.ACTION_CHUNKS, self._on_chunks)
        self.every(0.01, self._watch)

    def deactivate(self) -> None:
        """Stop the worker."""
        self._worker.stop(1.0)

    def report(self) -> dict[str, object]:
        """Values for /diagnostics."""
        p50, p95 = np.percentile(self._latency, [50, 95]) if self._latency else (0.0, 0.0)
        return {
            "version": self._vetting.session.version,
            "providers": describe(self._vetting.session.graphs),
            "verdicts": self._sets,
            "late": self._late,
            "unknown": self._unknown,
            "latency_p50_ms": f"{p50:.1f}",
            "latency_p95_ms": f"{p95:.1f}",
            "dream_ms": f"{1e3 * self._dreams.seconds:.0f}" if self._dreams else "off",
            "dreams_late": self._dreams.late if self._dreams else 0,
        }

    def warning(self) -> str:
        """What is wrong at the moment."""
        dreams = self._dreams.fault if self._dreams else ""
        return self._models.warning or self._refused or dreams or placement(self).warning(self._vetting.session.graphs)

    def _load(self, release: str) -> tuple[Vetting, str]:
        """The world model of a release; without one that of the bundle."""
        config = PlannerConfig(**{name: self.parameters[name] for name in RANGES})
        folder = bundle_dir(self.parameters["bundle"]) if not release else part(Path(release), "world_model").path
        threads = self.parameters["threads"]
        session = WorldModelSession.load(folder, self._spec, threads, place=placement(self))
        session.warm_up()
        say(self, session.version, session.graphs)
        return Vetting(session, config), session.version

    def _use(self, vetting: Vetting) -> None:
        """Vet by it from now on, and dream by it: one dreaming process at a time."""
        self._vetting = vetting
        self._end_dreamer()
        if self.parameters["dream_period"]:
            bundle = vetting.session.bundle.path
            self._dreamer = Dreamer(bundle, self.parameters["robot"], self.parameters["flow_steps"])
        if self.state == "active":
            self._begin_dreams()

    def _begin_dreams(self) -> None:
        self._dreams = None
        if self._dreamer is not None:
            ahead = self._spec.horizon * self._spec.row_period
            self._dreams = Dreams(self._dreamer, self._pictures.publish, self.parameters["dream_period"], ahead)

    def _end_dreamer(self) -> None:
        dreamer, self._dreamer, self._dreams = self._dreamer, None, None
        if dreamer is not None:
            dreamer.close()

    def _on_gate(self, message: GateState) -> None:
        if message.epoch != self._epoch:
            self._epoch = message.epoch
            self._vetting.reset()

    def _on_image(self, view: str, image: Image) -> None:
        try:
            stamp = self._inputs.add_image(view, image)
            if stamp is None:
                return
            observation = self._observations[stamp] = self._inputs.observation(self.now())
            self._refused = ""
            if self._dreams is not None:
                self._dreams.see(observation)
        except (StaleInput, ValueError) as error:
            self._refused = str(error)
            self._observations[self._inputs.stamp] = self._refused
        kept = max(KEPT, round(self.parameters["max_age"] * 1e9))
        while abs(self._inputs.stamp - next(iter(self._observations))) > kept or len(self._observations) > MOST:
            self._observations.popitem(last=False)

    def _on_chunks(self, message: ActionChunkSet) -> None:
        asked = Asked(message, time.monotonic(), self._vetting)
        if self._inputs.deaf:
            self.leave(DEAF)
        if not self._worker.idle:
            self._say(asked, unknown(len(message.chunks), "still busy with the chunk set before"))
            return
        with self._lock:
            self._open = asked
        self._worker.submit(asked)

    def _watch(self) -> None:
        """Says UNKNOWN when the worker takes too long."""
        asked = self._open
        if asked is not None and time.monotonic() - asked.arrived > self.parameters["deadline"]:
            self._late += 1
            self._close(asked, unknown(len(asked.message.chunks), "the world model did not answer in time"))

    def _judge(self, asked: Asked) -> None:
        """In the worker's thread."""
        message = asked.message
        try:
            judgement = self._judgement(message, asked.vetting)
        except Exception as error:  # UnknownInstruction, malformed chunks, a session that fails
            judgement = unknown(len(message.chunks), f"{type(error).__name__}: {error}")
        self._close(asked, judgement)

    def _judgement(self, message: ActionChunkSet, vetting: Vetting) -> Judgement:
        session, k = vetting.session, len(message.chunks)
        if message.policy_version not in session.policies:
            return unknown(k, f"policy {message.policy_version!r}; calibrated for {', '.join(session.policies)}")
        stamp = convert.to_ns(message.observation_stamp)
        observation = self._observations.get(stamp)
        if not isinstance(observation, Observation):
            return unknown(k, observation or "the observation of these chunks has not arrived")
        if not k:
            return unknown(k, "no candidates")
        chunks = [convert.from_chunk(chunk) for chunk in message.chunks]
        if any(chunk.observation_stamp != stamp or chunk.joint_names != self._spec.joints for chunk in chunks):
            return unknown(k, "candidates of another observation or arm")
        kinds = {(chunk.action_type, chunk.row_period, chunk.committed_rows) for chunk in chunks}
        if len(kinds) > 1 or chunks[0].action_type != ActionType.JOINT_POSITION:
            return unknown(k, "candidates that are not all joint positions with the same rows committed")
        if chunks[0].row_period != self._spec.row_period:
            return unknown(k, f"rows of {chunks[0].row_period / 1e6:g} ms; expected {self._spec.row_period / 1e6:g}")
        positions = np.stack([chunk.positions for chunk in chunks])
        gripper = np.stack([chunk.gripper for chunk in chunks])
        committed, period = chunks[0].committed_rows, chunks[0].row_period
        found = vetting.judge(observation, message.instruction, positions, gripper, committed, period)
        dreams = self._dreams
        if found.choice.order and dreams is not None:
            best = found.choice.order[0]
            wish = Wish(message.chunk_set_id, observation, message.instruction, positions[best], gripper[best])
            dreams.offer(wish)
        return found

    def _close(self, asked: Asked, judgement: Judgement) -> None:
        """Answer unless it has been answered: the deadline and the worker may both want to."""
        with self._lock:
            if self._open is not asked:
                return
            self._open = None
        self._say(asked, judgement)

    def _say(self, asked: Asked, judgement: Judgement) -> None:
        seconds = time.monotonic() - asked.arrived
        message = convert.to_verdict(judgement, asked.message, asked.vetting.session.version, self.now(), seconds)
        message.dream_id = self._dreams.id if self._dreams is not None else 0
        self._out.publish(message)
        self._sets += 1
        self._unknown += not judgement.choice.order
        self._latency.append(1e3 * seconds)

    def _on_error(self, error: Exception) -> None:
        self._refused = f"{type(error).__name__}: {error}"
        self.get_logger().error(self._refused, throttle_duration_sec=1.0)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return run(lambda: ImaginationNode("imagination"), argv)
