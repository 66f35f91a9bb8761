"""Scripted experts: closed-loop on the simulator's ground truth, so that they recover from perturbations.

What an expert does next depends on where things are now, hardly on what it did before: a policy that sees only
the present can imitate it.
"""

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.gate.ik import ToolIK
from vla_mbpo.sim.layout import CUBE_HALF
from vla_mbpo.sim.robot import SimRobot

SPEED, ACCELERATION = 0.34, 1.1  # tool, m/s and m/s^2
HOVER, GRASP, CARRY = 0.13, 0.017, 0.16  # tool heights, m
ALIGNED = 0.007  # m
OPEN, CLOSED = 0.08, 0.006  # gripper openings, m
GRIPPER_ROW = 0.008  # m per row
POSTURE_DECAY = 0.75  # share of a posture error that is left after a row
HANDLE, PULL = 0.090, 0.050  # grip in front of the closed drawer, height of the tool, m


class Expert:
    """Produces the next row of joint targets for the task of a SimRobot. One attempt, one thread."""

    def __init__(self, robot: SimRobot) -> None:
        self._robot, self._scene = robot, robot.scene
        self._ik = ToolIK(robot.spec, robot.state().positions)
        self._dt = robot.spec.row_period / 1e9
        self._command = self._ik.tool()
        self._velocity = np.zeros(3)
        self._residual = np.zeros(len(robot.spec.joints))
        self._seen, self._drift = self._command.copy(), np.zeros(3)
        self.resync()

    def resync(self) -> None:
        """Go on from where the arm is now, as fast as it is. What its posture lacks is made up for over some rows."""
        state = self._robot.state()
        self._command = self._robot.data.body(self._robot.spec.tool_link).xpos.copy()
        self._velocity = self._drift * min(1.0, SPEED / max(float(np.linalg.norm(self._drift)), 1e-9))
        self._opening = float(np.clip(state.gripper, *self._robot.spec.gripper_range))  # fingers overshoot their end
        self._ik.reset(state.positions)
        self._residual = state.positions - self._ik.solve(self._command, 8)

    def displaced(self, offset: NDArray[np.float64]) -> NDArray[np.float64]:
        """Joint positions (n,) [rad] that hold the tool ``offset`` [m] away from where the last row put it."""
        joints = self._ik.solve(self._command + offset) + self._residual
        self._ik.solve(self._command)
        return joints

    def row(self) -> tuple[NDArray[np.float64], float]:
        """Joint targets (n,) [rad] and gripper opening [m] for the row that is due one row period from now."""
        tool = self._robot.data.body(self._robot.spec.tool_link).xpos.copy()
        self._seen, self._drift = tool, (tool - self._seen) / self._dt
        if np.linalg.norm(tool - self._command) > 0.035:  # pushed off course: go on from where the arm is
            self.resync()
        goal, opening = getattr(self, f"_{self._scene.task.kind}")(tool)
        self._opening += float(np.clip(opening - self._opening, -GRIPPER_ROW, GRIPPER_ROW))
        self._approach(goal)
        self._residual *= POSTURE_DECAY
        return self._ik.solve(self._command) + self._residual, self._opening

    def _approach(self, goal: NDArray[np.float64]) -> None:
        """Move the command towards ``goal`` under a speed and an acceleration limit, slowing down in time."""
        offset = goal - self._command
        distance = float(np.linalg.norm(offset))
        speed = min(SPEED, np.sqrt(2 * 0.6 * ACCELERATION * distance), distance / (2 * self._dt))
        wanted = offset / max(distance, 1e-9) * speed
        change = wanted - self._velocity
        size = float(np.linalg.norm(change))
        self._velocity += change * min(1.0, ACCELERATION * self._dt / max(size, 1e-9))
        self._command = self._command + self._velocity * self._dt

    def _funnel(self, tool, spot, low: float, high: float, radius: float = 0.05):
        """Above ``spot`` at ``high`` while far, descending to ``low`` as the tool lines up."""
        off = float(np.hypot(*(tool[:2] - spot[:2])))
        height = low if off < ALIGNED else low + (high - low) * min(1.0, 0.25 + off / radius)
        if off > radius and tool[2] < high - 0.04:  # lift clear before travelling
            return np.array([tool[0], tool[1], high]), off
        return np.array([spot[0], spot[1], height]), off

    def _place(self, tool):
        task, referee = self._scene.task, self._robot.referee
        cube = referee.cube(task.cube)
        if task.kind == "stack":
            goal, rest = referee.cube(task.goal)[:2], 2 * CUBE_HALF
        else:
            goal, rest = np.array(getattr(self._scene.layout, task.goal)), 0.006
        gripper = self._robot.state().gripper
        if referee.in_place(0.012) and np.hypot(*(tool[:2] - goal)) < 0.05:  # let go, then go up
            up = tool[2] if gripper < 2 * CUBE_HALF + 0.018 else HOVER
            return np.array([goal[0], goal[1], up]), OPEN
        if referee.in_place(0.012):
            return np.array([tool[0], tool[1], HOVER]), OPEN
        if referee.held(task.cube):
            release = rest + GRASP + 0.004
            carry = self._cube_under(tool, cube, goal)
            target, _ = self._funnel(tool, carry, release, CARRY + (0.02 if task.kind == "stack" else 0.0), 0.06)
            return target, CLOSED
        target, off = self._funnel(tool, cube, float(cube[2]) - CUBE_HALF + GRASP, HOVER + float(cube[2]))
        at_grasp = off < 0.012 and tool[2] < cube[2] - CUBE_HALF + GRASP + 0.006
        closing = off < 0.02 and gripper < OPEN - 0.012 and tool[2] < cube[2] + 0.005
        if at_grasp or closing:
            return np.array([*self._command[:2], target[2]]), CLOSED
        return target, OPEN

    _stack = _place

    @staticmethod
    def _cube_under(tool, cube, goal):
        """Where the tool must be for the held cube to be over ``goal``."""
        return goal + (tool[:2] - cube[:2])

    def _push(self, tool):
        cube, mark = self._robot.referee.cube("blue"), np.array(self._scene.layout.mark)
        if self._robot.referee.success or np.hypot(*(cube[:2] - mark)) < 0.008:
            back = mark - np.array([CUBE_HALF + 0.06, 0.0])
            return np.array([*back, HOVER if abs(tool[0] - back[0]) < 0.02 else tool[2]]), CLOSED
        along = (mark - cube[:2]) / max(1e-6, np.hypot(*(mark - cube[:2])))
        side = float(along[0] * (tool[1] - cube[1]) - along[1] * (tool[0] - cube[0]))
        behind = float(along @ (cube[:2] - tool[:2]))
        low = 0.020
        settled = tool[2] < low + (0.015 if behind < CUBE_HALF + 0.022 else 0.004)
        if settled and behind > CUBE_HALF + 0.004 and abs(side) < 0.012:
            ahead = tool[:2] + along * 0.05 - np.array([-along[1], along[0]]) * side
            stop = mark - along * (CUBE_HALF + 0.011)
            ahead = stop if np.hypot(*(stop - tool[:2])) < 0.05 else ahead
            return np.array([*ahead, low]), CLOSED
        start = cube[:2] - along * (CUBE_HALF + 0.036)
        return self._funnel(tool, start, low, HOVER)[0], CLOSED

    def _press(self, tool):
        x, y = self._scene.layout.button
        if self._robot.referee.success:
            return np.array([x, y, HOVER]), CLOSED
        return self._funnel(tool, np.array([x, y]), 0.018, HOVER)[0], CLOSED

    def _open(self, tool):
        robot = self._robot
        slid = float(robot.data.joint("drawer").qpos[0])
        x, y = self._scene.layout.drawer
        handle = np.array([x - HANDLE - slid, y])
        gripper = robot.state().gripper
        # Told by what a camera sees, not by contacts: fingers that are closed, but not onto each other.
        gripped = 0.012 < gripper < 0.026 and np.hypot(*(tool[:2] - handle)) < 0.016
        if robot.referee.success:
            return np.array([*self._command[:2], HOVER + 0.03 if gripper > 0.05 else self._command[2]]), OPEN
        if gripped and tool[2] < PULL + 0.02:
            return np.array([x - HANDLE - 0.105, y, PULL]), CLOSED
        target, off = self._funnel(tool, handle, PULL, HOVER + 0.03)
        at_handle = off < 0.010 and tool[2] < PULL + 0.006
        closing = off < 0.016 and 0.012 < gripper < OPEN - 0.012 and tool[2] < PULL + 0.014
        if at_handle or closing:
            return np.array([*self._command[:2], PULL]), CLOSED
        return target, OPEN
