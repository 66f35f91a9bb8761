"""Scripted expert of the hand-over: the left arm lifts a bar, the right one takes it in the air and lays it down."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.cell import Arm
from vla_mbpo.gate.ik import ToolIK
from vla_mbpo.sim.cell import CellRobot

FloatArray = NDArray[np.float64]
SPEED, ACCELERATION = 0.25, 0.8  # tool, m/s and m/s^2
OPEN, CLOSED, GRIPPER_ROW = 0.08, 0.006, 0.008  # openings, m; m per row
GRIP = 0.08  # m from the bar's middle to where each hand holds it
HOVER, LIFT, BELOW = 0.16, 0.20, 0.003  # tool heights, m; how far below the bar's middle the tool grips
MEET = np.array([0.65, 0.0, 0.30])  # where the bar is handed over, cell's frame, m
ARRIVED, GRASP_ROWS, RELEASE_ROWS = 0.004, 12, 8  # m; rows that fingers get

LEFT, RIGHT = np.array([-GRIP, 0.0, 0.0]), np.array([GRIP, 0.0, 0.0])
Place = Callable[["HandOver"], FloatArray]


@dataclass(frozen=True)
class Step:
    """What both arms do until both have arrived and ``rows`` have passed: tool positions and openings."""

    left: Place
    right: Place
    left_opening: float = OPEN
    right_opening: float = OPEN
    rows: int = 0


@dataclass
class _State:
    """Where a plan is after a row, so that the next plan can go on from there."""

    hands: list[tuple[FloatArray, FloatArray, float, FloatArray]]
    step: int
    waited: int
    held: list[FloatArray]


class _Hand:
    """Commanded tool of one arm, in its base frame, under limits of speed and acceleration."""

    def __init__(self, arm: Arm) -> None:
        self.arm, spec = arm, arm.spec
        self._ik, self._dt = ToolIK(spec, spec.home), spec.row_period / 1e9
        self.place(spec.home, spec.gripper_range[1])

    def place(self, joints: FloatArray, opening: float) -> None:
        """Go on from rest at ``joints`` [rad]."""
        self._ik.reset(joints)
        self.joints, self.command, self.opening = joints.copy(), self._ik.tool().copy(), opening
        self.velocity = np.zeros(3)

    def save(self) -> tuple[FloatArray, FloatArray, float, FloatArray]:
        return self.command.copy(), self.velocity.copy(), self.opening, self.joints.copy()

    def load(self, saved: tuple[FloatArray, FloatArray, float, FloatArray]) -> None:
        self.command, self.velocity, self.opening, self.joints = saved[0].copy(), saved[1].copy(), saved[2], saved[3]
        self._ik.reset(self.joints)

    def row(self, goal: FloatArray, opening: float) -> None:
        """One row towards ``goal`` (3,) in the cell's frame."""
        offset = self.arm.to_base(goal) - self.command
        distance = float(np.linalg.norm(offset))
        speed = min(SPEED, np.sqrt(2 * 0.6 * ACCELERATION * distance), distance / (2 * self._dt))
        change = offset / max(distance, 1e-9) * speed - self.velocity
        size = float(np.linalg.norm(change))
        self.velocity = self.velocity + change * min(1.0, ACCELERATION * self._dt / max(size, 1e-9))
        self.command = self.command + self.velocity * self._dt
        self.opening += float(np.clip(opening - self.opening, -GRIPPER_ROW, GRIPPER_ROW))
        self.joints = self._ik.solve(self.command)

    def arrived(self, goal: FloatArray, opening: float) -> bool:
        near = np.linalg.norm(self.arm.to_base(goal) - self.command) < ARRIVED
        return bool(near) and abs(self.opening - opening) < 1e-6


class HandOver:
    """Plans chunks of both arms from ground truth, each joining the committed rows of the one before. One thread.

    Attributes:
        robot: the cell.
        held: commanded tool of each arm when the present step began, cell's frame [m].
        done: whether the last step is over.
    """

    def __init__(self, robot: CellRobot, replan_rows: int) -> None:
        """``replan_rows``: rows from one plan to the next."""
        self.robot, self._replan = robot, replan_rows
        self._hands = [_Hand(arm) for arm in robot.cell.arms]
        self.home = [hand.arm.to_cell(hand.command) for hand in self._hands]
        self.held = [home.copy() for home in self.home]
        self._step = self._waited = 0
        self._saved: list[_State] = []

    @property
    def done(self) -> bool:
        """Whether the last step is over, in what was planned."""
        return self._step >= len(STEPS)

    def plan(
        self, prefixes: Sequence[FloatArray], openings: Sequence[FloatArray]
    ) -> tuple[list[FloatArray], list[FloatArray]]:
        """Rows (H, n) [rad] and openings (H,) [m] of each arm from now on.

        The first rows repeat ``prefixes`` (d, n) and ``openings`` (d,), the committed ones; d is the same for all.
        """
        d, horizon = len(prefixes[0]), self.robot.cell.arms[0].spec.horizon
        self._resume(d)
        rows, gaps = [list(p) for p in prefixes], [list(o) for o in openings]
        kept = self._saved[self._replan : self._replan + d] if d else []
        self._saved = list(kept)
        for _ in range(d, horizon):
            self._row()
            for hand, own, gap in zip(self._hands, rows, gaps, strict=True):
                own.append(hand.joints.copy())
                gap.append(hand.opening)
            self._saved.append(self._save())
        return [np.array(own) for own in rows], [np.array(gap) for gap in gaps]

    def _resume(self, d: int) -> None:
        """Go on after the ``d`` committed rows, or from where the arms are."""
        last = self._replan + d - 1
        if d and last < len(self._saved):
            state = self._saved[last]
            self._step, self._waited, self.held = state.step, state.waited, [place.copy() for place in state.held]
            for hand, saved in zip(self._hands, state.hands, strict=True):
                hand.load(saved)
            return
        if self._saved:  # the arms have stopped
            for hand, measured in zip(self._hands, self.robot.states(), strict=True):
                hand.place(measured.positions, hand.opening)
            self.held = [hand.arm.to_cell(hand.command) for hand in self._hands]

    def _row(self) -> None:
        step = STEPS[min(self._step, len(STEPS) - 1)]
        goals = (step.left(self), step.right(self))
        openings = (step.left_opening, step.right_opening)
        for hand, goal, opening in zip(self._hands, goals, openings, strict=True):
            hand.row(goal, opening)
        there = [hand.arrived(g, o) for hand, g, o in zip(self._hands, goals, openings, strict=True)]
        self._waited = self._waited + 1 if all(there) else 0
        if self._waited > step.rows and not self.done:
            self._step, self._waited = self._step + 1, 0
            self.held = [hand.arm.to_cell(hand.command) for hand in self._hands]

    def _save(self) -> _State:
        hands = [hand.save() for hand in self._hands]
        return _State(hands, self._step, self._waited, [place.copy() for place in self.held])


def _grip(side: FloatArray, height: float | None = None) -> Place:
    """Where the bar is held: at ``height`` [m], or at the bar's own."""

    def place(plan: HandOver) -> FloatArray:
        x, y, z = plan.robot.bar + side
        return np.array([x, y, z - BELOW if height is None else height])

    return place


def _home(index: int) -> Place:
    return lambda plan: plan.home[index]


def _held(index: int, up: float = 0.0) -> Place:
    return lambda plan: plan.held[index] + (0.0, 0.0, up)


def _meet(side: FloatArray, up: float = 0.0) -> Place:
    return lambda plan: MEET + side + (0.0, 0.0, up)


def _laid(height: float) -> Place:
    """Where the right tool is when the bar, as it is held, is over the goal."""

    def place(plan: HandOver) -> FloatArray:
        offset = plan.robot.tool(1) - plan.robot.bar
        return np.array([*(plan.robot.goal + offset[:2]), height])

    return place


STEPS = (
    Step(_grip(LEFT, HOVER), _home(1)),
    Step(_grip(LEFT), _home(1)),
    Step(_held(0), _home(1), CLOSED, rows=GRASP_ROWS),
    Step(_held(0, LIFT), _home(1), CLOSED),
    Step(_meet(LEFT), _meet(RIGHT, HOVER), CLOSED),
    Step(_held(0), _grip(RIGHT), CLOSED),
    Step(_held(0), _held(1), CLOSED, CLOSED, rows=GRASP_ROWS),
    Step(_held(0), _held(1), OPEN, CLOSED, rows=RELEASE_ROWS),
    Step(_held(0, HOVER), _held(1), OPEN, CLOSED),
    Step(_home(0), _laid(LIFT), OPEN, CLOSED),
    Step(_home(0), _laid(0.021), OPEN, CLOSED),
    Step(_home(0), _held(1), OPEN, OPEN, rows=RELEASE_ROWS),
    Step(_home(0), _held(1, LIFT), OPEN, OPEN),
)
