"""A robot, rows for it, and a controller that does exactly what it is told."""

from functools import cache
from pathlib import Path

import numpy as np

from vla_mbpo.arm.driver import ArmDriver
from vla_mbpo.core.chunk import JointRows
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.state import RobotState, Trajectory

ROBOT = Path(__file__).parents[2] / "config" / "robots" / "sim_panda"
TICK = 20_000_000
PERIOD = 50_000_000
START = 1_000_000_000_000


@cache
def spec() -> RobotSpec:
    return RobotSpec.load(ROBOT)


def rows(positions: np.ndarray, stamp: int = START, chunk: int = 1, committed: int = 0, **changes) -> JointRows:
    fields = {
        "chunk_set_id": chunk,
        "candidate": 0,
        "observation_stamp": stamp,
        "expiry": stamp + 1_000_000_000,
        "joint_names": spec().joints,
        "row_period": PERIOD,
        "positions": positions,
        "gripper": np.full(len(positions), 0.04),
        "committed_rows": committed,
    }
    return JointRows(**(fields | changes))


def towards(goal: np.ndarray, start: np.ndarray, count: int = 16) -> np.ndarray:
    """Rows from ``start`` to ``goal`` that begin and end gently."""
    t = np.arange(1, count + 1)[:, None] / count
    return start + (goal - start) * t**2 * (3 - 2 * t)


def measured(now: int, positions: np.ndarray | None = None, **changes) -> RobotState:
    fields = {"positions": spec().home.copy() if positions is None else positions, "velocities": np.zeros(7)}
    return RobotState(**({"stamp": now, "gripper": 0.04} | fields | changes))


class Loop:
    """Driver and a perfect arm on one clock. ``trajectories`` keeps what was published, by time."""

    def __init__(self, driver: ArmDriver | None = None) -> None:
        self.driver = driver or ArmDriver(spec())
        self.now = START
        self.q = spec().home.copy()
        self.positions: list[np.ndarray] = []
        self.trajectories: dict[int, Trajectory] = {}
        self.driver.measure(measured(self.now, self.q))

    def offer(self, of: JointRows):
        return self.driver.offer(of, self.now)

    def tick(self, count: int = 1, sense: bool = True) -> "Loop":
        for _ in range(count):
            if sense:
                self.driver.measure(measured(self.now, self.q.copy()))
            trajectory = self.driver.tick(self.now)
            if trajectory is not None:
                self.trajectories[self.now] = trajectory
            commanded = self.driver.commanded(self.now)
            self.q = self.q if commanded is None else commanded
            self.positions.append(self.q)
            self.now += TICK
        return self

    @property
    def still(self) -> bool:
        """The arm has not moved in the last two ticks."""
        return bool(np.allclose(self.positions[-1], self.positions[-2], atol=1e-9))
