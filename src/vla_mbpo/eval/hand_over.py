"""The hand-over of two arms in lockstep: expert, one gate and the drivers on simulated time, as `eval/lockstep.py`."""

from dataclasses import dataclass, field

import numpy as np

from vla_mbpo.arm.together import Drivers
from vla_mbpo.core.cell import Cell
from vla_mbpo.core.chunk import ActionChunk, ActionType
from vla_mbpo.eval.lockstep import TICK
from vla_mbpo.gate.cell import CellGate, Together
from vla_mbpo.paths import cell_dir, robot_dir
from vla_mbpo.policy.runtime import REPLAN_ROWS
from vla_mbpo.sim.cell import CellRobot
from vla_mbpo.sim.hand_over import HandOver

LATENCY = 100_000_000  # ns from look to gate


@dataclass
class Outcome:
    """Result of one attempt.

    ``seconds`` until success or the end; ``approved``, ``refused``: decisions on a pair of chunks; ``reasons``: of
    refusals by check; ``nearest`` [m]: least measured distance between the arms, at most ``FAR``; ``touched``: the arms
    touched each other.
    """

    seed: int
    success: bool = False
    seconds: float = 0.0
    approved: int = 0
    refused: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    nearest: float = np.inf
    touched: bool = False


FAR = 0.2  # m; distances beyond it are not told apart


def load_cell(name: str = "hand_over") -> Cell:
    """A cell of config/cells, or a folder with a cell.yaml. Raises ConfigError."""
    return Cell.load(cell_dir(name), robot_dir)


class Attempt:
    """One attempt of the scripted expert. One thread."""

    def __init__(self, cell: Cell, gate: CellGate, seed: int, timeout: float = 30.0) -> None:
        """``gate``: of this cell, perhaps used before; ``timeout`` [s]."""
        self.cell, self.outcome = cell, Outcome(seed)
        self.robot = CellRobot(cell, seed)
        self._gate, self._drivers = gate, Drivers([arm.spec for arm in cell.arms])
        self._expert = HandOver(self.robot, REPLAN_ROWS)
        self._pending: tuple[int, list[ActionChunk]] | None = None
        self._end = timeout * 1e9

    def run(self) -> Outcome:
        """Look, decide and move until success or timeout."""
        robot, period = self.robot, REPLAN_ROWS * self.cell.arms[0].spec.row_period
        while robot.time < self._end and not robot.success:
            if robot.time % period == 0:
                self._pending = robot.time + LATENCY, self._look()
            if self._pending and robot.time >= self._pending[0]:
                self._decide(self._pending[1])
                self._pending = None
            self._tick()
        self.outcome.success, self.outcome.seconds = robot.success, robot.time / 1e9
        self.outcome.touched = bool(robot.touched)
        return self.outcome

    def _look(self) -> list[ActionChunk]:
        now, states = self.robot.time, self.robot.states()
        prefixes, openings = self._drivers.prefix(now)
        rows, gaps = self._expert.plan(prefixes, openings)
        return [
            ActionChunk(
                chunk_set_id=now + 1,
                candidate=0,
                observation_stamp=now,
                expiry=now + arm.spec.horizon * arm.spec.row_period,
                action_type=ActionType.JOINT_POSITION,
                joint_names=arm.spec.joints,
                reference=state.positions,
                row_period=arm.spec.row_period,
                positions=own,
                gripper=gap,
                committed_rows=len(prefix),
            )
            for arm, state, own, gap, prefix in zip(self.cell.arms, states, rows, gaps, prefixes, strict=True)
        ]

    def _decide(self, chunks: list[ActionChunk]) -> None:
        now = self.robot.time
        commanded, velocities = self._drivers.commanded(now), self._drivers.velocities(now)
        found = self._gate.vet(chunks, self.robot.states(), commanded, now, velocities=velocities)
        reasons = self._drivers.offer(found.rows, now) if isinstance(found, Together) else found
        self.outcome.approved += not reasons
        self.outcome.refused += bool(reasons)
        for reason in reasons:
            self.outcome.reasons[reason.check] = self.outcome.reasons.get(reason.check, 0) + 1

    def _tick(self) -> None:
        robot, drivers = self.robot, self._drivers
        states = robot.states()
        drivers.measure(states)
        robot.accept(drivers.tick(robot.time))
        for index, driver in enumerate(drivers.drivers):
            opening = driver.gripper(robot.time)
            if opening is not None:
                robot.command_gripper(index, opening)
        if robot.time % (5 * TICK) == 0:
            kinematics = self._gate.kinematics
            kinematics.place(np.concatenate([state.positions for state in states])[None])
            self.outcome.nearest = min(self.outcome.nearest, float(kinematics.self_clearance(FAR).min()))
        robot.advance(robot.time + TICK)
