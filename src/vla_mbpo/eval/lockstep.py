"""One attempt in lockstep: the nodes' own objects on simulated time, so that results do not depend on the machine.

The simulation waits for each inference, then lets ``latency`` of simulated time pass before the chunk reaches the gate:
timing on the simulated clock is that of the running stack (docs/architecture.md, "Time").
"""

import time
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from vla_mbpo.arm.config import DriverConfig
from vla_mbpo.arm.driver import ArmDriver
from vla_mbpo.core.chunk import ActionChunk, ActionType, JointRows
from vla_mbpo.core.observation import Observation
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.state import Trajectory
from vla_mbpo.gate.config import GateConfig
from vla_mbpo.gate.gate import Gate
from vla_mbpo.policy.runtime import REPLAN_ROWS, Candidates, PolicySession
from vla_mbpo.sim.cameras import SceneCamera
from vla_mbpo.sim.experts import Expert
from vla_mbpo.sim.robot import SimRobot
from vla_mbpo.sim.scene import Scene

TICK = round(DriverConfig().tick * 1e9)  # driver period [ns]


@dataclass(frozen=True)
class Settings:
    """What an evaluation varies. ``latency`` [s] from observation stamp to gate; ``timeout`` [s] of an attempt."""

    k: int = 8
    gate: bool = True
    replan_rows: int = REPLAN_ROWS
    latency: float = 0.1
    timeout: float = 15.0
    noise: float = 1.0


@dataclass
class Outcome:
    """Result of one attempt.

    ``vetoes``: candidates the gate rejected; ``stops``: sets without an accepted one. None: not measured.
    """

    task: str
    seed: int
    success: bool = False
    seconds: float = 0.0
    cost_events: list[str] = field(default_factory=list)
    vetoes: int = 0
    stops: int = 0
    chunks: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    seams: int | None = None
    worst_seam: float | None = None
    rows_late: int = 0
    stage_ms: dict[str, list[float]] = field(default_factory=dict)


class Attempt:
    """One policy attempt at (task, seed). Owns a GL context: one thread."""

    def __init__(self, spec: RobotSpec, session: PolicySession, task: str, seed: int, settings: Settings) -> None:
        self.spec, self.session, self.settings = spec, session, settings
        self.robot = SimRobot(spec, Scene.build(spec, task, seed))
        self._camera = SceneCamera(self.robot.scene, session.image_size)
        self._gate = Gate(spec, GateConfig())
        self._driver = ArmDriver(spec)
        self._rng = np.random.default_rng([seed, 1])
        self._pending: tuple[int, Observation, Candidates, int] | None = None
        self._stages: dict[str, list[float]] = defaultdict(list)
        self.outcome = Outcome(task, seed)

    def run(self) -> Outcome:
        """Attempt until success, hopelessness or timeout."""
        settings, robot = self.settings, self.robot
        period = settings.replan_rows * self.spec.row_period
        try:
            while robot.time < settings.timeout * 1e9:
                if robot.time % period == 0:
                    self._look()
                if self._pending and robot.time >= self._pending[0]:
                    self._decide()
                self._tick()
                if robot.referee.success or robot.referee.failed():
                    break
        finally:
            self._camera.close()
        return self._result()

    def _look(self) -> None:
        now, state = self.robot.time, self.robot.state()
        head, wrist = self._camera.render(self.robot.qpos, "head", "wrist")
        observation = Observation.fresh(
            now, (now, head), (now, wrist), (now, state.positions, state.velocities, state.gripper)
        )
        prefix, openings = self._driver.commitment(now).prefix(now, self.spec.commit_rows)
        begin = time.perf_counter()
        found = self.session.infer(
            observation, self.robot.scene.instruction, prefix, openings, self.settings.k, self._rng, self.settings.noise
        )  # fmt: skip
        self._stages["policy"].append(1e3 * (time.perf_counter() - begin))
        self._pending = now + round(self.settings.latency * 1e9), observation, found, len(prefix)

    def _decide(self) -> None:
        """Vet the candidates in order; the first that passes goes to the driver."""
        assert self._pending is not None
        (_, observation, found, d), self._pending = self._pending, None
        self.outcome.chunks += 1
        begin = time.perf_counter()
        for candidate in range(len(found.positions)):
            rows = self._vet(self._chunk(observation, found, candidate, d))
            if rows is not None:
                self._driver.offer(rows, self.robot.time)
                break
        else:
            self.outcome.stops += 1
        self._stages["gate"].append(1e3 * (time.perf_counter() - begin))

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
        found = self._gate.vet(chunk, self.robot.state(), self._driver.commanded(self.robot.time), self.robot.time)
        if isinstance(found, JointRows):
            return found
        self.outcome.vetoes += 1
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

    def _result(self) -> Outcome:
        status, counters = self.robot.status(), self._driver.commitment(self.robot.time)
        self.outcome.success, self.outcome.seconds = status.success, status.elapsed
        self.outcome.cost_events = list(status.cost_events)
        self.outcome.seams, self.outcome.worst_seam = counters.seams, counters.worst_seam_ratio
        self.outcome.rows_late = counters.rows_executed_late
        self.outcome.stage_ms = dict(self._stages)
        return self.outcome


def attempt_expert(spec: RobotSpec, task: str, seed: int, timeout: float = 15.0) -> Outcome:
    """The scripted expert's attempt at (task, seed): the ceiling for a policy trained on it."""
    robot = SimRobot(spec, Scene.build(spec, task, seed))
    expert = Expert(robot)
    while robot.time < timeout * 1e9 and not robot.referee.success:
        target, opening = expert.row()
        robot.accept(Trajectory(0, spec.joints, (spec.row_period,), target[None], np.zeros((0, len(target)))))
        robot.command_gripper(opening)
        robot.advance(robot.time + spec.row_period)
    status = robot.status()
    return Outcome(task, seed, status.success, status.elapsed, list(status.cost_events))
