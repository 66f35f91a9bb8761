"""One attempt in lockstep: the nodes' own objects on simulated time, so that results do not depend on the machine.

The simulation waits for each inference, then lets ``latency`` of simulated time pass before the chunk reaches the gate:
timing on the simulated clock is that of the running stack (docs/architecture.md, "Time").
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from vla_mbpo.arm.config import DriverConfig
from vla_mbpo.arm.driver import ArmDriver
from vla_mbpo.core.chunk import ActionChunk, ActionType, JointRows
from vla_mbpo.core.errors import require
from vla_mbpo.core.observation import Observation
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.state import Trajectory
from vla_mbpo.core.verdict import Verdict
from vla_mbpo.eval.corruption import Corruption
from vla_mbpo.failure.scores import Look
from vla_mbpo.gate.drive import Drive
from vla_mbpo.gate.gate import Gate
from vla_mbpo.imagination.vetting import Vetting
from vla_mbpo.policy.foreign.errors import PROPOSED, NoChunk
from vla_mbpo.policy.runtime import REPLAN_ROWS, Candidates
from vla_mbpo.policy.sessions import Policy
from vla_mbpo.sim.disturbances import Disturbance
from vla_mbpo.sim.experts import Expert
from vla_mbpo.sim.robot import SimRobot
from vla_mbpo.sim.world import TABLETOP, World

TICK = round(DriverConfig().tick * 1e9)  # driver period [ns]


class Watch(Protocol):
    """Looks on and may raise the alarm, once per attempt: the failure detector, or what it is compared with."""

    def reset(self) -> None:
        """A new attempt begins."""

    def alarm(self, look: Look) -> bool:
        """Take one inference of the policy; whether the alarm is on."""


@dataclass(frozen=True)
class Settings:
    """What an evaluation varies.

    ``latency`` [s] from observation stamp to gate, ``vetting`` [s] more with imagination on; ``timeout`` [s] of an
    attempt.
    """

    k: int = 8
    gate: bool = True
    replan_rows: int = REPLAN_ROWS
    latency: float = 0.1
    vetting: float = 0.05
    timeout: float = 15.0
    noise: float = 1.0
    spread: float = 1.0  # see PolicySession.infer
    imagination: str = "off"  # on, off, or random: a random order of the candidates in the world model's place
    wider: float = 1.5  # noise of the new samples that are asked for when the world model accepts none
    corrupt: float = 0.0  # share of chunk sets that are corrupted on purpose (eval/corruption.py)
    disturbance: str = ""  # a kind of sim/disturbances.py, or "any" of those that the task may meet; empty: none
    on_alarm: str = "human"  # human: an expert has the arm from then on; hold: the arm rests


@dataclass
class Outcome:
    """Result of one attempt.

    ``vetoes``: candidates the gate rejected; ``stops``: sets without an accepted one; ``resampled``: sets in place of
    which the world model asked for another; ``unsafe``: candidates it refused, ``unknown``: sets of which it knew
    nothing. None: not measured.
    ``cost_times`` [s]: of the cost events; ``corruptions``: see Corruption.log. ``alarm`` [s]: when the failure
    detector raised it; ``disturbance``: what was done to the attempt.
    """

    task: str
    seed: int
    success: bool = False
    seconds: float = 0.0
    cost_events: list[str] = field(default_factory=list)
    cost_times: list[float] = field(default_factory=list)
    vetoes: int = 0
    stops: int = 0
    resampled: int = 0
    unsafe: int = 0
    unknown: int = 0
    chunks: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    seams: int | None = None
    worst_seam: float | None = None
    rows_late: int = 0
    stage_ms: dict[str, list[float]] = field(default_factory=dict)
    corruptions: list[dict[str, Any]] = field(default_factory=list)
    alarm: float | None = None
    disturbance: str = ""


class Attempt:
    """One policy attempt at (task, seed). Owns a GL context: one thread."""

    def __init__(
        self,
        spec: RobotSpec,
        session: Policy,
        task: str,
        seed: int,
        settings: Settings,
        vetting: Vetting | None = None,
        watch: Watch | None = None,
        world: World = TABLETOP,
    ) -> None:
        """``vetting``: by imagination; needed for ``settings.imagination`` on. ``watch``: whose alarm counts."""
        self.spec, self.session, self.settings, self._vetting, self.world = spec, session, settings, vetting, world
        require(vetting is not None or settings.imagination != "on", "vetting", None, "needed for imagination on")
        if vetting is not None:
            vetting.reset()
        self._choices, self._asked = np.random.default_rng([seed, 3]), False
        self.robot = world.robot(spec, task, seed)
        self._camera = world.camera(self.robot, session.image_size)
        self._gate = Gate(spec, world.gate, Drive(spec, world.driver))
        self._driver = ArmDriver(spec, world.driver)
        self._driver.measure(self.robot.state())
        self._rng = np.random.default_rng([seed, 1])
        self._corruption = Corruption(spec, seed, settings.corrupt)
        self._pending: tuple[int, Observation, Candidates, int] | None = None
        self._stages: dict[str, list[float]] = defaultdict(list)
        self._watch = watch
        self._person: Any = None
        if watch is not None:
            watch.reset()
        self.disturbance = Disturbance.draw(settings.disturbance, self.robot, seed) if settings.disturbance else None
        self.outcome = Outcome(task, seed, disturbance=self.disturbance.kind if self.disturbance else "")

    @property
    def instruction(self) -> str:
        """What the policy is told."""
        return self.disturbance.instruction if self.disturbance else self.robot.scene.instruction

    def run(self) -> Outcome:
        """Attempt until success, hopelessness or timeout."""
        self.drive()
        return self._result()

    def drive(self) -> None:
        """Look, decide and move until the attempt is over."""
        period, due = self.settings.replan_rows * self.spec.row_period, 0
        try:
            while not self._over():
                if self._person is not None:
                    expert_row(self.robot, self._person)
                    self._after_motion()
                    continue
                self._decide()
                if self.robot.time >= due and self._pending is None and not self._resting:
                    due = (self.robot.time // period + 1) * period
                    self._look()
                    self._decide()
                self._tick()
        finally:
            self._camera.close()

    def _over(self) -> bool:
        robot = self.robot
        return robot.referee.success or robot.referee.failed() or robot.time >= self.settings.timeout * 1e9

    def _look(self, noise: float = 1.0) -> None:
        now, state = self.robot.time, self.robot.state()
        head, wrist = self._camera.render(self.robot.qpos, "head", "wrist")
        observation = Observation.fresh(
            now, (now, head), (now, wrist), (now, state.positions, state.velocities, state.gripper)
        )
        prefix, openings = self._driver.commitment(now).prefix(now, self.spec.commit_rows)
        begin = time.perf_counter()
        try:
            found = self.session.infer(
                observation, self.instruction, prefix, openings, self.settings.k, self._rng,
                noise * self.settings.noise, self.settings.spread,
            )  # fmt: skip
        except NoChunk as error:
            if error.reason not in PROPOSED:
                raise
            self.outcome.reasons[error.reason] = self.outcome.reasons.get(error.reason, 0) + 1
            self.outcome.stops, self._asked = self.outcome.stops + 1, False
            return
        self._stages["policy"].append(1e3 * (time.perf_counter() - begin))
        latency = self.settings.latency + self.settings.vetting * (self.settings.imagination == "on")
        latency *= not self.world.waits
        self._pending = now + round(latency * 1e9), observation, found, len(prefix)

    def _decide(self) -> None:
        """If a set has come, vet its candidates in order; the first that passes goes to the driver."""
        if self._pending is None or self.robot.time < self._pending[0]:
            return
        (_, observation, found, d), self._pending = self._pending, None
        self.outcome.chunks += 1
        if self._alarmed(observation, found):
            return
        chunks = [self._chunk(observation, found, candidate, d) for candidate in range(len(found.positions))]
        chunks = self._corruption.apply(chunks, self.robot.time)
        order, unknown = self._order(observation, chunks)
        begin, accepted = time.perf_counter(), False
        for candidate in order:
            rows = self._vet(chunks[candidate])
            if rows is not None:
                self._corruption.offered(self._driver.offer(rows, self.robot.time))
                self._asked, accepted = False, True
                break
        self._stages["gate"].append(1e3 * (time.perf_counter() - begin))
        if not accepted:
            self._none_accepted(unknown)

    @property
    def _resting(self) -> bool:
        return self.outcome.alarm is not None and self._person is None

    def _alarmed(self, observation: Observation, found: Candidates) -> bool:
        """Ask the watch; on an alarm nothing of this set is executed, and somebody else has the arm."""
        if self._watch is None:
            return False
        chunks = np.concatenate([found.positions, found.gripper[..., None]], 2)
        row = observation.stamp // self.spec.row_period
        if not self._watch.alarm(Look(found.features, chunks, observation.joints, row)):
            return False
        self.outcome.alarm = self.robot.time / 1e9
        if self.settings.on_alarm == "human":
            self._person = self.world.expert(self.robot)
        return True

    def _order(self, observation: Observation, chunks: Sequence[ActionChunk]) -> tuple[Sequence[int], bool]:
        """Candidates that may be executed, in the order in which the gate is to look at them; whether UNKNOWN."""
        if self.settings.imagination == "random":
            return self._choices.permutation(len(chunks)).tolist(), False
        if self._vetting is None or self.settings.imagination == "off":
            return range(len(chunks)), False
        begin = time.perf_counter()
        choice = self._vetting.judge(
            observation, self.instruction, np.stack([chunk.positions for chunk in chunks]),
            np.stack([chunk.gripper for chunk in chunks]), chunks[0].committed_rows, self.spec.row_period,
        ).choice  # fmt: skip
        self._stages["imagination"].append(1e3 * (time.perf_counter() - begin))
        self.outcome.unsafe += sum(verdict == Verdict.UNSAFE for verdict in choice.verdicts)
        unknown = not choice.order and Verdict.UNKNOWN in choice.verdicts
        self.outcome.unknown += unknown
        return choice.order, unknown

    def _none_accepted(self, unknown: bool) -> None:
        """With imagination, ask the policy once for other samples; otherwise, or then, the arm comes to a stop.

        As the gate does it: UNKNOWN holds, and is no reason to ask.
        """
        if self.settings.imagination == "on" and not self._asked and not unknown:
            self._asked = True
            self.outcome.resampled += 1
            self._look(self.settings.wider)
        else:
            self._asked = False
            self.outcome.stops += 1

    def _chunk(self, observation: Observation, found: Candidates, candidate: int, d: int) -> ActionChunk:
        return ActionChunk(
            chunk_set_id=observation.stamp + 1,
            candidate=candidate,
            observation_stamp=observation.stamp,
            expiry=observation.stamp + self.spec.horizon * self.spec.row_period,
            action_type=ActionType.JOINT_POSITION,
            joint_names=self.spec.joints,
            reference=observation.joints,
            row_period=self.spec.row_period,
            positions=found.positions[candidate],
            gripper=found.gripper[candidate],
            committed_rows=d,
        )

    def _vet(self, chunk: ActionChunk) -> JointRows | None:
        if not self.settings.gate:
            return JointRows(
                chunk.chunk_set_id, chunk.candidate, chunk.observation_stamp, chunk.expiry, chunk.joint_names,
                chunk.row_period, chunk.positions, chunk.gripper, chunk.committed_rows,
            )  # fmt: skip
        now, driver = self.robot.time, self._driver
        found = self._gate.vet(chunk, self.robot.state(), driver.commanded(now), now, velocity=driver.velocity(now))
        if isinstance(found, JointRows):
            return found
        self.outcome.vetoes += 1
        self._corruption.refused(found)
        for reason in found:
            self.outcome.reasons[reason.check] = self.outcome.reasons.get(reason.check, 0) + 1
        return None

    def _tick(self) -> None:
        robot = self.robot
        begin = time.perf_counter()
        self._driver.measure(robot.state())
        trajectory = self._driver.tick(robot.time)
        opening = self._driver.gripper(robot.time)
        self._stages["driver"].append(1e3 * (time.perf_counter() - begin))
        if trajectory is not None:
            why = robot.accept(trajectory)
            if why:
                raise RuntimeError(f"the controller rejected the driver's trajectory: {why}")
        if opening is not None:
            robot.command_gripper(opening)
        robot.advance(robot.time + TICK)
        self._after_motion()

    def _after_motion(self) -> None:
        """What goes wrong on the table goes wrong for a person, too; cost events are noted."""
        if self.disturbance is not None:
            self.disturbance.update()
        new = len(self.robot.referee.events) - len(self.outcome.cost_times)
        self.outcome.cost_times += [self.robot.time / 1e9] * new

    def _result(self) -> Outcome:
        status, counters = self.robot.status(), self._driver.commitment(self.robot.time)
        self.outcome.success, self.outcome.seconds = status.success, status.elapsed
        self.outcome.cost_events = list(status.cost_events)
        self.outcome.seams, self.outcome.worst_seam = counters.seams, counters.worst_seam_ratio
        self.outcome.rows_late = counters.rows_executed_late
        self.outcome.stage_ms, self.outcome.corruptions = dict(self._stages), self._corruption.log
        return self.outcome


def expert_row(robot: SimRobot, expert: Expert) -> None:
    """Let the expert command one row, and the robot execute it."""
    target, opening = expert.row()
    period = robot.spec.row_period
    robot.accept(Trajectory(0, robot.spec.joints, (period,), target[None], np.zeros((0, len(target)))))
    robot.command_gripper(opening)
    robot.advance(robot.time + period)


def attempt_expert(spec: RobotSpec, task: str, seed: int, timeout: float = 15.0, world: World = TABLETOP) -> Outcome:
    """The scripted expert's attempt at (task, seed): the ceiling for a policy trained on it."""
    robot = world.robot(spec, task, seed)
    expert = world.expert(robot)
    while robot.time < timeout * 1e9 and not robot.referee.success:
        expert_row(robot, expert)
    status = robot.status()
    return Outcome(task, seed, status.success, status.elapsed, list(status.cost_events))
