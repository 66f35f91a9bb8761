"""A robot, a gate and chunks that pass it, for tests to break in one place."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from vla_mbpo.core.chunk import ActionChunk, ActionType, JointRows
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.state import RobotState
from vla_mbpo.gate.gate import Gate

ROBOT = Path(__file__).parents[2] / "config" / "robots" / "sim_panda"
STAMP = 1_000_000_000_000
NOW = STAMP + 120_000_000  # rows 0 and 1 are past


@cache
def spec() -> RobotSpec:
    return RobotSpec.load(ROBOT)


@cache
def gate() -> Gate:
    return Gate(spec())


def still_rows(horizon: int = 16) -> np.ndarray:
    return np.tile(spec().home, (horizon, 1))


def chunk(rows: np.ndarray | None = None, **changes) -> ActionChunk:
    rows = still_rows() if rows is None else rows
    fields = {
        "chunk_set_id": 1,
        "candidate": 0,
        "observation_stamp": STAMP,
        "expiry": STAMP + 800_000_000,
        "action_type": ActionType.JOINT_POSITION,
        "joint_names": spec().joints,
        "reference": spec().home.copy(),
        "row_period": spec().row_period,
        "positions": rows,
        "gripper": np.full(len(rows), 0.04),
        "committed_rows": 0,
    }
    return ActionChunk(**(fields | changes))


def state(**changes) -> RobotState:
    n = len(spec().joints)
    return replace(RobotState(NOW, spec().home.copy(), np.zeros(n), 0.04), **changes)


def vet(of: ActionChunk, measured: RobotState | None = None, commanded=None, now: int = NOW, by: Gate | None = None):
    return (by or gate()).vet(of, state() if measured is None else measured, commanded, now)


def checks(verdict) -> set[str]:
    """Names of the checks that refused; empty if none did."""
    return set() if isinstance(verdict, JointRows) else {reason.check for reason in verdict}


def resting_at(pose: np.ndarray):
    """Verdict on a chunk that stays at ``pose`` with the arm already there."""
    there = pose.copy()
    rows = np.tile(there, (16, 1))
    return vet(chunk(rows, reference=there.copy()), state(positions=there), there)
